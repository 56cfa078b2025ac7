"""The GPU models a lab host can pretend to have, as data, and how a request for hosts is written.

Names, memory and compute capability are what `nvidia-smi` prints on such machines, from published outputs
(GB10: unified memory, so its memory fields read [N/A]).  Everything here is simulated in the lab.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from provisioner.errors import UsageError
from provisioner.lab.context import Arch, Suite
from provisioner.lab.debs import SUITE

NOT_AVAILABLE = "[N/A]"
SUITES: tuple[Suite, ...] = get_args(Suite)
_FIELDS = (
    "index",
    "name",
    "uuid",
    "pci.bus_id",
    "memory.total",
    "memory.used",
    "memory.free",
    "driver_version",
    "compute_cap",
    "utilization.gpu",
    "temperature.gpu",
    "power.draw",
    "clocks.sm",
    "clocks.mem",
    "cuda_version",  # not a query field of the real one: for the head of its table
)


@dataclass(frozen=True)
class GpuModel:
    """One hardware profile of the lab. `memory_mib` is None where the GPU shares the host's memory."""

    id: str
    short: str  # in host names and in --hosts
    arch: Arch
    name: str
    memory_mib: int | None
    compute_cap: str
    driver: str = "580.159.04"
    cuda: str = "13.0"
    count: int = 1


@dataclass(frozen=True)
class LabHost:
    """One host that the lab should have."""

    name: str  # "lab-h200-1", or "lab-h200-bookworm-1" of another suite than the usual
    model: GpuModel
    gpus: int
    suite: Suite = SUITE

    @property
    def arch(self) -> Arch:
        return self.model.arch


MODELS: tuple[GpuModel, ...] = (
    GpuModel("a100", "a100", "amd64", "NVIDIA A100-SXM4-80GB", 81920, "8.0"),
    GpuModel("l40s", "l40s", "amd64", "NVIDIA L40S", 46068, "8.9"),
    GpuModel("h100", "h100", "amd64", "NVIDIA H100 80GB HBM3", 81559, "9.0"),
    GpuModel("h200", "h200", "amd64", "NVIDIA H200", 143771, "9.0"),
    GpuModel("b200", "b200", "amd64", "NVIDIA B200", 183359, "10.0"),
    GpuModel("gb200", "gb200", "arm64", "NVIDIA GB200", 189471, "10.0"),
    GpuModel("dgx_spark_gb10", "gb10", "arm64", "NVIDIA GB10", None, "12.1"),
)


def model(word: str) -> GpuModel:
    """The model of an id or short name. Raises UsageError naming those that exist."""
    for known in MODELS:
        if word.lower() in {known.id, known.short}:
            return known
    raise UsageError(f"unknown lab hardware {word!r}", hint=f"one of: {', '.join(m.short for m in MODELS)}")


def parse_hosts(words: Sequence[str]) -> tuple[LabHost, ...]:
    """`["h200:2", "gb10"]` -> lab-h200-1, lab-h200-2, lab-gb10-1; `h100:1x8` gives each host 8 GPUs.

    `h200:1@bookworm` is a host of another Debian suite, lab-h200-bookworm-1.
    Raises UsageError for an unknown model or suite, a count that is no number from 1 to 50, or a model given twice.
    """
    hosts: list[LabHost] = []
    for word in words:
        written = re.fullmatch(r"([^:@]+)(?::(\d+)(?:x(\d+))?)?(?:@(\w+))?", word)
        if not written:
            raise UsageError(
                f"--hosts {word}: no MODEL, MODEL:HOSTS or MODEL:HOSTSxGPUS, with or without @SUITE",
                hint="for example h200:2",
            )
        name, count, gpus, release = written.groups()
        kind, suite = model(name), _suite(word, release)
        if any(host.model is kind and host.suite == suite for host in hosts):
            raise UsageError(f"--hosts {word}: {kind.short} is given twice", hint=f"write {kind.short}:N once")
        each = _number(word, gpus, kind.count, 16)
        stem = f"lab-{kind.short}" if suite == SUITE else f"lab-{kind.short}-{suite}"
        hosts += [LabHost(f"{stem}-{i}", kind, each, suite) for i in range(1, _number(word, count, 1, 50) + 1)]
    if not hosts:
        raise UsageError("no lab hosts asked for", hint="for example --hosts h200:2 --hosts gb10:1")
    return tuple(hosts)


def gpu_table(host: LabHost) -> str:
    """/etc/lab-gpus.csv of a host: a head of field names, then one line a GPU; the same text every time."""
    kind = host.model
    used = 0
    memory = (
        [NOT_AVAILABLE] * 3
        if kind.memory_mib is None
        else [str(kind.memory_mib), str(used), str(kind.memory_mib - used)]
    )
    lines = [", ".join(_FIELDS)]
    for index in range(host.gpus):
        identity = f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{host.name}/{index}')}"
        bus = f"00000000:{index + 1:02X}:00.0"
        rest = [kind.driver, kind.compute_cap, "0", "34", "71.20", "345", "1593", kind.cuda]
        lines.append(", ".join([str(index), kind.name, identity, bus, *memory, *rest]))
    return "\n".join(lines) + "\n"


def _suite(word: str, release: str | None) -> Suite:
    for suite in SUITES:
        if suite == (release or SUITE):
            return suite
    raise UsageError(f"--hosts {word}: no suite {release!r}", hint=f"one of: {', '.join(SUITES)}")


def _number(word: str, text: str | None, default: int, most: int) -> int:
    number = int(text) if text else default
    if not 1 <= number <= most:
        raise UsageError(f"--hosts {word}: {number} is no number from 1 to {most}", hint="for example h200:2")
    return number
