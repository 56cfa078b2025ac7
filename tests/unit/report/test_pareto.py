from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import latency, measurement, result, verdict

from provisioner.report.pareto import Point, front, interactivity, of_measurement, of_verdict

FIGURES = st.floats(min_value=0.1, max_value=1e4)


def point(x: float, y: float) -> Point:
    return Point(label="", model="m", hardware="h200", interactivity=x, per_gpu=y)


POINTS = st.lists(st.builds(point, FIGURES, FIGURES), max_size=30)


def beats(one: Point, other: Point) -> bool:
    no_worse = one.interactivity >= other.interactivity and one.per_gpu >= other.per_gpu
    return no_worse and (one.interactivity > other.interactivity or one.per_gpu > other.per_gpu)


@given(POINTS)
def test_nothing_beats_a_point_of_the_front_and_the_rest_is_beaten_or_a_twin(points: list[Point]) -> None:
    best = front(points)
    for one in points:
        assert not any(beats(one, kept) for kept in best)
        assert one in best or any(beats(kept, one) or kept == one for kept in best)
    assert [one.interactivity for one in best] == sorted(one.interactivity for one in best)
    assert [one.per_gpu for one in best] == sorted((one.per_gpu for one in best), reverse=True)


def test_more_users_at_once_for_fewer_tokens_each() -> None:
    slow, fast, bad = point(10, 5000), point(100, 800), point(50, 700)
    assert front([bad, fast, slow]) == (slow, fast)


def test_interactivity_is_the_tokens_of_one_user() -> None:
    assert interactivity(result(tpot=latency(61.04))) == pytest.approx(16.38, abs=0.01)
    assert interactivity(result(tpot=latency(0))) is None
    assert interactivity(result(tpot=latency(math.nan))) is None


def test_points_of_verdicts_and_measurements() -> None:
    found = of_verdict(verdict(output=2000, gpu_count=2), "gpu-01")
    assert found == Point(
        label="gpu-01", model="nvidia/Tiny", hardware="h200", interactivity=100, per_gpu=1000, concurrency=8
    )
    assert of_verdict(verdict(output=None), "gpu-01") is None
    earlier = of_measurement(measurement(3000, gpu_count=4, result=result(3000, raw={})), "gpu-01")
    assert earlier is not None
    assert (earlier.per_gpu, earlier.concurrency, earlier.now) == (750, None, False)
