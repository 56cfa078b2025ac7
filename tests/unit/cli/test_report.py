"""`provision report` and `provision monitoring` from words to files, over a history of this test's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import fleet, plan, server
from reports import LOAD, events, verdict

from provisioner.cli.main import run
from provisioner.errors import Exit
from provisioner.history.rundir import runs_dir
from provisioner.history.store import open_store

FLEET = "hosts:\n  gpu-01: {address: 127.0.0.1}\nservers:\n  nemotron: {recipe: nemotron-3-nano}\n"
TEXT = """\
fleet: passed; run {run}, {began}, took {took}
host    server    hardware         image         engine       variant  output tok/s  history  total tok/s  per GPU  \
    TTFT ms      TPOT ms       ITL ms  verdict
gpu-01  nemotron  1 × NVIDIA H200  aaaaaaaaaaaa  vLLM 0.12.0  fp8             900.0  ▆▃              1800    900.0  \
40.0 / 80.0  10.0 / 20.0  9.00 / 18.0  passed
TTFT, TPOT, ITL: median / P99; history: output tok/s of the server's benchmarks, this one last
gpu-01, nemotron: ▆▃  1000 → 900.0 output tok/s (−10.0 %), 2 benchmarks
"""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A state directory in which gpu-01 was provisioned twice."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with open_store() as store:
        for name, output in (("first-run", 1000.0), ("second-run", 900.0)):
            store.begin_run(name, "fleet", "/fleet.yaml", ("provision",), "ops", ["gpu-01"])
            for event in events():
                store.add_event(name, event)
            store.add_verdict(name, verdict(output=output), workload=LOAD, driver="580.1")
            store.finish_run(name, 0)
            save(name, plan().model_dump_json())
    return tmp_path


def save(name: str, text: str) -> None:
    directory = runs_dir("fleet") / name / "plans"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "gpu-01.json").write_text(text)


def test_at_the_terminal(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report"]) == 0
    shown = capsys.readouterr().out
    with open_store(read_only=True) as store:
        found = store.run("latest")
    assert found.ended_at is not None
    began, took = f"{found.began_at:%Y-%m-%d %H:%M} UTC", int((found.ended_at - found.began_at).total_seconds())
    assert shown == TEXT.format(run="second-run", began=began, took=f"{took} s")


def test_a_page(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "first", "--html", "report.html"]) == 0
    text = (state / "report.html").read_text()
    assert "first-run" in text
    assert capsys.readouterr().err == (
        f"report.html: run first-run, {len(text.encode()) / 1024:.0f} KiB, one file that needs no network\n"
    )


def test_markdown_and_json(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# fleet: passed\n\nRun `second-run`")
    assert run(["report", "latest", "--fleet", "fleet", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["hosts"][0]["trends"][0]["change"] == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--markdown", "--json"], "error: one of --html, --markdown and --json at a time\n"),
        (
            ["third-run", "--json"],
            'error: run third-run: there is no such run\n  hint: did you mean "first-run"?\n',
        ),
        (["--fleet", "other"], "error: there is no run yet of fleet other\n"),
    ],
)
def test_wrong_words(state: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert run(["report", *words]) == Exit.BAD_INPUT
    assert capsys.readouterr().err == told


def test_a_page_that_cannot_be_written(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--html", "nowhere/report.html"]) == Exit.BAD_INPUT
    assert capsys.readouterr().err == (
        "error: --html nowhere/report.html: cannot be written: No such file or directory\n"
    )


def test_monitoring_of_servers_on_loopback(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["monitoring", "fleet.yaml", "-o", "watch"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "watch/prometheus.yml",
        "watch/rules/vllm.yml",
        "watch/targets/vllm.json",
        "watch/targets/loopback/gpu-01.json",
        "watch/textfile/provision.prom",
        "watch/grafana/vllm-fleet.json",
    ]
    assert shown.err == (
        "listen on loopback only: gpu-01/nemotron\n"
        "  To any other machine they are down. Either scrape on each host itself: its own targets are in\n"
        "  targets/loopback/HOST.json; or let them listen wider (`host:` in the fleet file, with an `api_key`), which\n"
        "  puts them into targets/vllm.json. vLLM asks for no key at /metrics: a firewall has to.\n"
    )
    assert json.loads((state / "watch/targets/vllm.json").read_text()) == []
    assert (
        'provision_benchmark_output_tokens_per_second{fleet="fleet",host="gpu-01",server="nemotron"} 900.0'
        in (state / "watch/textfile/provision.prom").read_text()
    )


def test_monitoring_follows_the_newest_plan(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["monitoring", "fleet.yaml", "-o", "watch"]) == 0
    save("second-run", plan(fleet(server(host="0.0.0.0", port=9000))).model_dump_json())
    capsys.readouterr()
    assert run(["monitoring", "fleet.yaml", "-o", "watch"]) == 0
    assert capsys.readouterr().err == ""
    (group,) = json.loads((state / "watch/targets/vllm.json").read_text())
    assert group["targets"] == ["127.0.0.1:9000"]
    assert not list((state / "watch/targets/loopback").iterdir())


def test_monitoring_of_what_was_never_provisioned(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "new.yaml").write_text(f"name: new\n{FLEET}")
    assert run(["monitoring", "new.yaml", "-o", "watch"]) == Exit.BAD_INPUT
    assert capsys.readouterr().err == (
        "gpu-01: left out, it was not provisioned from here\n"
        "error: new.yaml: nothing was provisioned from here\n"
        "  hint: run `provision new.yaml` first\n"
    )
