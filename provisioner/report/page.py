"""A report as one HTML file: no script, no network, nothing beside it. Values are data: the template escapes them."""

from __future__ import annotations

import re
import shlex
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from provisioner.history.progress import duration
from provisioner.history.tuning import TunedPoint, Tuning
from provisioner.history.verdict import BenchmarkResult, Latency, ServerVerdict
from provisioner.report import charts, trend_charts, tuning, words
from provisioner.report.draw import draw
from provisioner.report.evidence import circumstances
from provisioner.report.glossary import GLOSSARY
from provisioner.report.model import HostReport, Report, Trend
from provisioner.report.pareto import Point, front, of_measurement, of_verdict
from provisioner.report.sparkline import bounds
from provisioner.report.terminal import course
from provisioner.report.trend import mark_text
from provisioner.report.vega import Spec

Draw = Callable[[Spec, str], str]
TEMPLATES = Path(__file__).parent / "templates"
_INDENT = re.compile(r"\n\s+<")
SPARK = (72, 16)
"""width and height of a sparkline, in CSS pixels"""


@dataclass(frozen=True)
class Figure:
    """A plot with its words. `svg` is ready for the page."""

    title: str
    note: str
    svg: Markup
    items: tuple[str, ...] = ()
    """what the numbers in the plot stand for"""


@dataclass(frozen=True)
class TuningSection:
    """The points of a tuning with their plot."""

    about: Tuning
    figure: Figure | None
    """None where nothing was measured"""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...]
    """which columns are figures"""
    choices: tuple[tuning.Choice, ...]
    failed: tuple[TunedPoint, ...]


def page(report: Report, drawn: Draw = draw) -> str:
    """The HTML of a report. UsageError without the plotting library."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "number": words.number,
        "pair": words.pair,
        "percent": words.percent,
        "moment": words.moment,
        "duration": duration,
        "command": command,
        "latencies": latencies,
        "circumstances": circumstances,
        "sparkpoints": sparkpoints,
        "mark_text": mark_text,
    }
    environment.globals |= {
        "count": words.count,
        "engine_label": words.engine_label,
        "hardware_label": words.hardware_label,
        "NONE": words.NONE,
        "SPARK": SPARK,
    }
    verdicts = report.verdicts
    text = environment.get_template("page.html.j2").render(
        report=report,
        command_line=_typed(report.run.command),
        verdicts=verdicts,
        failed=[host for host in report.hosts if host.state == "failed"],
        course=course(report),
        passed=sum(verdict.passed for verdict in verdicts),
        simulated=any(verdict.simulated for verdict in verdicts),
        total=sum(verdict.benchmark.output_throughput for verdict in verdicts if verdict.benchmark),
        legend=_legend(verdicts),
        trends={(trend.host, trend.server): trend for trend in (*_trends(report), *report.others)},
        plots=overview(report, drawn),
        figures={host.name: host_figures(host, report, drawn) for host in report.hosts},
        tuning=_tuning(report.tuning, drawn) if report.tuning else None,
        glossary=GLOSSARY,
    )
    # A "<" of the template begins a tag; one in a value is escaped. What is set apart by blanks stays so.
    return _INDENT.sub("\n<", text)


def overview(report: Report, drawn: Draw) -> list[Figure]:
    """The plots of the whole fleet: throughput and latencies host by host, and the balance of both."""
    measured = [(label, verdict) for label, verdict in _labelled(report) if verdict.benchmark]
    if not measured:
        return []
    colors = charts.colors_of(verdict.hardware for _, verdict in measured)
    per_gpu = [(label, verdict.hardware, verdict.output_per_gpu or 0.0) for label, verdict in measured]
    plot = charts.bars(per_gpu, "output tok/s per GPU", colors)
    figures = [_figure(drawn, "Throughput", "Output tok/s per GPU.", plot)]
    ttft = [(label, verdict.hardware, verdict.benchmark.ttft) for label, verdict in measured if verdict.benchmark]
    tpot = [(label, verdict.hardware, verdict.benchmark.tpot) for label, verdict in measured if verdict.benchmark]
    for title, rows in (("Time to first token", ttft), ("Time per output token", tpot)):
        note = "Median (dot) to P99 (end of the line), ms."
        figures.append(_figure(drawn, title, note, charts.latencies(rows, colors)))
    return figures + [_balance(drawn, model, points, colors) for model, points in _points(report).items()]


def _tuning(found: Tuning, drawn: Draw) -> TuningSection:
    rows = tuning.rows(found)
    numbers = {cells[1]: str(position) for position, cells in enumerate(rows, 1)}
    # Settings in words are too long to stand beside points.
    points = [one.point.model_copy(update={"label": numbers[one.point.label]}) for one in tuning.tried(found)]
    note = (
        f"{found.model} on {found.hardware_name}. Up and to the right is better; dashed: nothing beats these in both."
    )
    plot = charts.pareto(points, charts.colors_of([found.hardware]))
    return TuningSection(
        about=found,
        figure=_figure(drawn, "Throughput against interactivity", f"{note} Numbers: as below.", plot)
        if points
        else None,
        columns=tuning.COLUMNS,
        rows=tuple((f"{numbers[cells[1]]} {cells[0]}".strip(), *cells[1:]) for cells in rows),
        numbers=tuning.NUMBERS,
        choices=tuning.choices(found),
        failed=tuple(point for point in found.points if point.state == "failed"),
    )


def host_figures(host: HostReport, report: Report, drawn: Draw) -> dict[str, list[Figure]]:
    """Per server of a host, how it went over time; nothing where there is a single benchmark."""
    return {
        trend.server: _trend_figures(trend, _peers(trend, report), drawn)
        for trend in host.trends
        if len(trend.measurements) > 1
    }


def command(argv: Sequence[str]) -> str:
    """A command over several lines, a flag each, that a shell takes as it is."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("-") and lines[-1]:
            lines.append([])
        lines[-1].append(word)
    return " \\\n  ".join(shlex.join(line) for line in lines)


