"""`provision destroy` from words to exit codes: what the hosts answer is given, Ansible is not run."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from leasing import LeaseHosts

from provisioner.apply.runner import HostResult
from provisioner.cli.main import run
from provisioner.errors import Exit, UnreachableError
from provisioner.history.turn import control_id, holder, turn
from provisioner.hosts import lease
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.lease import Who
from provisioner.rollout import removal
from provisioner.rollout.removal import BEGIN, END

FLEET = "hosts: [a, b]\nservers:\n  nemotron: {recipe: nemotron-3-nano}\n"
UNITS = "/etc/systemd/system"
CACHE = "/var/lib/vllm/huggingface"
LIST = """
a
  - server x: /etc/systemd/system/vllm-x.service
  = stays: weights /var/lib/vllm/huggingface: not asked for (--purge-weights)
b
  nothing of ours is here
"""


def found(*servers: str, weights: bool = False) -> dict[str, Any]:
    """What a look at a host finds."""
    return {
        "record": {"parts": {"model_weights": {"paths": {CACHE: "missing"}}} if weights else {}},
        "now": {"packages": {}, "groups": [], "paths": {CACHE: "kept"}, "settings": {}, "images": {}, "services": {}},
        "look": {
            "servers": [{"name": x, "unit": f"{UNITS}/vllm-{x}.service", "secret_path": ""} for x in servers],
            "own": [],
            "docker": None,
            "manager": "apt",
            "needed_by": {},
            "sizes": {},
            "mounts": {},
        },
    }


class Stage:
    """Two hosts, what is found there, and what was run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.patch = folder, monkeypatch
        self.leases = LeaseHosts(monkeypatch, folder / "leases")
        self.found: dict[str, Any] = {"a": found("x", weights=True), "b": found()}
        self.after_look: Callable[[str], object] = lambda _host: None
        """what happens on a host right after it was looked at"""
        self.ran: list[tuple[list[str], dict[str, Any]]] = []
        self.results: dict[str, HostResult] = {}
        self.path = str(folder / "fleet.yaml")
        Path(self.path).write_text(FLEET)
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.setattr("sys.stdin", io.StringIO())
        monkeypatch.setattr("provisioner.cli.looking.connect", lambda host, _: self.open(host.name))
        monkeypatch.setattr(removal, "reset", self.reset)

    def open(self, host: str) -> FakeTransport:
        if isinstance(self.found[host], Exception):
            raise self.found[host]
        return FakeTransport(host, [("", lambda _, stdin: self.leases.answer(host, stdin) or self.look(host))])

    def look(self, host: str) -> str:
        """What a host's python3 prints, after a greeting of its shell."""
        if not self.found[host]:
            return ""
        told = {**self.found[host], "lease": self.leases.file(host) or "", "uptime": f"{self.leases.clock} 1.5\n"}
        self.after_look(host)
        return f"Welcome!\n{BEGIN}\n{json.dumps(told)}\n{END}\n"

    def reset(
        self, run_dir: Path, fleet: Any, hosts: Sequence[str], variables: Any, **_: Any
    ) -> tuple[HostResult, ...]:
        self.ran.append((list(hosts), dict(variables)))
        return tuple(self.results.get(host, HostResult(host=host, state="ok", changed=3)) for host in hosts)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return Stage(monkeypatch, tmp_path)


def test_what_goes_and_what_stays(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["destroy", stage.path, "--dry-run"]) == Exit.CHANGES
    assert capsys.readouterr().out == LIST
    assert stage.ran == []


def test_without_a_terminal_and_yes_nothing_happens(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["destroy", stage.path]) == Exit.BAD_INPUT
    assert capsys.readouterr().err.endswith(
        "error: there is no terminal to ask at\n  hint: add --yes to take away without asking\n"
    )
    assert stage.ran == []


@pytest.mark.parametrize(("typed", "code", "runs"), [("y\n", Exit.OK, 1), ("n\n", Exit.CHANGES, 0)])
def test_somebody_is_asked(stage: Stage, capsys: pytest.CaptureFixture[str], typed: str, code: Exit, runs: int) -> None:
    stage.patch.setattr("provisioner.cli.console.at_terminal", lambda: True)
    stage.patch.setattr("sys.stdin", io.StringIO(typed))
    assert run(["destroy", stage.path]) == code
    said = capsys.readouterr().err
    assert LIST in said
    assert "Take this away from 1 of 2 hosts? [y/N] " in said
    assert len(stage.ran) == runs


