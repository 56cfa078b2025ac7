"""The language of objectives, and the figures that it speaks of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.fleet.metrics import LATENCIES, latency_of, metric_of, metrics, names, percentile_of
from provisioner.fleet.slo import Objective, WrongObjectiveError, parse_objective

RECORDED = Path(__file__).parents[2] / "recorded" / "bench"
BOUNDED = [name for name in names() if (metric := metric_of(name)) and metric.better]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("output_throughput >= 1000", "output_throughput >= 1000 tok/s"),
        ("  output_throughput>=1e3tok/s ", "output_throughput >= 1000 tok/s"),
        ("p99_ttft_ms <= 2000 ms", "p99_ttft_ms <= 2000 ms"),
        ("p99.9_itl_ms <= 20.5", "p99.9_itl_ms <= 20.5 ms"),
        ("goodput >= 2.5", "request_goodput >= 2.5 requests/s"),
        ("output_throughput_per_gpu >= 15828.30", "output_throughput_per_gpu >= 15828.3 tok/s"),
    ],
)
def test_what_is_written_and_what_it_means(text: str, same: str) -> None:
    assert str(parse_objective(text)) == same


@given(st.sampled_from(BOUNDED), st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_what_is_printed_is_read_again(name: str, bound: float) -> None:
    metric = metric_of(name)
    assert metric is not None
    made = Objective(metric=metric.name, sense=">=" if metric.better == "higher" else "<=", bound=bound)
    assert parse_objective(str(made)) == made


@given(st.text(max_size=60))
def test_anything_else_is_refused_in_words(text: str) -> None:
    try:
        made = parse_objective(text)
    except WrongObjectiveError:
        return
    assert made.bound > 0


@given(st.floats(min_value=0.01, max_value=99.99), st.sampled_from(LATENCIES))
def test_every_percentile_of_every_latency_is_a_figure(percentile: float, of: str) -> None:
    name = f"p{round(percentile, 2):g}_{of}_ms"
    metric = metric_of(name)
    assert metric is not None
    assert (metric.unit, metric.better) == ("ms", "lower")
    assert percentile_of(name) == (of, round(percentile, 2))
    assert latency_of(name) == of


def test_every_name_has_a_figure_with_a_meaning() -> None:
    assert all(metric_of(name) for name in names())
    assert len({metric.name for metric in metrics()}) == len(list(metrics()))
    assert all(len(metric.meaning) > 15 and metric.unit for metric in metrics())


@pytest.mark.parametrize("version", ["0.12", "0.32"])
def test_vllm_calls_them_so(version: str) -> None:
    keys = json.loads((RECORDED / f"bench-serve-{version}.json").read_text()).keys()
    known = {name for name in names() if not name.endswith("_per_gpu") and name != "goodput"}
    assert known - keys == set()
