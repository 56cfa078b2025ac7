"""What `data/gates.yaml` says of vLLM versions, typed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from provisioner.fleet.base import Frozen
from provisioner.fleet.packaged import read_packaged

_DATA = Path(__file__).parent / "data"


class Instead(Frozen):
    """What to use in place of a flag that went."""

    use: str
    source: str


class ValueGate(Frozen):
    """A value that came later than its flag."""

    flag: str
    value: str
    before: str
    """newest version known to lack it"""
    since: str
    """oldest version known to have it"""
    source: str


class Needs(Frozen):
    """A value that a flag takes only together with another flag."""

    flag: str
    value: str
    with_: str = Field(alias="with")
    hint: str
    instead: str
    """a value that needs no other flag, in versions that have it"""
    source: str


class Default(Frozen):
    """What a flag that is left out means, in versions before `until`."""

    flag: str
    value: str
    until: str | None = None
    source: str


class EnvGate(Frozen):
    """A variable that vLLM reads before version `until` only."""

    name: str
    until: str
    reason: str
    source: str


class CudaImage(Frozen):
    """The CUDA line of vllm/vllm-openai images whose tag ends in -SUFFIX, of releases before `until`."""

    suffix: str
    cuda: str
    until: str | None = None


class Cuda(Frozen):
    images: tuple[CudaImage, ...]
    drivers: dict[str, int]
    """CUDA's major version → the oldest major version of the driver that runs it"""


class Gates(Frozen):
    """The whole file."""

    instead: dict[str, Instead]
    values: tuple[ValueGate, ...]
    needs: tuple[Needs, ...]
    defaults: tuple[Default, ...]
    environment: tuple[EnvGate, ...]
    cuda: Cuda


@cache
def gates() -> Gates:
    """The gates of this program."""
    return Gates.model_validate(read_packaged(_DATA / "gates.yaml"))
