from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest
from reports import measurement

from provisioner.errors import UsageError
from provisioner.report import charts, trend_charts
from provisioner.report.draw import draw, tidy
from provisioner.report.trend import trends

VEGA = """<svg xmlns="http://www.w3.org/2000/svg" version="1.1" class="marks" width="340" height="61"
 viewBox="0 0 340 61"><g fill="none" transform="translate(62.04,6)"><g class="root" role="graphics-object"><g
 transform="translate(0,0)"><path class="background" d="M0,0h1"/><text font-family="sans-serif" font-size="11px"
 opacity="1" fill="var(--ink)">a&lt;b</text><path aria-label="gpu-01: 5" role="graphics-symbol"
 d="M0,0h224.6249v9"/></g></g></g></svg>"""


def test_a_drawing_is_made_small_and_its_labels_become_tooltips() -> None:
    assert tidy(VEGA, "A label") == (
        '<svg viewBox="0 0 340 61" role="img" aria-label="A label">'
        '<g fill="none" transform="translate(62,6)"><text fill="var(--ink)">a&lt;b</text>'
        '<path d="M0,0h224.6v9"><title>gpu-01: 5</title></path></g></svg>'
    )


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UsageError) as caught:
        draw({}, "")
    assert str(caught.value) == (
        "plots are drawn by vl-convert-python, which is not installed\n"
        "  hint: pip install 'provision[report]'; --markdown and --json do without it"
    )


def test_vega_draws_what_is_specified_with_the_colours_of_the_page() -> None:
    svg = draw(charts.bars([("<b>", "h200", 12.0)], "tok/s", {"h200": "var(--c1)"}), "x")
    drawing = ElementTree.fromstring(svg)  # noqa: S314 - our own
    texts = [element.text for element in drawing.iter() if element.text]
    assert texts == ["<b>", "<b>: 12.0 tok/s", "12.0"]
    assert 'fill="var(--c1)"' in svg
    assert len(svg) < 1000


def test_a_trend_is_drawn_with_a_tooltip_each_benchmark() -> None:
    (trend,) = trends([measurement(1000, hour) for hour in range(3)])
    svg = draw(trend_charts.throughput(trend, 900.0), "x")
    assert svg.count("<title>") == 3
    assert draw(trend_charts.latency(trend), "x").count("<title>") == 0
