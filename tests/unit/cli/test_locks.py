"""Two runs at once, from words to exit codes; `provision unlock`."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from builders import facts, file

from provisioner.cli.main import run
from provisioner.errors import Exit, UnreachableError
from provisioner.history.store import open_store
from provisioner.history.turn import control_id, holder, turn
from provisioner.hosts import lease
from provisioner.hosts.lease import Who
from provisioner.plan.facts import Facts
from provisioner.rollout.leases import Timing, leased
from provisioner.rollout.outcome import HostOutcome

from .test_commands import Stage, stage  # noqa: F401  a fixture

OTHER = Who(user="eve", machine="control-2", control="c2", fleet="fleet", run="run-2")


def theirs(stage: Stage, host: str = "a") -> str:  # noqa: F811
    lease.take(stage.leases.transport(host), "t2", OTHER, 300)
    held = stage.leases.holder(host)
    assert held
    return f"eve on control-2, run run-2 of fleet fleet, since {held['since']}"


def at_a_look(stage: Stage, found: Facts, later_s: float) -> Facts:  # noqa: F811
    """What a probe sees of a host with its lease's file as it is now, so much later."""
    seen = (*found.files, file(lease.FILE, stage.leases.file(found.host) or "{}"))
    return found.model_copy(update={"files": seen, "uptime_s": stage.leases.clock + later_s})