def latencies(result: BenchmarkResult) -> list[tuple[str, Latency]]:
    """The latencies that a benchmark has, by their short names."""
    known = (("TTFT", result.ttft), ("TPOT", result.tpot), ("ITL", result.itl), ("E2EL", result.e2el))
    return [(name, latency) for name, latency in known if latency is not None]


def sparkpoints(trend: Trend) -> str:
    """The points of a `<polyline>` in a box of SPARK."""
    width, height = SPARK
    low, high = bounds(trend.throughputs)
    if len(trend.throughputs) < 2 or high <= low:
        return ""
    step = (width - 4) / (len(trend.throughputs) - 1)
    return " ".join(
        f"{2 + step * index:.1f},{height - 2 - (value - low) / (high - low) * (height - 4):.1f}"
        for index, value in enumerate(trend.throughputs)
        if low <= value <= high
    )


def _typed(argv: Sequence[str]) -> str:
    """A command as it was typed, whatever folder the program is in."""
    return shlex.join([Path(argv[0]).name, *argv[1:]]) if argv else ""


def _trend_figures(trend: Trend, peers: float | None, drawn: Draw) -> list[Figure]:
    marks: dict[int, list[str]] = {}
    for mark in trend.marks:
        marks.setdefault(mark.index, []).append(f"{mark_text(mark)} ({words.day(trend.measurements[mark.index].at)})")
    items = tuple("; ".join(texts) for texts in marks.values())
    when = f"{words.count(len(trend.measurements), 'benchmark')}, {trend_charts.period(trend)}"
    dotted = f" Dotted: the median of its peers, {words.number(peers)}." if peers is not None else ""
    return [
        _figure(drawn, "Output tok/s", f"{when}.{dotted}", trend_charts.throughput(trend, peers), items),
        _figure(drawn, "TPOT, ms", "Line: median. Band: up to P99.", trend_charts.latency(trend)),
    ]


def _peers(trend: Trend, report: Report) -> float | None:
    """The median of what other hosts with the same hardware, load and kind of engine reach."""
    newest = trend.measurements[-1]
    kind = (newest.workload, newest.hardware, newest.engine)
    others = [
        other.throughputs[-1]
        for other in (*_trends(report), *report.others)
        if other.host != trend.host
        and newest.workload
        and (other.measurements[-1].workload, other.measurements[-1].hardware, other.measurements[-1].engine) == kind
    ]
    return statistics.median(others) if others else None


def _trends(report: Report) -> Iterable[Trend]:
    return (trend for host in report.hosts for trend in host.trends)


def _balance(drawn: Draw, model: str, points: Sequence[Point], colors: charts.Colors) -> Figure:
    earlier = " Hollow: earlier benchmarks." if any(not point.now for point in points) else ""
    names = ", ".join(dict.fromkeys(point.label for point in front(points)))
    note = f"{model}. Up and to the right is better; dashed: nothing beats these in both ({names}).{earlier}"
    return _figure(drawn, "Throughput against interactivity", note, charts.pareto(points, colors))


def _points(report: Report) -> dict[str, list[Point]]:
    """By model; of earlier benchmarks the newest of each server under each load and image."""
    newest = {(one.host, one.server, one.workload or one.id, one.image): one for one in report.before}
    found = [of_verdict(verdict, label) for label, verdict in _labelled(report)]
    found += [of_measurement(one, one.host) for one in newest.values()]
    models: dict[str, list[Point]] = {}
    shown = {verdict.model for verdict in report.verdicts}
    for point in found:
        if point is not None and point.model in shown:
            models.setdefault(point.model, []).append(point)
    return models


def _labelled(report: Report) -> Iterable[tuple[str, ServerVerdict]]:
    for host in report.hosts:
        for verdict in host.verdicts:
            yield (host.name if len(host.verdicts) == 1 else f"{host.name}/{verdict.server}"), verdict


def _legend(verdicts: Sequence[ServerVerdict]) -> list[tuple[str, str]]:
    """Hardware and its colour, as in the plots."""
    labels = {verdict.hardware: words.hardware_label(verdict) for verdict in verdicts if verdict.benchmark}
    return [(labels[name], color) for name, color in charts.colors_of(labels).items()]


def _figure(drawn: Draw, title: str, note: str, spec: Spec, items: tuple[str, ...] = ()) -> Figure:
    # The drawing library escapes what it is given; this is the one place where its output is taken as HTML.
    return Figure(title=title, note=note, svg=Markup(drawn(spec, f"Plot: {title}")), items=items)  # noqa: S704
