"""A tuning at the terminal: table, plot, and which point is best for what."""

from __future__ import annotations

from provisioner.cli.columns import columns
from provisioner.history.tuning import Tuning
from provisioner.report import tuning as report


def summary(tuning: Tuning, max_tpot_ms: float | None = None) -> str:
    """All of it but what was chosen in the end."""
    points = [one.point for one in report.tried(tuning)]
    lines = columns([report.COLUMNS, *report.rows(tuning)], right=report.NUMBERS)
    if points:
        lines += ["", *report.plot(points), f"  {report.AXES}", ""]
    lines += [f"best for {one.goal}: {one.label or 'no point'}" for one in report.choices(tuning, max_tpot_ms)]
    return "\n".join(lines)
