"""history, compare and baseline over a history that is made here; every time is fixed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from samples import result, verdict

from provisioner.cli import complete
from provisioner.cli.main import run
from provisioner.errors import Exit
from provisioner.history.events import Event
from provisioner.history.rundir import create_run
from provisioner.history.store import Store, open_store
from provisioner.history.verdict import CheckResult, ImageSeen

LOSS = CheckResult(name="baseline", passed=False, detail="output_throughput 4,400 tok/s is 12.0 % below …", seconds=0.0)


class History:
    """Runs r1, r2, … on days that follow each other."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.setattr("provisioner.cli.baselines.current_user", lambda: "bert")
        self._now = datetime(2026, 11, 23, 8, tzinfo=UTC)
        patch.setattr("provisioner.history.store._now", self.tick)
        self.path = folder / "provision" / "history.sqlite"
        self.count = 0

    def tick(self) -> str:
        self._now += timedelta(seconds=30)
        return self._now.isoformat(timespec="microseconds")

    def ran(
        self, tell: Callable[[Store, str], None], exit_code: int | None = 0, hosts: tuple[str, ...] = ("a",)
    ) -> str:
        self.count += 1
        run_id = f"r{self.count}"
        self._now = datetime(2026, 11, 23 + self.count, 8, tzinfo=UTC)
        with open_store() as store:
            words = ("/opt/bin/provision", "apply", "fleet.yaml", "--yes")
            store.begin_run(run_id, "demo", "/f/fleet.yaml", words, "anna", hosts)
            tell(store, run_id)
            if exit_code is not None:
                store.finish_run(run_id, exit_code)
        return run_id

    def measured(
        self, output: float, *, accept: bool = True, exit_code: int = 0, driver: str = "580.95", **changes: Any
    ) -> str:
        def tell(store: Store, run_id: str) -> None:
            store.add_verdict(run_id, verdict("a", output=output, **changes), workload="load", driver=driver)
            if accept:
                store.accept(run_id, by="policy: passed", automatic=True)

        return self.ran(tell, exit_code)


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[History]:
    with monkeypatch.context() as clock:
        clock.setenv("TZ", "UTC")
        time.tzset()
        yield History(monkeypatch, tmp_path)
    time.tzset()


@pytest.fixture
def told(history: History) -> History:
    """A course with a new image, a loss, a host that failed and a run that was killed."""
    history.measured(5000.0)
    history.measured(5050.0, driver="590.1")
    slow = {"passed": False, "reasons": ("baseline: …",), "checks": (LOSS,)}
    image = ImageSeen(reference="v", id="sha256:" + "b" * 64)
    history.measured(4400.0, accept=False, exit_code=3, driver="590.1", image=image, version="0.13.0", **slow)

    def broken(store: Store, run_id: str) -> None:
        store.add_event(run_id, Event(host="a", phase="apply", status="failed", task="vllm_image: pull", detail="no"))

    def killed(store: Store, run_id: str) -> None:
        store.add_event(run_id, Event(host="a", phase="apply", task="docker_engine: install"))

    history.ran(broken, 1)
    history.ran(killed, None, hosts=("a", "b"))
    return history


def said(capsys: pytest.CaptureFixture[str], *words: str, code: Exit = Exit.OK) -> str:
    assert run(list(words)) == code
    out, err = capsys.readouterr()
    return out if code == Exit.OK else err


def test_no_history_at_all(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "history") == "no run yet\n"
    assert said(capsys, "history", "gpu-01") == "gpu-01: no run yet\n"
    assert said(capsys, "history", "--audit") == "nothing was done yet\n"
    assert said(capsys, "baseline", "show") == "nothing was accepted yet\n"
    assert said(capsys, "compare", "latest", "latest", code=Exit.BAD_INPUT) == "error: there is no run yet\n"
    assert said(capsys, "baseline", "accept", code=Exit.BAD_INPUT) == "error: there is no run yet\n"
    assert complete.run_ids("") == ["latest"]
    assert complete.hosts("") == []


