"""Plots as SVG, drawn by Vega-Lite (vl-convert: no browser, no network), made small and fit for a page.

Colours in the specifications are CSS variables of the page: one drawing is right on dark, on light and in print.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from provisioner.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"
_NUMBER = re.compile(r"-?\d+\.\d+")
_DROPPED = frozenset(
    (
        "class",
        "role",
        "aria-roledescription",
        "aria-hidden",
        "aria-label",
        "pointer-events",
        "font-family",
        "version",
        "stroke-miterlimit",
    )
)
"""attributes that say nothing here: the page has its own fonts, and the figure its own label"""
_DEFAULTS = frozenset(
    (("opacity", "1"), ("stroke-width", "1"), ("x2", "0"), ("y2", "0"), ("text-anchor", "start"), ("font-size", "11px"))
)
"""attributes with the value that they have anyway, here or by the page's style"""
_NOWHERE = "translate(0,0)"

ElementTree.register_namespace("", SVG[1:-1])


def draw(spec: dict[str, Any], label: str) -> str:
    """A Vega-Lite specification as an `<svg>` for a page. `label` is what is read out instead of it.

    UsageError when the plotting library is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise UsageError(
            "plots are drawn by vl-convert-python, which is not installed",
            hint="pip install 'provision[report]'; --markdown and --json do without it",
        ) from error
    return tidy(vl_convert.vegalite_to_svg(spec), label)


def tidy(text: str, label: str) -> str:
    """Vega's SVG without what a page does not need; a mark's `aria-label` becomes its tooltip."""
    root = ElementTree.fromstring(text)  # noqa: S314 - our own drawing
    _clean(root)
    _collapse(root)
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    # In a page neither the namespace nor blanks before the end of an empty element mean anything; in texts and in
    # attributes a ">" is written otherwise.
    return ElementTree.tostring(root, encoding="unicode").replace(f' xmlns="{SVG[1:-1]}"', "", 1).replace(" />", "/>")


def _clean(element: ElementTree.Element) -> None:
    tip = element.get("aria-label") if element.get("role") == "graphics-symbol" else None
    for name, value in list(element.attrib.items()):
        if name in _DROPPED or (name, value) in _DEFAULTS:
            del element.attrib[name]
        else:
            element.set(name, _NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value))
    if element.get("transform") == _NOWHERE:
        del element.attrib["transform"]
    for child in list(element):
        if child.tag == f"{SVG}path" and child.get("class") in ("background", "foreground"):
            element.remove(child)
        else:
            _clean(child)
    if tip:
        title = ElementTree.Element(f"{SVG}title")
        title.text = tip
        element.insert(0, title)


def _collapse(element: ElementTree.Element) -> None:
    """Groups that only group."""
    children: list[ElementTree.Element] = []
    for child in element:
        _collapse(child)
        if child.tag == f"{SVG}g" and not child.attrib:
            children += list(child)
        else:
            children.append(child)
    element[:] = children
