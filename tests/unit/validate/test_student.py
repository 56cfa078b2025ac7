"""Student's t against closed forms, published quantiles and the normal distribution."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.validate.student import tail


@pytest.mark.parametrize(
    ("t", "freedom", "probability"),
    [  # quantiles as tables of Student's distribution print them
        (6.314, 1, 0.05),
        (31.821, 1, 0.01),
        (6.965, 2, 0.01),
        (2.015, 5, 0.05),
        (3.365, 5, 0.01),
        (4.032, 5, 0.005),
        (2.764, 10, 0.01),
        (2.457, 30, 0.01),
        (2.358, 120, 0.01),
    ],
)
def test_published_quantiles(t: float, freedom: float, probability: float) -> None:
    assert tail(t, freedom) == pytest.approx(probability, rel=1e-3)


@given(t=st.floats(-1e6, 1e6))
def test_one_and_two_degrees_of_freedom_have_closed_forms(t: float) -> None:
    assert tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, abs=1e-12)
    assert tail(t, 2) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), abs=1e-12)


@given(t=st.floats(-8, 8))
def test_many_degrees_of_freedom_are_normal(t: float) -> None:
    for freedom in (9.9e5, 1.1e7):
        assert tail(t, freedom) == pytest.approx(1 - NormalDist().cdf(t), abs=1e-6)


@given(t=st.floats(0, 1e3), more=st.floats(1e-6, 1e3), freedom=st.floats(0.1, 1e6))
def test_it_is_a_distribution(t: float, more: float, freedom: float) -> None:
    assert 0 <= tail(t + more, freedom) <= tail(t, freedom) + 1e-15
    assert tail(-t, freedom) == pytest.approx(1 - tail(t, freedom), abs=1e-12)
    assert tail(0, freedom) == pytest.approx(0.5)