def test_the_runs(told: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        said(capsys, "history")
        == """\
run  began             took  fleet  hosts  result         by    command
r5   2026-11-28 08:00     –  demo       2  interrupted    anna  apply fleet.yaml --yes
r4   2026-11-27 08:00  1:00  demo       1  a host failed  anna  apply fleet.yaml --yes
r3   2026-11-26 08:00  1:30  demo       1  a gate failed  anna  apply fleet.yaml --yes
r2   2026-11-25 08:00  2:00  demo       1  passed         anna  apply fleet.yaml --yes
r1   2026-11-24 08:00  2:00  demo       1  passed         anna  apply fleet.yaml --yes
"""
    )
    assert said(capsys, "history", "--limit", "1").splitlines()[1:] == [
        "r5   2026-11-28 08:00     –  demo       2  interrupted  anna  apply fleet.yaml --yes",
        "older ones are not shown: --limit N",
    ]
    assert said(capsys, "history", "--fleet", "other") == "no run yet\n"


def test_the_course_of_a_host(told: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        said(capsys, "history", "a")
        == """\
a, without a verdict
  run  began             result         where it stood
  r5   2026-11-28 08:00  interrupted    stopped in apply: docker_engine: install
  r4   2026-11-27 08:00  a host failed  failed in apply: no

a, nemotron: ▆▇▂
  run  began             verdict  output tok/s   change  baseline  vLLM      image           driver
  r3   2026-11-26 08:00  FAILED          4,400  −12.9 %  –         0.13.0 *  bbbbbbbbbbbb *  590.1
  r2   2026-11-25 08:00  passed          5,050   +1.0 %  accepted  0.12.0    aaaaaaaaaaaa    590.1 *
  r1   2026-11-24 08:00  passed          5,000        –  accepted  0.12.0    aaaaaaaaaaaa    580.95
"""
    )
    assert said(capsys, "history", "b").splitlines()[2:] == ["  r5   2026-11-28 08:00  interrupted  nothing was done"]
    assert said(capsys, "history", "c", code=Exit.BAD_INPUT) == (
        "error: c: no run has acted on it\n  hint: known: a, b\n"
    )


