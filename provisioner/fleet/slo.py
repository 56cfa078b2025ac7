"""Service level objectives: what a benchmark's figures must be, as `p99_ttft_ms <= 2000`."""

from __future__ import annotations

import math
import re
from typing import Literal

from provisioner.fleet.base import Frozen
from provisioner.fleet.keypath import quoted
from provisioner.fleet.metrics import meant, metric_of, names

_FORM = re.compile(r"\s*([A-Za-z][\w.]*)\s*([<>=!≤≥]+)\s*(\S+)\s*(\S.*?)?\s*")
_EXAMPLE = "for example output_throughput >= 1000, p99_ttft_ms <= 2000"
_MILLISECONDS = {"s": 1000.0, "us": 0.001, "µs": 0.001, "min": 60000.0}
"""units of time that people write for ms"""
GOODPUT = "request_goodput"


class Objective(Frozen):
    """One figure with its bound, in the figure's own unit."""

    metric: str
    """as `metrics` names it"""
    sense: Literal[">=", "<="]
    bound: float

    @property
    def unit(self) -> str:
        """What the bound is measured in."""
        metric = metric_of(self.metric)
        return metric.unit if metric else ""

    def __str__(self) -> str:
        return f"{self.metric} {self.sense} {number(self.bound)} {self.unit}"


class WrongObjectiveError(ValueError):
    """A text that is no objective. `hint` says what to write."""

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__(message)
        self.hint = hint


def parse_objective(text: str) -> Objective:
    """`METRIC >= NUMBER` or `METRIC <= NUMBER`, the figure's unit after it or not. Raises WrongObjectiveError."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise WrongObjectiveError(f"expected METRIC >= NUMBER or METRIC <= NUMBER, got {quoted(text, 60)}", _EXAMPLE)
    name, sense, figure, unit = form.groups()
    metric = metric_of(name)
    if metric is None:
        bounded = (one for one in names() if (known := metric_of(one)) and known.better)
        raise WrongObjectiveError(f"unknown metric {quoted(name)}", meant(name, bounded))
    if metric.better is None:
        raise WrongObjectiveError(
            f"{name} tells about the measurement, not how good the server is", "provision bench --explain lists all"
        )
    wanted: Literal[">=", "<="] = ">=" if metric.better == "higher" else "<="
    if sense != wanted:
        raise WrongObjectiveError(
            f"{name}: {sense} does not fit, {metric.better} is better", f"write {name} {wanted} {figure}"
        )
    bound, attached = _number(name, figure)
    unit = " ".join(filter(None, (attached, unit)))
    if unit and unit != metric.unit:
        scale = _MILLISECONDS.get(unit) if metric.unit == "ms" else None
        hint = f"write {name} {wanted} {number(bound * scale)}" if scale else f"leave the unit out: it is {metric.unit}"
        raise WrongObjectiveError(f"{name} is in {metric.unit}, not {quoted(unit, 20)}", hint)
    return Objective(metric=metric.name, sense=wanted, bound=bound)


def number(value: float) -> str:
    """A bound as people write it, whole: `parse_objective` reads the same value from it."""
    return str(int(value)) if value.is_integer() and value < 1e15 else repr(value)


def _number(name: str, figure: str) -> tuple[float, str]:
    """The number, and the letters that stand right after it: 2s, 1000tok/s."""
    form = re.fullmatch(r"(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([^\d,.'_].*)?", figure)
    if form is None:
        raise WrongObjectiveError(f"{name}: expected a number, got {quoted(figure, 20)}", _EXAMPLE)
    value = float(form[1])
    if not 0 < value < math.inf:
        raise WrongObjectiveError(f"{name}: expected a number above 0, got {quoted(figure, 20)}", _EXAMPLE)
    return value, form[2] or ""
