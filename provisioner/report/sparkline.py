"""A row of figures as a line of blocks, for terminals and Markdown: `▅▅▆▅▂`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
LEAST_SPAN = 0.2
"""share of the median that the height stands for at least: noise of some percent stays flat, a tenth shows"""
WIDTH = 16


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """The last `width` figures, the newest on the right; "" for fewer than two. What is no number is a blank."""
    shown = values[-width:]
    low, high = bounds(shown)
    if len(shown) < 2 or high <= low:
        return ""
    steps = len(BLOCKS) - 1
    return "".join(
        BLOCKS[round((value - low) / (high - low) * steps)] if math.isfinite(value) else " " for value in shown
    )


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """What bottom and top of a plot of these figures stand for; (0, 0) when there is nothing to show."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 0.0
    low, high = min(finite), max(finite)
    missing = LEAST_SPAN * abs(statistics.median(finite)) - (high - low)
    return (low - missing / 2, high + missing / 2) if missing > 0 else (low, high)
