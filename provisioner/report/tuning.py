"""A tuning for people: its points as a table and a plot, the front, and which point is best for what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from provisioner.fleet.base import Frozen
from provisioner.history.tuning import TunedPoint, Tuning
from provisioner.report.pareto import Point, front, interactivity
from provisioner.report.words import NONE, number

Goal = Literal["throughput", "latency"]
PLOT = (60, 12)
"""columns and rows of the plot in a terminal"""
AXES = "output tok/s per GPU (up) against tok/s of one user (to the right); ● nothing beats these in both, ○ the others"
COLUMNS = ("", "point", "per GPU", "tok/s of a user", "TPOT ms", "TTFT ms", "output tok/s", "GPUs", "")
NUMBERS = (2, 3, 4, 5, 6, 7)


class Tried(NamedTuple):
    """A measured point with its place in the balance."""

    tuned: TunedPoint
    point: Point

    @property
    def tpot_ms(self) -> float:
        """Median time per output token."""
        return 1000 / self.point.interactivity


class Choice(Frozen):
    """Which point is best for a purpose."""

    goal: str
    """throughput, latency, or TPOT at most so many ms"""
    label: str | None
    """of the point; None when no point does"""


def tried(tuning: Tuning) -> tuple[Tried, ...]:
    """Every point that generated anything."""
    pairs = ((tuned, _point(tuning, tuned)) for tuned in tuning.measured)
    return tuple(Tried(tuned, point) for tuned, point in pairs if point is not None)


def best(points: Sequence[Tried], goal: Goal) -> Tried | None:
    """throughput: most output tok/s a GPU; latency: most tok/s for one user. Of equals the better in the other."""
    order = {
        "throughput": lambda one: (one.point.per_gpu, one.point.interactivity),
        "latency": lambda one: (one.point.interactivity, one.point.per_gpu),
    }
    return max(points, key=order[goal], default=None)


def within(points: Sequence[Tried], max_tpot_ms: float) -> Tried | None:
    """The most throughput a GPU whose median TPOT is at most `max_tpot_ms`; None when no point keeps to it."""
    return best([one for one in points if one.tpot_ms <= max_tpot_ms], "throughput")


def choices(tuning: Tuning, max_tpot_ms: float | None = None) -> tuple[Choice, ...]:
    """What each purpose chooses."""
    points = tried(tuning)
    picked: list[tuple[str, Tried | None]] = [("throughput", best(points, "throughput"))]
    picked.append(("latency", best(points, "latency")))
    if max_tpot_ms is not None:
        picked.append((f"TPOT at most {max_tpot_ms:g} ms", within(points, max_tpot_ms)))
    return tuple(Choice(goal=goal, label=one.tuned.candidate.label if one else None) for goal, one in picked)


def on_front(points: Sequence[Tried]) -> frozenset[str]:
    """Labels of the points that no other beats in one and equals in the other."""
    return frozenset(point.label for point in front(one.point for one in points))


def rows(tuning: Tuning) -> list[tuple[str, ...]]:
    """Cells of every point under `COLUMNS`, measured ones by throughput, then what failed and what was left."""
    points = sorted(tried(tuning), key=lambda one: -one.point.per_gpu)
    best_ones = on_front(points)
    cells = [_cells(one, one.tuned.candidate.label in best_ones) for one in points]
    shown = {one.tuned.candidate for one in points}
    rest = [one for one in tuning.points if one.candidate not in shown]
    blank = (NONE,) * len(NUMBERS)
    return cells + [("", one.candidate.label, *blank, f"{one.state}: {one.reason}".rstrip(": ")) for one in rest]


def plot(points: Sequence[Point], size: tuple[int, int] = PLOT) -> list[str]:
    """Lines of a plot from 0 to the largest of both figures; nothing without a point."""
    if not points:
        return []
    width, height = size
    most_x = max(point.interactivity for point in points)
    most_y = max(point.per_gpu for point in points)
    grid = [[" "] * (width + 1) for _ in range(height + 1)]
    best_ones = set(front(points))
    for point in sorted(points, key=lambda one: one in best_ones):  # those of the front last: they stay on top
        row, column = height - round(point.per_gpu / most_y * height), round(point.interactivity / most_x * width)
        grid[row][column] = "●" if point in best_ones else "○"
    left = max(len(number(most_y)), 1)
    labels = {0: number(most_y), height: "0"}
    lines = [f"{labels.get(index, ''):>{left}} │{''.join(row).rstrip()}" for index, row in enumerate(grid)]
    lines.append(f"{'':>{left}} └{'─' * (width + 1)}")
    return [*lines, f"{'':>{left}}  0{number(most_x):>{width}}"]


def as_data(tuning: Tuning, max_tpot_ms: float | None = None) -> dict[str, Any]:
    """Everything, for programs: each point with its figures, whether it is on the front, and what each goal picks."""
    points = {one.tuned.candidate: one for one in tried(tuning)}
    best_ones = on_front(tuple(points.values()))
    return {
        **tuning.model_dump(mode="json", exclude={"points"}),
        "points": [_data(one, points.get(one.candidate), best_ones) for one in tuning.points],
        "choices": {choice.goal: choice.label for choice in choices(tuning, max_tpot_ms)},
    }


def _data(one: TunedPoint, found: Tried | None, best_ones: frozenset[str]) -> dict[str, Any]:
    label = one.candidate.label
    return {
        **one.model_dump(mode="json", exclude={"candidate"}),
        "label": label,
        "settings": dict(one.candidate.settings),
        "concurrency": found.point.concurrency if found else one.candidate.concurrency,
        "per_gpu": found.point.per_gpu if found else None,
        "interactivity": found.point.interactivity if found else None,
        "on_front": found is not None and label in best_ones,
    }


def _point(tuning: Tuning, one: TunedPoint) -> Point | None:
    speed = interactivity(one.result) if one.result else None
    if one.result is None or speed is None:
        return None
    raw = one.result.raw.get("max_concurrency")
    return Point(
        label=one.candidate.label,
        model=tuning.model,
        hardware=tuning.hardware,
        interactivity=speed,
        per_gpu=one.result.output_throughput / max(one.gpus, 1),
        concurrency=raw if isinstance(raw, int) else None,
    )


def _cells(one: Tried, is_best: bool) -> tuple[str, ...]:
    result = one.tuned.result
    figures = (one.point.per_gpu, one.point.interactivity, one.tpot_ms)
    more = (result.ttft.median_ms, result.output_throughput) if result else ()
    kept = f"kept from {one.tuned.kept_from}" if one.tuned.kept_from else ""
    numbers = [number(value) for value in (*figures, *more)]
    return ("●" if is_best else "○", one.tuned.candidate.label, *numbers, str(one.tuned.gpus), kept)
