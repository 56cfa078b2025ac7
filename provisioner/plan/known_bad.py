"""Combinations of kernel, driver, toolkit, hardware and vLLM that are known to go wrong: `data/known_bad.yaml`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen
from provisioner.fleet.packaged import read_packaged
from provisioner.fleet.suggest import did_you_mean

_DATA = Path(__file__).parent / "data" / "known_bad.yaml"
OTHER_IDS = ("cuda-driver", "fit")
"""checks of their own that allow_known_bad overrides too"""
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


class Entry(Frozen):
    """One combination; see the head of the data file."""

    id: str
    severity: Literal["error", "warning"]
    effect: str
    hint: str
    source: str
    hardware: tuple[str, ...] = ()
    kernel: str | None = None
    driver: str | None = None
    toolkit: str | None = None
    vllm: str | None = None
    gpu_memory_utilization: float | None = None
    """applies above this share"""


class Situation(Frozen):
    """What a server would run on."""

    hardware: str
    kernel: str
    driver: str | None
    toolkit: str | None
    vllm: str | None
    gpu_memory_utilization: float


@cache
def entries() -> tuple[Entry, ...]:
    """All there are."""
    return tuple(Entry(**entry) for entry in read_packaged(_DATA))


def matching(situation: Situation, allowed: Iterable[str] = (), among: Iterable[Entry] | None = None) -> list[Entry]:
    """The entries that apply, without those that are allowed. UsageError for an id that does not exist."""
    known = entries() if among is None else tuple(among)
    ids = [*(entry.id for entry in known), *OTHER_IDS]
    for name in allowed:
        if name not in ids:
            raise UsageError(f'allow_known_bad: there is no entry "{name}"', hint=did_you_mean(name, ids))
    return [entry for entry in known if entry.id not in set(allowed) and _applies(entry, situation)]


def told(entry: Entry) -> str:
    """An entry as a sentence."""
    return f"known bad: {entry.effect}; {entry.hint} ({entry.source}); to accept it: allow_known_bad: [{entry.id}]"


def in_range(version: str | None, wanted: str) -> bool:
    """Whether a version lies in a range such as `>=570, <580.65`; False for one that is not known.

    >>> in_range("1.19.1", ">=1.19.1, <1.20")
    True
    """
    if version is None:
        return False
    for part in wanted.split(","):
        sign = re.fullmatch(r"\s*(>=|<=|==|>|<)\s*([\d.]+)\s*", part)
        if sign is None:
            raise ValueError(f"not a range of versions: {wanted!r}")
        one, other = _numbers(version), _numbers(sign[2])
        length = max(len(one), len(other))
        if not _COMPARE[sign[1]](_padded(one, length), _padded(other, length)):
            return False
    return True


def _applies(entry: Entry, situation: Situation) -> bool:
    if entry.hardware and situation.hardware not in entry.hardware:
        return False
    if entry.kernel and not fnmatchcase(situation.kernel, entry.kernel):
        return False
    versions = (
        (entry.driver, situation.driver),
        (entry.toolkit, situation.toolkit),
        (entry.vllm, situation.vllm),
    )
    if entry.gpu_memory_utilization is not None and situation.gpu_memory_utilization <= entry.gpu_memory_utilization:
        return False
    return all(in_range(there, wanted) for wanted, there in versions if wanted)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))
