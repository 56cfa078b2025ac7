from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from provisioner.report.sparkline import BLOCKS, bounds, sparkline

FIGURES = st.lists(st.floats(min_value=0, max_value=1e7), min_size=0, max_size=40)


def test_a_loss_of_a_tenth_shows_and_noise_does_not() -> None:
    assert sparkline([1000, 1003, 998, 1001, 900]) == "▆▆▆▆▃"
    assert len(set(sparkline([1000, 1010, 995, 1005]))) <= 2


def test_nothing_to_compare_is_no_line() -> None:
    assert sparkline([]) == sparkline([1000]) == sparkline([0, 0]) == ""


def test_what_is_no_number_is_a_gap() -> None:
    assert sparkline([1.0, math.nan, 2.0, math.inf]) == "▁ █ "


def test_the_newest_are_kept() -> None:
    assert sparkline([1, 100, 100, 1], width=2) == "█▁"


@given(FIGURES)
def test_a_higher_figure_is_never_a_lower_block(figures: list[float]) -> None:
    line = sparkline(figures, width=len(figures) or 1)
    assert line == "" or len(line) == len(figures)
    heights = sorted(zip(figures, (BLOCKS.index(block) for block in line), strict=False))
    assert [height for _, height in heights] == sorted(height for _, height in heights)


@given(FIGURES)
def test_bounds_hold_every_figure(figures: list[float]) -> None:
    low, high = bounds(figures)
    assert all(low <= figure <= high or math.isclose(figure, low) or math.isclose(figure, high) for figure in figures)
