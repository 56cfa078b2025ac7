from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from reports import HOSTILE, THREE, events, host, hostile, measurement, report, verdict

from provisioner.report.markdown import escape, fenced, markdown

EXPECTED = """\
# lab: passed

Run `20261124T120000Z-abc123`, 2026-11-24 12:00 UTC, took 2:05, by ops

## Servers

| host | server | verdict | output tok/s | history | per GPU | TTFT ms | TPOT ms | hardware | engine | image |
| --- | --- | --- | --: | --- | --: | --: | --: | --- | --- | --- |
| gpu-01 | nemotron | passed | 1000 | ▆▃ | 1000 | 40.0 / 80.0 | 10.0 / 20.0 | 1 × NVIDIA H200 | vLLM 0.12.0 | \
aaaaaaaaaaaa |

TTFT, TPOT, ITL: median / P99

## Hosts

### gpu-01: passed

apply 1:00; health nemotron 30 s; benchmark nemotron 30 s

- nemotron: ▆▃ 1000 → 900.0 output tok/s (−10.0 %), 2 benchmarks; image changed
- image aaaaaaaaaaaa → bbbbbbbbbbbb (24 Nov 13:00)

| 1 change | what | why |
| --- | --- | --- |
| vllm\\_server | vllm-nemotron.service | is not there |
"""


def test_the_whole_text() -> None:
    measured = (measurement(1000, 0), measurement(900, 1, image="bbbbbbbbbbbb"))
    assert markdown(report(host(measured=measured))) == EXPECTED


def test_failures_have_reasons_and_logs() -> None:
    bad = verdict(passed=False, reasons=("no answer",), checks=(), log="one\n```\ntwo")
    failed = events()[1].model_copy(update={"status": "failed", "detail": "E: no space"})
    broken = host("gpu-02", verdict("gpu-02"), failures=(failed,))
    broken = broken.model_copy(
        update={"outcome": broken.outcome and broken.outcome.model_copy(update={"state": "failed"})}
    )
    text = markdown(report(host("gpu-01", bad), broken))
    assert "### gpu-01\n\n- nemotron: no answer\n\nlast lines of its log\n\n````text\none\n```\ntwo\n````" in text
    assert "### gpu-02\n\napply: vllm\\_server: Write the unit\n\n```text\nE: no space\n```" in text


def test_values_are_data() -> None:
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", markdown(hostile()))
    assert "<script" not in outside.replace("\\<", "")
    assert "**bold**" not in outside
    assert "[x](" not in outside
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
    assert widths == {12, 4}
    assert HOSTILE in markdown(hostile())  # in logs, where nothing is markup


@given(st.text())
def test_a_fence_is_never_closed_by_what_is_in_it(text: str) -> None:
    first, *rest, last = fenced(text).split("\n")
    fence = first.removesuffix("text")
    assert last == fence
    assert not any(line.strip().startswith(fence) for line in rest)


@given(st.text())
def test_an_escaped_value_is_one_line_without_markup(text: str) -> None:
    line = escape(text)
    assert line == " ".join(line.split())
    assert not re.search(r"(?<!\\)[`*_{}\[\]<>|~]", line.replace("\\\\", ""))


def test_a_tuning_instead_of_verdicts() -> None:
    text = markdown(report(tuning=THREE))
    assert "## Tuning of nemotron" in text
    assert "| ● | max\\_num\\_seqs 64 | 3000 | 50.0 | 20.0 | 40.0 | 3000 | 1 | kept from run-1 |" in text
    assert "- best for latency: max\\_num\\_seqs 8" in text
    assert "## Servers" not in text
