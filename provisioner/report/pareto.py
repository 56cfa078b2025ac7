"""The balance between throughput and latency: who cannot be beaten in both. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from provisioner.fleet.base import Frozen
from provisioner.history.rows import Measurement
from provisioner.history.verdict import BenchmarkResult, ServerVerdict


class Point(Frozen):
    """One benchmark: tokens/s that one user sees, and tokens/s that one GPU gives."""

    label: str
    model: str
    hardware: str
    interactivity: float
    """1000 / median TPOT in ms: tok/s of one user"""
    per_gpu: float
    """output tok/s a GPU"""
    concurrency: int | None = None
    now: bool = True
    """of the run that is shown, not of one before it"""


def interactivity(result: BenchmarkResult) -> float | None:
    """Tokens/s of one user; None where nothing was generated."""
    median = result.tpot.median_ms
    return 1000 / median if math.isfinite(median) and median > 0 else None


def front(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points that no other beats in one and equals in the other, slowest user first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (-one.interactivity, -one.per_gpu)):
        if not best or point.per_gpu > best[-1].per_gpu:
            best.append(point)
    return tuple(reversed(best))


def of_verdict(verdict: ServerVerdict, label: str) -> Point | None:
    """A verdict as a point; None without a benchmark that generated anything."""
    if verdict.benchmark is None or verdict.output_per_gpu is None:
        return None
    return _point(verdict.benchmark, label, verdict.model, verdict.hardware, verdict.output_per_gpu, now=True)


def of_measurement(one: Measurement, label: str) -> Point | None:
    """A measurement of an earlier run as a point."""
    per_gpu = one.result.output_throughput / max(one.gpu_count, 1)
    return _point(one.result, label, one.model, one.hardware, per_gpu, now=False)


def _point(
    result: BenchmarkResult, label: str, model: str, hardware: str, per_gpu: float, *, now: bool
) -> Point | None:
    speed = interactivity(result)
    if speed is None or not math.isfinite(per_gpu):
        return None
    raw = result.raw.get("max_concurrency")
    concurrency = raw if isinstance(raw, int) else None
    return Point(
        label=label,
        model=model,
        hardware=hardware,
        interactivity=speed,
        per_gpu=per_gpu,
        concurrency=concurrency,
        now=now,
    )
