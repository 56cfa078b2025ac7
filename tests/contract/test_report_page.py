"""A report's page in a real Chromium (Debian: apt-get install chromium), driven by playwright."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import plan
from chromium import MISSING, SIZES, Scheme, chromium, opened
from playwright.sync_api import Browser
from reports import THREE, host, hostile, measurement, report, verdict

from provisioner.history.verdict import CheckResult
from provisioner.report.model import Report
from provisioner.report.page import page

pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
LEAST_CONTRAST = 4.5
"""what WCAG's level AA asks of text"""

CONTRASTS = """() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(part => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.localName === "title") continue;
    const drawn = element.ownerSVGElement !== null;
    const colour = getComputedStyle(element)[drawn ? "fill" : "color"];
    const [a, b] = [light(colour), light(behind(drawn ? element.ownerSVGElement : element))].sort((a, b) => b - a);
    found.push([(a + 0.05) / (b + 0.05), texts.currentNode.data.trim().slice(0, 40), colour]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def sample() -> Report:
    """Three hosts, one of which failed, with a history and changes in it."""
    log = "\n".join(f"line {index} " + "x" * 200 for index in range(30))
    check = CheckResult(name="plain chat", passed=False, detail="HTTP 500", seconds=1, answer="boom " * 90, log=log)
    the_plan = plan()
    hosts = [
        host(
            name,
            verdict(name, 900.0 + 50 * index, hardware=hardware),
            measured=tuple(
                measurement(
                    1000 + 40 * hour, hour, host=name, hardware=hardware, image="a" * 12 if hour < 3 else "b" * 12
                )
                for hour in range(6)
            ),
            plan=the_plan.model_copy(update={"host": name}),
        )
        for index, (name, hardware) in enumerate((("gpu-01.example.com", "h200"), ("spark-01", "dgx_spark_gb10")))
    ]
    bad = verdict("gpu-02", passed=False, reasons=("plain chat: HTTP 500",), checks=(check,), log=log, output=None)
    return report(*hosts, host("gpu-02", bad, plan=the_plan), ending="a gate failed")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(sample()))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_renders_without_a_complaint_and_fits(browser: Browser, file: Path, size: str, scheme: Scheme) -> None:
    shown, told = opened(browser, file, size, scheme)
    assert told == []
    assert shown.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    plots = shown.locator("figure svg")
    assert plots.count() == 4 + 2 * 2  # the fleet's, and two each of the hosts with a history
    for index in range(plots.count()):
        box = plots.nth(index).bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["x"] + box["width"] <= SIZES[size][0]
    smallest = shown.evaluate(
        "Math.min(...[...document.querySelectorAll('figure svg text')].map(one => one.getBoundingClientRect().height))"
    )
    assert smallest >= 11  # CSS pixels: read without a magnifier, on a phone too
    shown.context.close()


@pytest.mark.parametrize("size", SIZES)
def test_a_tuning_fits(browser: Browser, tmp_path: Path, size: str) -> None:
    path = tmp_path / "tuning.html"
    path.write_text(page(report(tuning=THREE)))
    shown, told = opened(browser, path, size, "light")
    assert told == []
    assert shown.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    assert shown.locator("figure svg").first.locator("text", has_text="3").count() >= 1
    shown.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(browser: Browser, file: Path, scheme: Scheme) -> None:
    shown, _ = opened(browser, file, "desktop", scheme)
    shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    contrasts = shown.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [one for one in contrasts if one[0] < LEAST_CONTRAST] == []
    papers = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == papers[scheme]
    shown.context.close()


def test_it_prints_on_white_with_everything_open(browser: Browser, file: Path, tmp_path: Path) -> None:
    shown, told = opened(browser, file, "desktop", "dark")
    shown.emulate_media(media="print", color_scheme="dark")
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    closed = "[...document.querySelectorAll('details:not([open]) > :not(summary)')]"
    assert shown.evaluate(f"{closed}.length") > 0
    assert shown.evaluate(f"Math.min(...{closed}.map(one => one.getBoundingClientRect().height))") > 0
    paper = shown.pdf(path=tmp_path / "report.pdf", format="A4")
    assert paper.startswith(b"%PDF")
    assert told == []
    shown.context.close()


def test_hostile_values_do_nothing(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(hostile()))
    shown, told = opened(browser, path, "phone", "light")
    assert told == []
    assert shown.evaluate("document.querySelectorAll('script, img, iframe, [onerror]').length") == 0
    assert shown.evaluate("document.documentElement.scrollWidth") == SIZES["phone"][0]
    shown.context.close()
