from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from reports import THREE, measured, tuning

from provisioner.history.tuning import Tuning
from provisioner.report.tuning import as_data, best, choices, on_front, plot, rows, tried, within

FIGURES = st.floats(min_value=0.5, max_value=1e4)


TUNINGS = st.lists(st.tuples(FIGURES, FIGURES), max_size=20).map(
    lambda figures: tuning(*(measured(index, *pair) for index, pair in enumerate(figures)))
)


@given(TUNINGS)
def test_what_is_picked_is_on_the_front(one: Tuning) -> None:
    points = tried(one)
    labels = on_front(points)
    for goal in ("throughput", "latency"):
        found = best(points, goal)  # type: ignore[arg-type]  # the literals
        assert (found is None) == (not points)
        assert found is None or found.tuned.candidate.label in labels


@given(TUNINGS, FIGURES)
def test_the_most_throughput_within_a_limit(one: Tuning, limit: float) -> None:
    points = tried(one)
    found = within(points, limit)
    fitting = [point for point in points if point.tpot_ms <= limit]
    assert (found is None) == (not fitting)
    assert found is None or found in fitting
    assert found is None or found.point.per_gpu == max(point.point.per_gpu for point in fitting)


@given(TUNINGS)
def test_a_plot_shows_its_best_point(one: Tuning) -> None:
    points = [found.point for found in tried(one)]
    lines = plot(points, (40, 10))
    assert len(lines) == (13 if points else 0)
    assert not points or "●" in "".join(lines)
    assert all(len(line) < 60 for line in lines)


def test_gpus_that_are_not_used_do_not_count() -> None:
    (one,) = tried(tuning(measured(8, 1000, 10, gpus=2)))
    assert (one.point.per_gpu, one.point.interactivity) == (500, 100)


def test_rows() -> None:
    dashes = ("–",) * 6
    assert rows(THREE) == [
        ("●", "max_num_seqs 64", "3000", "50.0", "20.0", "40.0", "3000", "1", "kept from run-1"),
        ("●", "max_num_seqs 8", "800.0", "200.0", "5.00", "40.0", "800.0", "1", ""),
        ("○", "max_num_seqs 16", "700.0", "100.0", "10.0", "40.0", "700.0", "1", ""),
        ("", "max_num_seqs 512", *dashes, "failed: CUDA out of memory"),
        ("", "max_num_seqs 4", *dashes, "left: the time was over"),
    ]


def test_choices() -> None:
    assert {one.goal: one.label for one in choices(THREE, 12)} == {
        "throughput": "max_num_seqs 64",
        "latency": "max_num_seqs 8",
        "TPOT at most 12 ms": "max_num_seqs 8",
    }
    assert choices(THREE, 1)[-1].label is None


def test_plot() -> None:
    assert plot([one.point for one in tried(THREE)], (20, 4)) == [
        "3000 │     ●",
        "     │",
        "     │",
        "     │          ○         ●",
        "   0 │",
        "     └─────────────────────",
        "      0               200.0",
    ]


def test_as_data() -> None:
    data = json.loads(json.dumps(as_data(THREE, 12)))
    assert data["choices"]["TPOT at most 12 ms"] == "max_num_seqs 8"
    first = data["points"][0]
    assert (first["settings"], first["concurrency"], first["on_front"]) == ({"max_num_seqs": 8}, 8, True)
    assert [point["state"] for point in data["points"]] == ["measured"] * 3 + ["failed", "left"]
    assert data["points"][3]["per_gpu"] is None