def test_a_run_that_is_under_way(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    open_run = create_run("demo", command=["provision"], fleet_path=Path("f.yaml"), hosts=["a"])
    assert "running" in said(capsys, "history")
    open_run.finish(0)
    assert "passed" in said(capsys, "history")


def test_the_audit_log(told: History, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "history", "--audit", "--limit", "3").splitlines()
    assert lines == [
        "when              who   what   run  hosts  images  verdict        command",
        "2026-11-28 08:01  anna  began  r5   a,b    –       –              apply fleet.yaml --yes",
        "2026-11-27 08:02  anna  ended  r4   a      –       a host failed  apply fleet.yaml --yes",
        "2026-11-27 08:01  anna  began  r4   a      –       –              apply fleet.yaml --yes",
        "older ones are not shown: --limit N",
    ]
    (ended,) = [line for line in said(capsys, "history", "--audit").splitlines() if "  ended  r1 " in line]
    assert "  a/nemotron=sha256:aaaaaaaaaaaa  passed  " in ended
    (row,) = [
        one
        for one in json.loads(said(capsys, "history", "--audit", "--json"))
        if (one["action"], one["run_id"]) == ("ended", "r1")
    ]
    assert row["images"] == ["a/nemotron=sha256:" + "a" * 64]


def test_two_runs_side_by_side(told: History, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "compare", "r1", "r3").splitlines()
    assert lines[:10] == [
        "A: r1, 2026-11-24 08:00, passed",
        "B: r3, 2026-11-26 08:00, a gate failed",
        "",
        "a, nemotron",
        "  vLLM: 0.12.0 → 0.13.0",
        "  image: aaaaaaaaaaaa → bbbbbbbbbbbb",
        "  driver: 580.95 → 590.1",
        "  figure                       A      B  B against A   noise",
        "  output_throughput        5,000  4,400      −12.0 %   1.4 %  worse",
        "  total_token_throughput  10,000  8,800      −12.0 %   1.4 %  worse",
    ]
    assert lines[-1].split("  ")[-1] == "within noise"
    assert said(capsys, "compare", "r4", "r5").splitlines()[3:] == ["neither run has a benchmark"]
    assert said(capsys, "compare", "r4", "r1").splitlines()[3:] == ["a, nemotron", "  only run B has a benchmark of it"]


def test_loads_that_differ_are_not_compared(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.measured(5000.0)
    history.ran(lambda store, run_id: store.add_verdict(run_id, verdict("a", output=100.0), workload="other"))
    assert said(capsys, "compare", "r1", "r2").splitlines()[3:] == [
        "a, nemotron",
        "  driver: 580.95 → –",
        "  measured under different loads or on other hardware: figures cannot be compared",
    ]


def test_baselines(told: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        said(capsys, "baseline", "show", "a")
        == """\
fleet  host  server    hardware  load  output tok/s  made of          noise  peers             last
demo   a     nemotron  h200      load         5,025  2 of 2 accepted  1.4 %      –  4,400 (−12.4 %)
"""
    )
    assert said(capsys, "baseline", "show", "b") == "nothing was accepted yet on b\n"


def test_a_loss_is_accepted_only_as_a_new_beginning(told: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "baseline", "accept", "r3", code=Exit.BAD_INPUT) == (
        "error: a, nemotron: output_throughput 4,400 tok/s is 12.0 % below …\n"
        "  hint: --replace makes it the new baseline: what was accepted before does not count any more\n"
    )
    assert said(capsys, "baseline", "accept", "r3", "--replace", "--note", "new cooling") == (
        "a, nemotron: the baseline begins anew with 4,400 output tok/s (2026-11-26 08:01) of run r3\n"
    )
    assert "4,400  1 of 1 accepted" in said(capsys, "baseline", "show", "a")
    assert "FAILED          4,400  −12.9 %  begins" in said(capsys, "history", "a")
    assert said(capsys, "history", "--audit", "--limit", "1").splitlines()[1].split("  ")[1:3] == ["bert", "replaced"]


def test_what_failed_another_gate_is_no_baseline(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    failed = CheckResult(name="no request failed", passed=False, detail="2 of 32 failed", seconds=0.0)
    history.measured(5000.0, accept=False, exit_code=3, passed=False, reasons=("x",), checks=(failed,))
    assert said(capsys, "baseline", "accept", "--replace", code=Exit.BAD_INPUT) == (
        "error: a, nemotron: did not pass: 2 of 32 failed\n  hint: what fails other gates cannot be a baseline\n"
    )


def test_an_accepted_one_by_hand(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.measured(5000.0, accept=False)
    assert (
        said(capsys, "baseline", "accept") == "a, nemotron: accepted 5,000 output tok/s (2026-11-24 08:01) of run r1\n"
    )
    assert said(capsys, "baseline", "accept", "--host", "b", code=Exit.BAD_INPUT) == (
        "error: run r1, host b: it has no benchmark\n  hint: `provision history b`\n"
    )


def test_for_programs(told: History, capsys: pytest.CaptureFixture[str]) -> None:
    runs = json.loads(said(capsys, "history", "--json"))
    assert [(one["run"]["id"], one["state"]) for one in runs][:2] == [("r5", "interrupted"), ("r4", "a host failed")]
    steps = json.loads(said(capsys, "history", "a", "--json"))
    assert [step["measured"]["result"]["output_throughput"] for step in steps if step["measured"]] == [4400, 5050, 5000]
    compared = json.loads(said(capsys, "compare", "r1", "r3", "--json"))
    first = compared["servers"][0]["differences"][0]
    assert (first["figure"], first["beyond_noise"], first["better"]) == ("output_throughput", True, False)
    assert first["change"] == pytest.approx(-0.12)
    (shown,) = json.loads(said(capsys, "baseline", "show", "--json"))
    assert shown["made_of"] == ["r1", "r2"]
    assert json.loads(said(capsys, "history", "--audit", "--json"))[0]["action"] == "began"
    (taken,) = json.loads(said(capsys, "baseline", "accept", "r1", "--json"))
    assert (taken["accepted"], taken["host"]) == (True, "a")


def test_completion(told: History) -> None:
    assert complete.run_ids("r") == ["r5", "r4", "r3", "r2", "r1"]
    assert complete.hosts("") == ["a", "b"]
    told.path.write_text("no database at all" * 100)
    assert complete.run_ids("") == []


def test_noise_of_a_figure_is_the_history_s(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    for output in (5000.0, 5600.0, 4700.0, 5300.0, 5100.0):
        history.measured(output)
    history.measured(4500.0)
    (server,) = json.loads(said(capsys, "compare", "r1", "latest", "--json"))["servers"]
    assert not server["differences"][0]["beyond_noise"]
    assert server["differences"][0]["noise"] > 0.04
    assert result().e2el is None
    assert "mean_e2el_ms" not in {one["figure"] for one in server["differences"]}
