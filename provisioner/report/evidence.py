"""The circumstances of a benchmark in words. Pure."""

from __future__ import annotations

from provisioner.history.verdict import Evidence, GpuEvidence, GpuLoad, GpuReading, Spread
from provisioner.report.words import number

Row = tuple[str, str]
"""what, and how it was"""


def circumstances(evidence: Evidence | None) -> tuple[Row, ...]:
    """GPUs under load, what else ran, and what could not be seen; empty where nothing is known."""
    if evidence is None:
        return ()
    rows = [(f"GPU {gpu.index}", text) for gpu in evidence.gpus if (text := _gpu(gpu))]
    if evidence.load_before is not None or evidence.load_after is not None:
        cpus = f" on {evidence.cpus} CPUs" if evidence.cpus else ""
        rows.append(
            ("host's load", f"{number(evidence.load_before)} before, {number(evidence.load_after)} after{cpus}")
        )
    others = ", ".join(f"{one.name} (pid {one.pid})" for one in evidence.other_gpu_processes)
    rows += [("others on GPUs", others)] if others else []
    return (*rows, *(("not seen", note) for note in evidence.notes))


def _gpu(gpu: GpuEvidence) -> str:
    if gpu.under_load is not None:
        return _load(gpu.under_load)
    return f"{_reading(gpu.after)}, after it" if gpu.after and _reading(gpu.after) else ""


def _load(load: GpuLoad) -> str:
    figures = (
        _spread(load.utilization_percent, "% busy"),
        _spread(load.sm_clock_mhz, "MHz"),
        _spread(load.power_w, "W"),
        _spread(load.temperature_c, "°C"),
        _spread(load.memory_used_mib, "MiB used"),
    )
    return ", ".join(filter(None, figures))


def _spread(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return ""
    lowest, highest = f"{spread.lowest:.0f}", f"{spread.highest:.0f}"
    return f"{lowest if lowest == highest else f'{lowest} to {highest}'} {unit}"


def _reading(reading: GpuReading) -> str:
    figures = (
        (reading.sm_clock_mhz, "MHz"),
        (reading.power_w, "W"),
        (reading.temperature_c, "°C"),
        (reading.memory_used_mib, "MiB used"),
    )
    return ", ".join(f"{value:.0f} {unit}" for value, unit in figures if value is not None)