def test_a_host_that_another_machine_is_at_work_on(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    path = stage.hosts(a=facts("a"), b=facts("b"))
    who = theirs(stage)
    assert run([path, "--yes"]) == Exit.LOCKED
    assert capsys.readouterr().err.endswith(
        f"error: another run is at work on hosts of this one:\n  a: {who}\n"
        "  hint: wait for it: --lock-wait 10m. The lease of a run that died expires within 5 minutes; "
        "`provision unlock FLEET --reason TEXT` ends it at once\n"
    )
    assert (stage.executed, stage.runs, stage.leases.holder("b")) == ([], [], None)


def test_hosts_are_leased_while_a_run_lasts(stage: Stage) -> None:  # noqa: F811
    path = stage.hosts(a=facts("a"), b=facts("b"))
    during: list[Any] = []

    def execute(seen: Any, *_: Any, **__: Any) -> tuple[HostOutcome, ...]:
        during.extend(stage.leases.holder(host) for host in ("a", "b"))
        during.append(holder("fleet"))
        return tuple(HostOutcome(host.host.name, Exit.OK) for host in seen.hosts)

    stage.patch.setattr("provisioner.rollout.deploy.execute", execute)
    assert run([path, "--yes"]) == Exit.OK
    a, b, local = during
    assert a["run"] == b["run"] == stage.runs[0].name
    assert (a["control"], a["fleet"]) == (control_id(), "fleet")
    assert f"process {os.getpid()}" in local
    assert (stage.leases.holder("a"), stage.leases.holder("b"), holder("fleet")) == (None, None, None)


@pytest.mark.parametrize("words", [["plan"], ["probe"], ["drift"], ["--check"], ["apply", "--dry-run"]])
def test_commands_that_change_nothing_take_nothing(stage: Stage, words: list[str]) -> None:  # noqa: F811
    path = stage.hosts(a=stage.ready("a")) if stage.path.exists() else stage.hosts(a=facts("a"))
    theirs(stage)
    stage.patch.setattr("provisioner.cli.plan.ask_ansible", lambda *_, **__: ())
    asked = len(stage.leases.asked)
    with turn("fleet", "provision fleet.yaml"):
        assert run([*words[:1], path, *words[1:]]) in (Exit.OK, Exit.CHANGES)
    assert len(stage.leases.asked) == asked


def test_a_converged_fleet_asks_no_host_for_a_lease(stage: Stage) -> None:  # noqa: F811
    path = stage.hosts(a=facts("a"))
    stage.hosts(a=stage.ready("a"))
    assert run([path]) == Exit.OK
    assert stage.leases.asked == []


def test_what_a_dead_run_left_is_given_back_where_there_is_nothing_to_do(stage: Stage) -> None:  # noqa: F811
    """Killed once host `a` was as planned: no later run leases `a`, and another machine would wait for nobody."""
    path = stage.hosts(**{name: facts(name) for name in "abcd"})
    mine = OTHER.model_copy(update={"control": control_id()})
    left = {"a": mine, "b": OTHER, "c": mine.model_copy(update={"fleet": "alive"}), "d": None}
    seen = {}
    for host, who in left.items():
        if who:
            lease.take(stage.leases.transport(host), f"token-{host}", who, 300)
        seen[host] = at_a_look(stage, stage.ready(host), 0)
    stage.hosts(**seen)
    stage.leases.asked.clear()
    with turn("alive", "provision other.yaml"):
        assert run([path]) == Exit.OK
    assert stage.leases.asked == [("a", "release")]
    assert [bool(stage.leases.holder(host)) for host in left] == [False, True, True, False]


def test_a_host_of_a_dead_run_that_is_gone_now(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    path = stage.hosts(a=facts("a"))
    lease.take(stage.leases.transport("a"), "t1", OTHER.model_copy(update={"control": control_id()}), 300)
    stage.hosts(a=at_a_look(stage, stage.ready("a"), 100))
    stage.leases.away = {"a"}
    assert run([path]) == Exit.OK
    assert "a: its lease expires in 4 minutes: a: refused\n" in capsys.readouterr().err


def test_a_second_run_on_this_machine(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    path = stage.hosts(a=facts("a"))
    with turn("fleet", "provision fleet.yaml --yes"):
        assert run([path, "--yes"]) == Exit.LOCKED
    said = capsys.readouterr().err
    assert said.startswith("error: a run of fleet fleet is at work on this machine: ")
    assert said.endswith(": provision fleet.yaml --yes\n  hint: wait for its end: --lock-wait 10m\n")
    assert stage.world.requests == {}


def test_a_host_that_was_changed_in_between_is_looked_at_again(
    stage: Stage,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = stage.hosts(a=facts("a"))
    theirs(stage)
    lease.release(stage.leases.transport("a"), "t2")  # after the facts of this world were seen
    looks = []
    world = stage.world.probe_all

    def probe_all(*given: Any) -> Any:
        looks.append(1)
        if len(looks) == 2:
            stage.hosts(a=stage.ready("a"))  # that other run has done all there was to do
            return stage.world.probe_all(*given)
        return world(*given)

    stage.patch.setattr("provisioner.rollout.survey.probe_all", probe_all)
    assert run([path, "--yes"]) == Exit.OK
    out, err = capsys.readouterr()
    assert "another run was at work since these hosts were looked at: looking again\n" in err
    assert out == "\nnothing changed: 1 host is as planned and validated\n"
    assert (stage.executed, stage.leases.holder("a")) == ([], None)


def test_a_lease_that_is_lost_stops_the_run(stage: Stage) -> None:  # noqa: F811
    path = stage.hosts(a=facts("a"))
    stopped = []

    def execute(seen: Any, *_: Any, options: Any, **__: Any) -> tuple[HostOutcome, ...]:
        before = options.interrupted()
        lease.unlock(stage.leases.transport("a"), "unlocked by eve")
        for thread in threading.enumerate():
            if thread.name == "leases":
                thread.join(10)
        stopped.append((before, options.interrupted()))
        return (HostOutcome("a", Exit.INTERRUPTED),)

    stage.patch.setattr("provisioner.rollout.deploy.execute", execute)
    quick = functools.partial(leased, timing=Timing(renew_s=0.02))
    stage.patch.setattr("provisioner.rollout.leases.leased", quick)
    assert run([path, "--yes"]) == Exit.INTERRUPTED
    assert stopped == [(False, True)]


def test_others_who_are_at_work_all_the_time(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """What a probe sees of the lease is never what is there when it is taken."""
    path = stage.hosts(a=facts("a"))
    theirs(stage)
    lease.release(stage.leases.transport("a"), "t2")
    assert run([path, "--yes"]) == Exit.LOCKED
    assert capsys.readouterr().err.endswith(
        "error: other runs were at work on these hosts in between, 5 times\n  hint: --lock-wait 10m\n"
    )
    assert (stage.executed, stage.leases.holder("a")) == ([], None)


@pytest.mark.parametrize("word", ["10", "1x", "-1s", "1.5h", ""])
def test_a_time_that_is_none(stage: Stage, capsys: pytest.CaptureFixture[str], word: str) -> None:  # noqa: F811
    assert run([stage.hosts(a=facts("a")), "--yes", f"--lock-wait={word}"]) == Exit.BAD_INPUT
    words = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f'expected a length of time such as 90s, 10m or 1h30m, got "{word}"' in words


class TestUnlock:
    def test_it_says_whose_it_was(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
        path = stage.hosts(a=facts("a"), b=facts("b"))
        who = theirs(stage)
        assert run(["unlock", path, "--reason", "control-2 burnt down"]) == Exit.OK
        assert capsys.readouterr().out == f"a: unlocked; it was {who}\nb: was not locked\n"
        with open_store(read_only=True) as store:
            (row,) = store.audit()
        assert (row.action, row.hosts, row.verdict) == ("unlocked", ("a",), f"control-2 burnt down (a: {who})")
        assert json.loads(stage.leases.file("a") or "")["unlocked"].endswith(": control-2 burnt down")
        assert stage.leases.holder("a") is None

    def test_one_host_alone(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
        path = stage.hosts(a=facts("a"), b=facts("b"))
        theirs(stage, "a"), theirs(stage, "b")
        assert run(["unlock", path, "--reason", "x", "--hosts", "b"]) == Exit.OK
        assert capsys.readouterr().out.startswith("b: unlocked; it was eve")
        assert stage.leases.holder("a")

    def test_a_host_that_is_away(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
        path = stage.hosts(a=facts("a"), b=UnreachableError("b: refused"))
        stage.leases.away = {"b"}
        assert run(["unlock", path, "--reason", "x"]) == Exit.UNREACHABLE
        assert capsys.readouterr() == ("a: was not locked\n", "b: refused\n")

    def test_a_run_that_is_alive_here(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
        path = stage.hosts(a=facts("a"))
        with turn("fleet", "provision fleet.yaml"):
            assert run(["unlock", path, "--reason", "x"]) == Exit.LOCKED
        said = capsys.readouterr().err
        assert said.startswith("error: a run of fleet fleet is alive on this machine: ")
        assert said.endswith("\n  hint: end that instead\n")

    def test_without_a_reason(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
        path = stage.hosts(a=facts("a"))
        assert run(["unlock", path, "--reason", " "]) == Exit.BAD_INPUT
        assert capsys.readouterr().err == "error: --reason is empty: say why, for the audit log\n"
        assert run(["unlock", path]) == Exit.BAD_INPUT
        assert "Missing option '--reason'" in capsys.readouterr().err


def test_nobody_has_it(tmp_path: Path) -> None:
    assert holder("fleet", tmp_path) is None
    with turn("fleet", "x", root=tmp_path):
        file = os.open(tmp_path / "locks" / "fleet.lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(file)
    assert holder("fleet", tmp_path) is None
