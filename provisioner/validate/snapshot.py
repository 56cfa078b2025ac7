"""One look at what a benchmark is measured under: GPUs, processes on them, load. Commands as text, and pure parsers."""

from __future__ import annotations

import re
import shlex

from provisioner.fleet.base import Frozen
from provisioner.history.verdict import GpuProcess, GpuReading
from provisioner.validate.remote import as_root

_FIELDS = (
    *("index", "name", "driver_version"),
    *("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "memory.used", "utilization.gpu"),
)
_READING = tuple(GpuReading.model_fields)
"""in the order of `_FIELDS` after the first three"""
_NVIDIA_SMI_S = 20
"""seconds after which a driver that hangs is left alone"""
_GPUS = (
    f"timeout {_NVIDIA_SMI_S} nvidia-smi --query-gpu={','.join(_FIELDS)} --format=csv,noheader,nounits 2>&1"
    ' || echo "nvidia-smi ended with $?"'
)
_APPS = (
    f"timeout {_NVIDIA_SMI_S} nvidia-smi --query-compute-apps=pid,process_name,used_memory"
    " --format=csv,noheader,nounits"
)
_CGROUPS = "cut -d, -f1 | while read -r pid; do echo \"$pid $(tr '\\n' ' ' < /proc/$pid/cgroup)\"; done"
_PARTS = {
    "gpus": _GPUS,
    "processes": f"{_APPS} 2>/dev/null",
    "groups": f"{_APPS} 2>/dev/null | {_CGROUPS} 2>/dev/null",
    "load": "cat /proc/loadavg; nproc",
}
TIMEOUT_S = 4.0 * _NVIDIA_SMI_S
_MARK = "=== "


class GpuSeen(Frozen):
    """One GPU at one moment."""

    index: int
    name: str
    driver: str | None
    reading: GpuReading


class Snapshot(Frozen):
    """One moment of a host."""

    gpus: tuple[GpuSeen, ...]
    processes: tuple[GpuProcess, ...]
    """on the GPUs, outside the container that was named"""
    load: float | None
    cpus: int | None
    notes: tuple[str, ...]
    """what could not be told, and why"""


def gpus_command() -> str:
    """What the GPUs are doing at this moment, nothing else: asked again and again while a benchmark runs."""
    return as_root(["sh", "-c", _GPUS])


def snapshot_command() -> str:
    """Everything, in one round trip."""
    script = "\n".join(f"echo {shlex.quote(_MARK + name)}\n{part}" for name, part in _PARTS.items())
    return as_root(["sh", "-c", script])


def parse_snapshot(text: str, container_id: str | None) -> Snapshot:
    """What `snapshot_command` printed. `container_id`: whose processes are the server's own."""
    parts = dict.fromkeys(_PARTS, "")
    for part in text.split(f"\n{_MARK}") if text.startswith(_MARK) else ():
        name, _, body = part.removeprefix(_MARK).partition("\n")
        parts[name] = body
    gpus, problems = parse_gpus(parts["gpus"])
    groups = dict(line.split(" ", 1) for line in parts["groups"].splitlines() if " " in line)
    own = {pid for pid, group in groups.items() if container_id and container_id in group}
    load = re.match(r"(\d+\.\d+) ", parts["load"])
    cpus = parts["load"].splitlines()[1:2]
    return Snapshot(
        gpus=gpus,
        processes=tuple(process for process in _processes(parts["processes"]) if str(process.pid) not in own),
        load=float(load[1]) if load else None,
        cpus=int(cpus[0]) if cpus and cpus[0].isdecimal() else None,
        notes=problems,
    )


def parse_gpus(text: str) -> tuple[tuple[GpuSeen, ...], tuple[str, ...]]:
    """What `gpus_command` printed, and the words of nvidia-smi that are no GPU."""
    seen, words = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(_FIELDS) and cells[0].isdecimal():
            reading = GpuReading(**dict(zip(_READING, map(_number, cells[3:]), strict=True)))
            driver = None if cells[2].startswith("[") else cells[2]
            seen.append(GpuSeen(index=int(cells[0]), name=cells[1], driver=driver, reading=reading))
        elif line.strip():
            words.append(line.strip())
    return tuple(seen), (" ".join(words),) if words else ()


def _processes(text: str) -> list[GpuProcess]:
    """A process's name may have commas in it; its number is first and its memory last."""
    found = []
    for line in text.splitlines():
        first, _, rest = line.partition(",")
        name, _, memory = rest.rpartition(",")
        if first.strip().isdecimal():
            found.append(GpuProcess(pid=int(first), name=name.strip(), memory_mib=_number(memory.strip())))
    return found


def _number(text: str) -> float | None:
    """None for [N/A], [Not Supported] and what else nvidia-smi says in brackets."""
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None
