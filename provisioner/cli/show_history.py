"""The history as text. Builders; nothing is printed here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from provisioner.cli.columns import columns
from provisioner.fleet.base import Frozen
from provisioner.history.progress import duration
from provisioner.history.rows import AuditRow, Measurement, RunRow
from provisioner.history.verdict import ServerVerdict
from provisioner.plan.lock import short
from provisioner.report.sparkline import sparkline
from provisioner.report.trend import trends
from provisioner.report.words import percent
from provisioner.validate.baseline import number
from provisioner.validate.compare import Difference, ServerComparison

NONE = "–"
COMMAND_LENGTH = 50


class RunSeen(Frozen):
    """A run with what the history alone does not know."""

    run: RunRow
    state: str
    """passed, a gate failed, … , interrupted, running"""


class Step(Frozen):
    """One run of one host's course; without a verdict where it never came to one."""

    run: RunSeen
    server: str = ""
    verdict: ServerVerdict | None = None
    measured: Measurement | None = None
    outcome: str = ""
    """where the host ended, in a run without a verdict of it"""


def runs(found: Sequence[RunSeen], *, more: bool) -> str:
    """A line a run, newest first."""
    if not found:
        return "no run yet"
    head = ("run", "began", "took", "fleet", "hosts", "result", "by", "command")
    rows = [
        (
            one.run.id,
            moment(one.run.began_at),
            took(one.run),
            one.run.fleet,
            str(len(one.run.hosts)),
            one.state,
            one.run.user,
            command(one.run.command),
        )
        for one in found
    ]
    return "\n".join([*columns([head, *rows], right={2, 4}), *_more(more)])


def course(host: str, steps: Sequence[Step], *, more: bool) -> str:
    """A host's course, newest first, one table a server. `*` marks what is not as in the run before."""
    if not steps:
        return f"{host}: no run yet"
    lines: list[str] = []
    for server in dict.fromkeys(step.server for step in steps):
        mine = [step for step in steps if step.server == server]
        lines += ["", f"{host}, {server}{_line(mine)}" if server else f"{host}, without a verdict"]
        lines += _with_verdicts(mine) if server else _without_verdicts(mine)
    return "\n".join([*lines[1:], *_more(more)])


def audit(rows: Sequence[AuditRow], *, more: bool) -> str:
    """A line an entry, newest first."""
    if not rows:
        return "nothing was done yet"
    head = ("when", "who", "what", "run", "hosts", "images", "verdict", "command")
    cells = [
        (
            moment(row.at),
            row.user,
            row.action,
            row.run_id,
            ",".join(row.hosts) or NONE,
            short(",".join(row.images)) or NONE,
            row.verdict or NONE,
            command(row.command, length=None),
        )
        for row in rows
    ]
    return "\n".join([*columns([head, *cells]), *_more(more)])


def comparison(first: RunSeen, second: RunSeen, servers: Sequence[ServerComparison]) -> str:
    """Two runs, server by server, figure by figure."""
    lines = [
        f"{name}: {one.run.id}, {moment(one.run.began_at)}, {one.state}" for name, one in (("A", first), ("B", second))
    ]
    for server in servers:
        lines += ["", f"{server.host}, {server.server}", *_server(server)]
    return "\n".join(lines if servers else [*lines, "", "neither run has a benchmark"])


def moment(time: datetime) -> str:
    """`2026-11-24 12:23`, as the clock here showed it."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def took(run: RunRow) -> str:
    """How long it took; a dash without an end."""
    length: timedelta | None = run.ended_at - run.began_at if run.ended_at else None
    return NONE if length is None else duration(length.total_seconds())


def command(words: Sequence[str], length: int | None = COMMAND_LENGTH) -> str:
    """`apply fleet.yaml --yes`: without the program's path."""
    text = shlex.join([Path(words[0]).name, *words[1:]] if words else []).removeprefix("provision ")
    return text if length is None or len(text) <= length else text[: length - 1] + "…"


def _with_verdicts(steps: Sequence[Step]) -> list[str]:
    head = ("run", "began", "verdict", "output tok/s", "change", "baseline", "vLLM", "image", "driver")
    rows = []
    for position, step in enumerate(steps):
        earlier = next((one.measured for one in steps[position + 1 :] if one.measured), None)
        rows.append((step.run.run.id, moment(step.run.run.began_at), *_step(step, earlier)))
    return columns([head, *rows], right={3, 4}, indent="  ")


def _line(steps: Sequence[Step]) -> str:
    """Output tok/s as a line of blocks, the newest on the right; "" with nothing to compare."""
    line = "".join(
        sparkline(trend.throughputs) for trend in trends(one.measured for one in steps[::-1] if one.measured)
    )
    return f": {line}" if line else ""


def _step(step: Step, earlier: Measurement | None) -> tuple[str, ...]:
    verdict, measured = step.verdict, step.measured
    word = NONE if verdict is None else "passed" if verdict.passed else "FAILED"
    if measured is None:
        return (word, NONE, NONE, NONE, (verdict and verdict.version) or NONE, NONE, NONE)
    now, then = measured.result.output_throughput, earlier.result.output_throughput if earlier else None
    change = percent(now / then - 1) if then and earlier and earlier.workload == measured.workload else NONE
    accepted = "begins" if measured.replaces else "accepted" if measured.accepted else NONE
    marked = (
        _marked(getattr(measured, name), getattr(earlier, name) if earlier else None)
        for name in ("version", "image", "driver")
    )
    return (word, number(now), change, accepted, *marked)


def _marked(now: str | None, before: str | None) -> str:
    return (now or NONE) + (" *" if before and now != before else "")


def _without_verdicts(steps: Sequence[Step]) -> list[str]:
    rows = [(step.run.run.id, moment(step.run.run.began_at), step.run.state, step.outcome) for step in steps]
    return columns([("run", "began", "result", "where it stood"), *rows], indent="  ")


def _server(server: ServerComparison) -> list[str]:
    first, second = server.first, server.second
    if first is None or second is None:
        return [f"  only run {'A' if first else 'B'} has a benchmark of it"]
    lines = [
        f"  {what}: {before or NONE} → {after or NONE}"
        for what, before, after in (
            ("vLLM", first.version, second.version),
            ("image", first.image, second.image),
            ("driver", first.driver, second.driver),
            ("variant", first.variant, second.variant),
        )
        if before != after
    ]
    if not server.comparable:
        return [*lines, "  measured under different loads or on other hardware: figures cannot be compared"]
    head = ("figure", "A", "B", "B against A", "noise", "")
    rows = [
        (
            one.figure,
            number(one.first),
            number(one.second),
            percent(one.change),
            f"{one.noise * 100:.1f} %",
            _judged(one),
        )
        for one in server.differences
    ]
    return [*lines, *columns([head, *rows], right={1, 2, 3, 4}, indent="  ")]


def _judged(one: Difference) -> str:
    return ("better" if one.better else "worse") if one.beyond_noise else "within noise"


def _more(more: bool) -> list[str]:
    return ["older ones are not shown: --limit N"] if more else []
