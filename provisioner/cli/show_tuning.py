"""A tuning at the terminal: table, plot, and which point is best for what."""

from __future__ import annotations

from provisioner.cli.columns import columns
from provisioner.errors import Exit
from provisioner.history.progress import duration
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


def started(host: str, server: str, points: int, budget_s: int) -> str:
    """One line about a tuning that begins."""
    return f"a tuning of {server} on {host} begins: {points} points at most within {duration(budget_s)}"


def ended(code: Exit, host: str, server: str, tuning: Tuning | None, chosen: str | None, again: str) -> str:
    """One line about a tuning that is over, and one about a server that was not put back. `tuning`: as far as it is
    known; `again`: the command that brings the host to its plan."""
    words = {Exit.OK: "has ended well", Exit.INTERRUPTED: "was interrupted"}
    word = words.get(code, f"has failed (exit code {int(code)})")
    measured = f": {len(tuning.measured)} of {len(tuning.points)} points measured" if tuning else ""
    choice = f", chosen: {chosen or 'no point'}" if measured and code in (Exit.OK, Exit.GATE_FAILED) else ""
    owed = [f"{server} was not put back; `{again}` brings the host to its plan again"] if tuning and tuning.owed else []
    return "\n".join([f"a tuning of {server} on {host} {word}{measured}{choice}", *owed])
