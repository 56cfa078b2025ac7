"""The plots of one server over time, as Vega-Lite specifications. Pure."""

from __future__ import annotations

import math

from provisioner.history.rows import Measurement
from provisioner.report.charts import finite
from provisioner.report.model import Trend
from provisioner.report.sparkline import bounds
from provisioner.report.vega import ALARM, COLORS, QUIET, Spec, mark, quantity, spec
from provisioner.report.words import day, moment, number

HEIGHT = 92


def throughput(trend: Trend, peers: float | None = None) -> Spec:
    """Output tok/s, benchmark by benchmark; numbered lines where something changed. `peers`: a median to compare."""
    values = [
        {"i": index, "y": one.result.output_throughput, "passed": one.passed, "tip": _tip(one)}
        for index, one in enumerate(trend.measurements)
        if math.isfinite(one.result.output_throughput)
    ]
    x = _steps(trend)
    y = _height("y", *bounds([*trend.throughputs, *([] if peers is None else [peers])]))
    layers = _changes(trend)
    if peers is not None:
        others = mark("rule", look={"color": QUIET, "strokeDash": [1, 3]}, y=y)
        layers.append({**others, "data": {"values": [{"y": peers}]}})
    return spec(
        values,
        [
            *layers,
            mark("line", look={"color": COLORS[0], "strokeWidth": 1.5}, x=x, y=y),
            mark(
                "point",
                look={"size": 30, "filled": True, "opacity": 1, "strokeWidth": 1},
                x=x,
                y=y,
                color={"condition": {"test": "datum.passed", "value": COLORS[0]}, "value": ALARM},
                shape={"condition": {"test": "datum.passed", "value": "circle"}, "value": "triangle-down"},
                tip=True,
            ),
        ],
        height=HEIGHT,
    )


def latency(trend: Trend) -> Spec:
    """TPOT, benchmark by benchmark: the median as a line, from it to P99 as a band."""
    values = [
        {"i": index, "median": one.median_ms, "p99": one.p99_ms}
        for index, one in enumerate(one.result.tpot for one in trend.measurements)
        if finite(one)
    ]
    top = max((one["p99"] for one in values), default=1.0) * 1.1
    x, y = _steps(trend), _height("median", 0, top or 1)
    return spec(
        values,
        [
            *_changes(trend),
            mark("area", look={"color": COLORS[1], "opacity": 0.22}, x=x, y=y, y2={"field": "p99"}),
            mark("line", look={"color": COLORS[1], "strokeWidth": 1.5}, x=x, y=y),
        ],
        height=HEIGHT,
    )


def period(trend: Trend) -> str:
    """What the horizontal axis of a trend covers, in words."""
    first, last = trend.measurements[0].at, trend.measurements[-1].at
    return f"{day(first)} – {day(last)} {last.tzname() or ''}".rstrip()


def _changes(trend: Trend) -> list[Spec]:
    numbered = [
        {"i": index - 0.5, "n": str(position)}
        for position, index in enumerate(dict.fromkeys(one.index for one in trend.marks), start=1)
    ]
    if not numbered:
        return []
    x, data = _steps(trend), {"values": numbered}
    return [
        {**mark("rule", look={"color": QUIET, "strokeDash": [2, 2]}, x=x), "data": data},
        {**mark("text", look={"y": 0, "dx": 6, "dy": 3, "color": QUIET}, x=x, text={"field": "n"}), "data": data},
    ]


def _steps(trend: Trend) -> Spec:
    # Evenly spaced: runs come in bursts, and a regression is a step between two of them whenever they were.
    return quantity("i", (-0.3, max(len(trend.measurements) - 1, 1) + 0.3))


def _height(field: str, low: float, high: float) -> Spec:
    axis = {"tickCount": 3, "title": None, "labelPadding": 6, "format": "~s" if high >= 1000 else "~r"}
    channel = quantity(field, (low, high), axis)
    channel["scale"]["nice"] = True
    return channel


def _tip(one: Measurement) -> str:
    failed = "" if one.passed else "; did not pass"
    return f"{moment(one.at)}: {number(one.result.output_throughput)} output tok/s{failed}"
