"""A report as Markdown (GitHub's), for an issue, a pull request or a wiki. Values are data: they are escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from provisioner.history.progress import duration
from provisioner.history.tuning import Tuning
from provisioner.history.verdict import ServerVerdict
from provisioner.report import tuning
from provisioner.report.model import HostReport, Report
from provisioner.report.page import command
from provisioner.report.table import CAPTION, HISTORY, NUMBERS, row
from provisioner.report.terminal import course
from provisioner.report.trend import mark_text, trend_line
from provisioner.report.words import count, day, moment

COLUMNS = (
    "host",
    "server",
    "verdict",
    "output tok/s",
    HISTORY,
    "per GPU",
    "TTFT ms",
    "TPOT ms",
    "hardware",
    "engine",
    "image",
)
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~&]|^(?:[-+#=]|\d+(?=[.)]\s))")
"""what is markup anywhere, and what is at the beginning of a line"""
_FENCE = re.compile(r"`{3,}")


def markdown(report: Report) -> str:
    """The whole text."""
    took = f", took {duration(report.took.total_seconds())}" if report.took else ""
    parts = [
        f"# {escape(report.run.fleet)}: {report.ending}",
        f"Run `{report.run.id}`, {moment(report.run.began_at)}{took}, by {escape(report.run.user)}",
        *(_tuning(report.tuning) if report.tuning else _servers(report)),
        *_course(report),
        *_failures(report),
        "## Hosts",
    ]
    for host in report.hosts:
        parts += _host(host)
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """A value as text of one line: nothing in it is markup."""
    return _SPECIAL.sub(_escaped, " ".join(text.split()))


def fenced(text: str) -> str:
    """A value as a block of its own; its fence is longer than any in it."""
    longest = max((len(found) for found in _FENCE.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def _escaped(found: re.Match[str]) -> str:
    # A number that begins a list is one because of the dot behind it.
    return f"&#{ord(found[0][0])};{found[0][1:]}" if found[0][0].isdigit() else f"\\{found[0]}"


def _servers(report: Report) -> list[str]:
    if not report.verdicts:
        return ["No server was validated in this run."]
    history = {(trend.host, trend.server): trend.throughputs for host in report.hosts for trend in host.trends}
    rows = [[escape(row(verdict, history)[name]) for name in COLUMNS] for verdict in report.verdicts]
    right = [index for index, name in enumerate(COLUMNS) if name in NUMBERS]
    return ["## Servers", _table(COLUMNS, rows, right), CAPTION]


def _course(report: Report) -> list[str]:
    steps = course(report)
    return ["## Rollout", "\n".join(f"- {escape(step)}" for step in steps)] if steps else []


def _tuning(found: Tuning) -> list[str]:
    rows = [[escape(cell) for cell in cells] for cells in tuning.rows(found)]
    best = "\n".join(f"- best for {one.goal}: {escape(one.label or 'no point')}" for one in tuning.choices(found))
    return [f"## Tuning of {escape(found.server)}", _table(tuning.COLUMNS, rows, tuning.NUMBERS), best]


def _failures(report: Report) -> list[str]:
    failed = [host for host in report.hosts if host.state == "failed"]
    parts = ["## What failed"] if failed else []
    for host in failed:
        parts.append(f"### {escape(host.name)}")
        bad = [verdict for verdict in host.verdicts if not verdict.passed]
        for verdict in bad:
            parts += _verdict(verdict)
        if not bad:
            parts += [_said(f"{event.phase}: {event.task}", event.detail) for event in host.failures]
    return parts


def _verdict(verdict: ServerVerdict) -> list[str]:
    parts = ["\n".join(f"- {escape(verdict.server)}: {escape(reason)}" for reason in verdict.reasons)]
    for check in verdict.checks:
        if not check.passed:
            texts = (("request", check.request), ("answer", check.answer), ("log", check.log))
            parts += [_said(f"{check.name}: {name}", text) for name, text in texts if text]
    return [*parts, _said("last lines of its log", verdict.log)] if verdict.log else parts


def _said(title: str, text: str) -> str:
    return f"{escape(title)}\n\n{fenced(text)}" if text else escape(title)


def _host(host: HostReport) -> list[str]:
    about = f", {escape(host.plan.hardware_name)}, {host.plan.platform}" if host.plan else ""
    parts = [f"### {escape(host.name)}: {host.state}{about}"]
    course = "; ".join(f"{phase.phase} {phase.server} {duration(phase.seconds)}" for phase in host.phases)
    parts += [escape(course)] if course else []
    for trend in host.trends:
        marks = [f"{mark_text(mark)} ({day(trend.measurements[mark.index].at)})" for mark in trend.marks]
        parts.append("\n".join(f"- {escape(line)}" for line in (f"{trend.server}: {trend_line(trend)}", *marks)))
    if host.changes:
        changes = [[escape(one.role), escape(one.subject), escape(one.reason)] for one in host.changes]
        parts.append(_table((count(len(changes), "change"), "what", "why"), changes, ()))
    for server in host.plan.servers if host.plan else ():
        plan = fenced(command(["vllm", "serve", *server.argv]))
        parts.append(f"<details><summary>Plan of {escape(server.name)}</summary>\n\n{plan}\n\n</details>")
    return parts


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int]) -> str:
    rule = ["--:" if index in right else "---" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
