from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

from builders import plan
from reports import HOSTILE, THREE, host, hostile, measured, measurement, report, run, tuning, verdict

from provisioner.history.tuning import TunedPoint
from provisioner.history.verdict import CheckResult
from provisioner.plan.tuning import Candidate
from provisioner.report.draw import draw
from provisioner.report.page import command, page
from provisioner.report.trend import trends
from provisioner.report.vega import Spec

VOID = {"meta", "link", "img", "br", "hr", "input"}
NO_CONTENT = "default-src 'none'; style-src 'unsafe-inline'"


class Read(HTMLParser):
    """Elements, attributes and text of a page; unbalanced tags are told."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


def no_plot(spec: Spec, label: str) -> str:
    return f'<svg role="img" aria-label="{len(label)} letters"></svg>'


def test_values_are_data() -> None:
    seen = Read(page(hostile(), no_plot))
    assert seen.open == []
    assert not {"script", "img"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert not [value for value in seen.values("href") if not value.startswith("#")]
    # 12 places of a verdict and its checks, and more of events, changes, notes and the run.
    assert seen.text.count(HOSTILE) >= 25


def test_a_tuning_has_its_points_and_their_plot() -> None:
    seen = Read(page(report(tuning=THREE), no_plot))
    assert seen.open == []
    for words in (
        "Tuning of nemotron on gpu-01",
        "points measured",
        "nothing beats these in both. Numbers: as below.",
        "2 ●",
        "Best for throughput: max_num_seqs 64",
        "max_num_seqs 512: CUDA out of memory",
        "torch.OutOfMemoryError",
    ):
        assert words in seen.text, words
    assert "was not put back" not in seen.text
    owed = Read(page(report(tuning=THREE.model_copy(update={"changed": True})), no_plot))
    assert "The server was not put back" in owed.text


def test_values_of_a_tuning_are_data() -> None:
    candidate = Candidate(settings=(("kv_cache_dtype", HOSTILE),))
    bad = TunedPoint(candidate=candidate, state="failed", reason=HOSTILE, log=HOSTILE)
    found = tuning(measured(8, 10, 10).model_copy(update={"candidate": candidate}), bad, server=HOSTILE, model=HOSTILE)
    for drawn in (no_plot, draw):
        seen = Read(page(report(tuning=found), drawn))
        assert seen.open == []
        assert not {"script", "img"} & set(seen.tags)
        assert not [name for name, _ in seen.attributes if name.startswith("on")]
        assert seen.text.count(HOSTILE) >= 6


def test_values_are_data_in_plots_too() -> None:
    seen = Read(page(hostile()))
    assert not {"script", "img"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_one_file_that_reaches_for_nothing() -> None:
    text = page(report(), no_plot)
    seen = Read(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(seen.tags)
    assert NO_CONTENT in seen.values("content")
    assert not re.search(r"url\(|@import|src=", text)


def test_headings_tables_and_links_tell_the_structure() -> None:
    seen = Read(page(report(host("gpu-01"), host("gpu-02")), no_plot))
    levels = [int(tag[1]) for tag in seen.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = seen.values("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in seen.values("href")} <= set(ids)
    assert set(seen.values("aria-labelledby")) <= set(ids)
    assert set(seen.values("scope")) == {"col", "row"}
    assert all(label for label in seen.values("aria-label"))
    assert ("lang", "en") in seen.attributes


def test_what_failed_comes_first_with_reasons_and_logs() -> None:
    check = CheckResult(
        name="plain chat", passed=False, detail="HTTP 500", seconds=1, request="POST /v1", answer="boom", log="a line"
    )
    bad = verdict("gpu-02", passed=False, reasons=("plain chat: HTTP 500",), checks=(check,), log="the last line")
    text = Read(page(report(host("gpu-01"), host("gpu-02", bad), ending="a gate failed"), no_plot)).text
    first = text.index("What failed")
    for words in ("nemotron: plain chat: HTTP 500", "POST /v1", "boom", "a line", "the last line"):
        assert first < text.index(words) < text.index("Servers")


def test_a_run_that_did_nothing_is_a_page() -> None:
    text = Read(page(report(host(outcome=None, phases=(), trends=(), changes=None), run=run(ended_at=None)), no_plot))
    assert "untouched" in text.text


def test_a_check_that_could_not_be_judged_is_told_so() -> None:
    check = CheckResult(name="tool call", passed=True, detail="a tiny model decides nothing", seconds=1, skipped=True)
    text = Read(page(report(host("gpu-01", verdict(checks=(check,)))), no_plot)).text
    assert "1 check of nemotron, 1 skipped" in text
    assert text.index("tool call") < text.index("skipped", text.index("tool call")) < text.index("decides nothing")


def test_hosts_that_the_run_did_not_touch_have_their_last_figures() -> None:
    others = trends([measurement(1000, 0, host="gpu-07"), measurement(1234, 1, host="gpu-07", passed=False)])
    text = Read(page(report(others=others), no_plot)).text
    section = text[text.index("Not in this run") : text.index("Throughput and latency")]
    for words in ("gpu-07", "FAILED", "1234", "1 × h200", "2026-11-24 13:00 UTC"):
        assert words in section
    assert "Not in this run" not in page(report(), no_plot)


def test_the_plan_is_a_command_that_a_shell_takes() -> None:
    argv = ["vllm", "serve", "m", "--port", "8000", "--flag", "--json", '{"a": "b c"}', "-x", "1"]
    assert command(argv) == 'vllm serve m \\\n  --port 8000 \\\n  --flag \\\n  --json \'{"a": "b c"}\' \\\n  -x 1'
    the_plan = plan()
    text = Read(page(report(host(plan=the_plan)), no_plot)).text
    assert command(["vllm", "serve", *the_plan.servers[0].argv]) in text


def test_peers_and_marks_are_told_beside_the_plots() -> None:
    mine = (measurement(1000, 0), measurement(1100, 1, image="bbbbbbbbbbbb"))
    theirs = tuple(measurement(figure, 1, host=f"gpu-0{n}") for n, figure in ((2, 900), (3, 1300), (4, 1000)))
    hosts = [host("gpu-01", measured=mine), *(host(one.host, measured=(one,)) for one in theirs)]
    text = Read(page(report(*hosts), no_plot)).text
    assert "2 benchmarks, 24 Nov 12:00 – 24 Nov 13:00 UTC. Dotted: the median of its peers, 1000." in text
    assert "image aaaaaaaaaaaa → bbbbbbbbbbbb (24 Nov 13:00)" in text


def test_a_hundred_hosts_with_their_history_are_a_megabyte_at_most() -> None:
    the_plan = plan()
    hosts = [
        host(
            name,
            measured=tuple(measurement(1000 + hour * 13 % 7, hour, host=name) for hour in range(10)),
            plan=the_plan.model_copy(update={"host": name}),
        )
        for name in (f"gpu-{number:03}.example.com" for number in range(100))
    ]
    before = tuple(one for each in hosts for one in each.trends[0].measurements[:-1])
    text = page(report(*hosts, before=before))
    assert len(text.encode()) < 1_000_000
