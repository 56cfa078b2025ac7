"""A report for a terminal, or for a file of plain lines. Builders; nothing is printed."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.history.progress import duration
from provisioner.history.steps import Step
from provisioner.history.verdict import ServerVerdict
from provisioner.report.model import HostReport, Report
from provisioner.report.trend import mark_text, trend_line
from provisioner.report.words import day, moment


def head(report: Report) -> str:
    """Which run it is and how it ended."""
    took = f", took {duration(report.took.total_seconds())}" if report.took else ""
    return f"{report.run.fleet}: {report.ending}; run {report.run.id}, {moment(report.run.began_at)}{took}"


def foot(report: Report) -> str:
    """How each server went over time, then what failed and why; "" where there is nothing to tell."""
    lines = course(report)
    for host in report.hosts:
        lines += _over_time(host)
        lines += failures(host.verdicts)
        if host.state == "failed" and all(verdict.passed for verdict in host.verdicts):
            for event in host.failures:
                lines.append(f"{host.name}: {event.phase}: {event.task} failed")
                lines += [f"    {line}" for line in event.detail.splitlines()]
    return "\n".join(lines)


def course(report: Report) -> list[str]:
    """The steps of a rollout of more than one wave, or of one that did not come to its end; a line each."""
    kinds = [step.kind for step in report.steps]
    if kinds.count("wave") < 2 and kinds[-1:] in ([], ["finished"]):
        return []
    return [f"{step.time.astimezone():%H:%M:%S}  {_step(step)}" for step in report.steps]


def _step(step: Step) -> str:
    about = ", ".join(step.hosts[:8]) + (f" and {len(step.hosts) - 8} more" if len(step.hosts) > 8 else "")
    return ": ".join(part for part in (step.kind.replace("_", " "), step.wave, about, step.detail) if part)


def failures(verdicts: Sequence[ServerVerdict]) -> list[str]:
    """For every server that did not pass: why, and the last lines of its log."""
    told: list[str] = []
    for verdict in verdicts:
        told += [f"{verdict.host}, {verdict.server}: {reason}" for reason in verdict.reasons]
        told += [f"    {line}" for line in verdict.log.splitlines()]
    return told


def _over_time(host: HostReport) -> list[str]:
    lines: list[str] = []
    for trend in host.trends:
        if len(trend.measurements) > 1:
            lines.append(f"{trend.host}, {trend.server}: {trend_line(trend)}")
            lines += [f"    {day(trend.measurements[mark.index].at)}: {mark_text(mark)}" for mark in trend.marks]
    return lines