def test_only_hosts_with_something_of_ours_are_touched(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["destroy", stage.path, "--yes", "--purge-weights", "--purge-docker"]) == Exit.OK
    assert stage.ran == [(["a"], {"removal_weights": True, "removal_docker": True})]
    out = capsys.readouterr().out
    (run_dir,) = (path for path in stage.folder.glob("state/provision/runs/*/*") if not path.is_symlink())
    assert out == f"\n1 of 2 hosts cleared (1 had nothing of ours to take away)\nrecord: {run_dir}\n"
    assert json.loads((run_dir / "record.json").read_text())["exit_code"] == 0
    assert json.loads((run_dir / "removal.json").read_text())["hosts"]["a"]["state"] == "ok"


def test_nothing_to_take_away(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["destroy", stage.path, "--hosts", "b"]) == Exit.OK
    assert capsys.readouterr().out == "\nb\n  nothing of ours is here\n"


def test_a_host_that_fails(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.results["a"] = HostResult(
        host="a", state="failed", changed=0, message="removal: Remove packages: locked\nby apt"
    )
    assert run(["destroy", stage.path, "--yes", "--json"]) == Exit.HOST_FAILED
    out, err = capsys.readouterr()
    told = json.loads(out)["hosts"]
    assert (told["a"]["state"], told["b"]["state"], told["b"]["goes"]) == ("failed", None, [])
    assert "a: failed: removal: Remove packages: locked\n    by apt\n0 of 2 hosts cleared" in err


def test_nothing_of_the_lease_stays_where_all_went_well(stage: Stage) -> None:
    stage.found["b"] = found("y")
    stage.results["b"] = HostResult(host="b", state="failed", changed=0, message="locked")
    assert run(["destroy", stage.path, "--yes"]) == Exit.HOST_FAILED
    assert (stage.leases.folder / "a").exists() is False
    assert stage.leases.holder("b") is None
    assert stage.leases.file("b") is not None


class TestAlone:
    """A removal is a run like any other: nobody else is at work on its fleet and its hosts meanwhile."""

    OTHER = Who(user="eve", machine="control-2", control="c2", fleet="fleet", run="run-2")

    def take(self, stage: Stage, host: str, who: Who = OTHER) -> None:
        lease.take(stage.leases.transport(host), "t2", who, 300)

    def test_hosts_and_fleet_are_its_own_while_it_lasts(self, stage: Stage) -> None:
        during: list[Any] = []

        def reset(*_: Any, **__: Any) -> tuple[HostResult, ...]:
            during.extend((stage.leases.holder("a"), stage.leases.holder("b"), holder("fleet")))
            return (HostResult(host="a", state="ok", changed=3),)

        stage.patch.setattr(removal, "reset", reset)
        assert run(["destroy", stage.path, "--yes"]) == Exit.OK
        a, b, local = during
        assert (a["fleet"], b) == ("fleet", None)
        assert f"process {os.getpid()}" in local
        assert (stage.leases.holder("a"), holder("fleet")) == (None, None)

    def test_a_run_on_this_machine(self, stage: Stage) -> None:
        with turn("fleet", "provision fleet.yaml --yes"):
            assert run(["destroy", stage.path, "--yes"]) == Exit.LOCKED
            assert run(["destroy", stage.path, "--dry-run"]) == Exit.CHANGES
        assert (stage.ran, stage.leases.asked) == ([], [])

    def test_a_host_that_another_machine_is_at_work_on(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        self.take(stage, "a")
        assert run(["destroy", stage.path, "--yes"]) == Exit.LOCKED
        assert "\n  a: eve on control-2, run run-2 of fleet fleet, since " in capsys.readouterr().err
        assert stage.ran == []

    def test_a_host_that_was_changed_in_between_is_looked_at_again(
        self, stage: Stage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What another run brought meanwhile is shown, and asked for, before it is taken away."""

        def between(host: str) -> None:
            if host == "a" and stage.leases.file("a") is None:
                self.take(stage, "a")
                lease.release(stage.leases.transport("a"), "t2")
                stage.found["a"] = found("x", "y")

        stage.after_look = between
        assert run(["destroy", stage.path, "--yes"]) == Exit.OK
        before, again, after = capsys.readouterr().err.partition(
            "another run was at work since these hosts were looked at: looking again\n"
        )
        assert again
        unit = "  - server y: /etc/systemd/system/vllm-y.service\n"
        assert (unit in before, unit in after) == (False, True)
        assert [hosts for hosts, _ in stage.ran] == [["a"]]

    def test_what_another_run_has_taken_away_already(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        self.take(stage, "a")
        lease.release(stage.leases.transport("a"), "t2")  # some run that was there, long ago

        def between(host: str) -> None:
            if host == "a" and stage.found["a"] != found():
                self.take(stage, "a")
                lease.release(stage.leases.transport("a"), "t2", clear=True)
                stage.found["a"] = found()

        stage.after_look = between
        assert run(["destroy", stage.path, "--yes"]) == Exit.OK
        assert capsys.readouterr().out == "\na\n  nothing of ours is here\nb\n  nothing of ours is here\n"
        assert stage.ran == []

    def test_what_a_dead_run_left_is_given_back_where_there_is_nothing_to_take_away(self, stage: Stage) -> None:
        self.take(stage, "b", self.OTHER.model_copy(update={"control": control_id()}))
        assert run(["destroy", stage.path, "--hosts", "b"]) == Exit.OK
        assert stage.leases.holder("b") is None


class TestNotifications:
    @pytest.fixture(autouse=True)
    def _hook(self, stage: Stage) -> None:
        hook = stage.folder / "hook"
        hook.write_text('#!/bin/sh\ncat >> "$(dirname "$0")/told"\n')
        hook.chmod(0o755)
        rules = "[{on: [started, failed, finished], command: [./hook]}, {on: [started], command: [/no/such/hook]}]"
        Path(stage.path).write_text(f"{FLEET}notify: {rules}\n")

    def told(self, stage: Stage) -> list[tuple[str, str]]:
        file = stage.folder / "told"
        lines = map(json.loads, file.read_text().splitlines() if file.exists() else ())
        return [(one["event"], one["text"]) for one in lines]

    def test_a_removal(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        """And a hook that fails stops none."""
        assert run(["destroy", stage.path, "--yes"]) == Exit.OK
        assert self.told(stage) == [
            ("started", "a removal begins on 1 of 2 hosts: a"),
            ("finished", "a removal has ended well: 1 of 1 host cleared"),
        ]
        assert "warning: notify[1] (command): [Errno 2] No such file" in capsys.readouterr().err

    def test_one_that_fails(self, stage: Stage) -> None:
        stage.results["a"] = HostResult(host="a", state="failed", changed=0, message="removal: locked\nby apt")
        assert run(["destroy", stage.path, "--yes"]) == Exit.HOST_FAILED
        assert self.told(stage)[1:] == [
            ("failed", "a removal has failed (exit code 1): 0 of 1 host cleared\na: failed: removal: locked")
        ]

    def test_nothing_to_take_away_is_no_news(self, stage: Stage) -> None:
        assert run(["destroy", stage.path, "--dry-run"]) == Exit.CHANGES
        assert run(["destroy", stage.path, "--hosts", "b"]) == Exit.OK
        assert self.told(stage) == []


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (UnreachableError("b: refuses the connection"), Exit.UNREACHABLE, "b: refuses the connection\n"),
        ("", Exit.HOST_FAILED, "b: cannot tell what is ours: it printed nothing\n"),
    ],
)
def test_a_host_that_cannot_be_looked_at_stops_all(
    stage: Stage, capsys: pytest.CaptureFixture[str], said: Any, code: Exit, words: str
) -> None:
    stage.found["b"] = said
    assert run(["destroy", stage.path, "--yes"]) == code
    err = capsys.readouterr().err
    assert err.endswith(f"{words}nothing was changed; name the other hosts with --hosts to clear them alone\n")
    assert stage.ran == []
