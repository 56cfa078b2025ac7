"""Pieces of Vega-Lite specifications that all plots share. Pure.

Every plot is as wide as a phone, so that its letters have the size of the page's; a wide page sets them side by side.
Colours are CSS variables of the page, so that one drawing is right on dark, on light and in print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]

WIDTH = 340
ROW = 17
LETTER = 6.6
LONGEST = 150
"""in CSS pixels: a plot's width, a row's height, a letter in the widest of the page's fonts, a row's name at most"""
COLORS = tuple(f"var(--c{index})" for index in range(1, 7))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
INK, QUIET, RULE, ALARM = "var(--ink)", "var(--quiet)", "var(--rule)", "var(--bad)"

_AXIS = {
    "domain": False,
    "ticks": False,
    "aria": False,
    "gridColor": RULE,
    "labelColor": QUIET,
    "labelFontSize": 11,
    "titleColor": QUIET,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
    "titlePadding": 7,
}


def spec(values: Sequence[Spec], layers: Sequence[Spec], *, height: int) -> Spec:
    """A whole plot: rows of data and layers of marks."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 1, "right": 4, "top": 6, "bottom": 4},
        "background": None,
        "data": {"values": list(values)},
        "layer": list(layers),
        "config": {"font": "sans-serif", "view": {"stroke": None}, "axis": _AXIS, "text": {"fontSize": 11}},
    }


def mark(kind: str, *, tip: bool = False, look: Spec, **channels: Spec) -> Spec:
    """A layer. `look`: properties of the mark. `tip`: the field `tip` is shown over it; otherwise it is decoration."""
    encoding: Spec = dict(channels)
    if tip:
        encoding["description"] = {"field": "tip"}
    return {"mark": {"type": kind, "aria": tip, **look}, "encoding": encoding}


def quantity(field: str, domain: tuple[float, float], axis: Spec | None = None) -> Spec:
    """A channel of numbers; without `axis` there is none."""
    return {
        "field": field,
        "type": "quantitative",
        "axis": axis,
        "scale": {"domain": list(domain), "zero": False, "nice": False},
    }


def rows(labels: Sequence[str]) -> Spec:
    """The vertical channel of a plot with one named row each, in the order of the data."""
    # The page's font is not the one that Vega measures with, so that the room for names is counted in letters.
    room = min(LONGEST, max(map(len, labels), default=0) * LETTER + 10)
    axis = {
        "title": None,
        "grid": False,
        "labelLimit": LONGEST,
        "labelColor": INK,
        "labelPadding": 8,
        "minExtent": room,
        "maxExtent": room,
    }
    return {"field": "row", "type": "nominal", "sort": None, "axis": axis}


def by_hardware(signs: Mapping[str, str]) -> Spec:
    """Colours or shapes by the field `hardware`. The page has the legend."""
    scale = {"domain": list(signs), "range": list(signs.values())}
    return {"field": "hardware", "type": "nominal", "legend": None, "scale": scale}
