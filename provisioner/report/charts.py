"""The plots of a fleet, as Vega-Lite specifications. Pure: `draw` makes pictures of them.

Colour is never the only sign: rows have names, hardware has shapes, P99 has its own mark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from provisioner.history.verdict import Latency
from provisioner.report.pareto import Point, front
from provisioner.report.vega import COLORS, INK, QUIET, ROW, SHAPES, Spec, by_hardware, mark, quantity, rows, spec
from provisioner.report.words import number

MOST_NAMES = 8
"""more names than that in a Pareto plot cover each other; the tooltips have them all"""

Colors = Mapping[str, str]
"""hardware → colour"""


def colors_of(hardware: Iterable[str]) -> Colors:
    """A colour for each hardware id, the same in all plots of a page."""
    names = sorted(set(hardware))
    return dict(zip(names, COLORS * len(names), strict=False))


def bars(figures: Sequence[tuple[str, str, float]], unit: str, colors: Colors) -> Spec:
    """Of (label, hardware, figure) one a row, the largest first, its value at the end of the bar."""
    shown = sorted((one for one in figures if math.isfinite(one[2])), key=lambda one: -one[2])
    values = [
        {
            "row": label,
            "hardware": hardware,
            "value": value,
            "text": number(value),
            "tip": f"{label}: {number(value)} {unit}",
        }
        for label, hardware, value in shown
    ]
    y = rows([label for label, _, _ in shown])
    # Room for the figure at the end of the longest bar.
    x = quantity("value", (0, max((value for _, _, value in shown), default=0.0) * 1.22 or 1))
    return spec(
        values,
        [
            mark("bar", look={"height": 9}, x=x, y=y, color=by_hardware(colors), tip=True),
            mark("text", look={"align": "left", "dx": 5, "color": INK}, x=x, y=y, text={"field": "text"}),
        ],
        height=ROW * max(len(shown), 1),
    )


def latencies(figures: Sequence[tuple[str, str, Latency]], colors: Colors) -> Spec:
    """Of (label, hardware, latency) the median (a dot) to P99 (the end of a line) in ms, the slowest P99 first."""
    shown = sorted((one for one in figures if finite(one[2])), key=lambda one: -one[2].p99_ms)
    values = [
        {
            "row": label,
            "hardware": hardware,
            "median": latency.median_ms,
            "p99": latency.p99_ms,
            "text": f"{number(latency.median_ms)} – {number(latency.p99_ms)}",
            "tip": f"{label}: median {number(latency.median_ms)} ms, P99 {number(latency.p99_ms)} ms",
        }
        for label, hardware, latency in shown
    ]
    domain = (0, max((latency.p99_ms for _, _, latency in shown), default=0.0) * 1.45 or 1)
    y, color = rows([label for label, _, _ in shown]), by_hardware(colors)
    median, p99 = quantity("median", domain), quantity("p99", domain)
    return spec(
        values,
        [
            mark("rule", look={"strokeWidth": 2}, x=median, x2={"field": "p99"}, y=y, color=color),
            mark("tick", look={"thickness": 2, "height": 9, "opacity": 1}, x=p99, y=y, color=color),
            mark("circle", look={"size": 46, "opacity": 1}, x=median, y=y, color=color, tip=True),
            mark("text", look={"align": "left", "dx": 6, "color": INK}, x=p99, y=y, text={"field": "text"}),
        ],
        height=ROW * max(len(shown), 1),
    )


def pareto(points: Sequence[Point], colors: Colors) -> Spec:
    """Per-GPU throughput against interactivity. This run's points are filled and named, earlier ones hollow."""
    values = [
        {
            "x": point.interactivity,
            "y": point.per_gpu,
            "hardware": point.hardware,
            "now": point.now,
            "label": point.label,
            "tip": _tip(point),
        }
        for point in points
    ]
    x = quantity("x", _from_zero(point.interactivity for point in points), _axis("tok/s of one user"))
    y = quantity("y", _from_zero(point.per_gpu for point in points), _axis("output tok/s per GPU"))
    color = by_hardware(colors)
    shape = by_hardware(dict(zip(colors, SHAPES * len(colors), strict=False)))
    now, earlier = [{"filter": "datum.now"}], [{"filter": "!datum.now"}]
    dot = {"strokeWidth": 1.5, "opacity": 1}
    best = mark("line", look={"color": QUIET, "strokeDash": [3, 3], "strokeWidth": 1.2}, x=x, y=y, order={"field": "x"})
    hollow = mark("point", look={**dot, "size": 34, "filled": False}, x=x, y=y, color=color, shape=shape, tip=True)
    filled = mark("point", look={**dot, "size": 58, "filled": True}, x=x, y=y, color=color, shape=shape, tip=True)
    names = mark("text", look={"dy": -11, "color": INK}, x=x, y=y, text={"field": "label"})
    layers = [
        {**best, "data": {"values": [{"x": one.interactivity, "y": one.per_gpu} for one in front(points)]}},
        {**hollow, "transform": earlier},
        {**filled, "transform": now},
    ]
    if sum(point.now for point in points) <= MOST_NAMES:
        layers.append({**names, "transform": now})
    return spec(values, layers, height=230)


def finite(latency: Latency) -> bool:
    """Whether it can be plotted."""
    return math.isfinite(latency.median_ms) and math.isfinite(latency.p99_ms)


def _from_zero(values: Iterable[float]) -> tuple[float, float]:
    return 0, max(values, default=0.0) * 1.12 or 1


def _axis(title: str) -> Spec:
    return {"title": title, "tickCount": 5, "format": "~s", "labelPadding": 5}


def _tip(point: Point) -> str:
    load = f", concurrency {point.concurrency}" if point.concurrency is not None else ""
    when = "" if point.now else " (earlier)"
    figures = f"{number(point.per_gpu)} tok/s per GPU, {number(point.interactivity)} tok/s of one user"
    return f"{point.label}{when}: {figures}{load}"
