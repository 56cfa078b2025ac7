from __future__ import annotations

import json
import math
from typing import Any

from reports import latency, measurement, result

from provisioner.report import charts, trend_charts
from provisioner.report.pareto import Point
from provisioner.report.trend import trends
from provisioner.report.vega import COLORS, SHAPES


def rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec["data"]["values"]
    return found


def test_bars_are_sorted_and_say_their_figures() -> None:
    spec = charts.bars([("a", "h100", 10.0), ("b", "h200", 1500.0), ("c", "h200", math.nan)], "tok/s", {})
    assert [(row["row"], row["text"], row["tip"]) for row in rows(spec)] == [
        ("b", "1500", "b: 1500 tok/s"),
        ("a", "10.0", "a: 10.0 tok/s"),
    ]


def test_latencies_go_from_median_to_p99() -> None:
    spec = charts.latencies(
        [("a", "h100", latency(5, 9)), ("b", "h100", latency(6, 300)), ("c", "h100", latency(math.inf))], {}
    )
    assert [(row["row"], row["median"], row["p99"]) for row in rows(spec)] == [("b", 6, 300), ("a", 5, 9)]
    assert rows(spec)[0]["tip"] == "b: median 6.00 ms, P99 300.0 ms"


def test_hardware_has_its_own_colour_and_shape() -> None:
    colors = charts.colors_of(["h200", "gb10", "h200"])
    assert colors == {"gb10": COLORS[0], "h200": COLORS[1]}
    many = charts.colors_of(f"gpu{index}" for index in range(8))
    assert many["gpu6"] == COLORS[0]
    spec = charts.pareto([Point(label="a", model="m", hardware="h200", interactivity=1, per_gpu=2)], colors)
    assert spec["layer"][1]["encoding"]["shape"]["scale"] == {"domain": ["gb10", "h200"], "range": list(SHAPES[:2])}


def test_the_front_is_drawn_and_names_only_where_they_fit() -> None:
    def points(count: int) -> list[Point]:
        return [
            Point(label=f"g{index}", model="m", hardware="h200", interactivity=index + 1, per_gpu=9 - index)
            for index in range(count)
        ]

    spec = charts.pareto(points(3), {"h200": COLORS[0]})
    assert [one["x"] for one in spec["layer"][0]["data"]["values"]] == [1, 2, 3]
    assert len(spec["layer"]) == 4
    assert len(charts.pareto(points(charts.MOST_NAMES + 1), {"h200": COLORS[0]})["layer"]) == 3


def test_a_trend_marks_its_changes_and_those_that_failed() -> None:
    (trend,) = trends([measurement(1000, 0), measurement(1100, 1, image="bbbbbbbbbbbb", passed=False)])
    spec = trend_charts.throughput(trend, peers=1050.0)
    assert spec["layer"][0]["data"]["values"] == [{"i": 0.5, "n": "1"}]
    assert spec["layer"][2]["data"]["values"] == [{"y": 1050.0}]
    assert rows(spec)[1]["tip"] == "2026-11-24 13:00 UTC: 1100 output tok/s; did not pass"


def test_figures_that_are_no_numbers_are_left_out() -> None:
    broken = result(math.nan, tpot=latency(math.inf))
    (trend,) = trends([measurement(1000, 0), measurement(0, 1, result=broken)])
    for spec in (trend_charts.throughput(trend), trend_charts.latency(trend)):
        assert [row["i"] for row in rows(spec)] == [0]
        json.dumps(spec, allow_nan=False)


def test_no_data_makes_a_specification_still() -> None:
    for spec in (charts.bars([], "", {}), charts.latencies([], {}), charts.pareto([], {})):
        assert rows(spec) == []
        json.dumps(spec, allow_nan=False)
