"""`provision destroy` from words to exit codes: what the hosts answer is given, Ansible is not run."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from leasing import LeaseHosts

from provisioner.apply.runner import HostResult
from provisioner.cli.main import run
from provisioner.errors import Exit, UnreachableError
from provisioner.hosts.fake import FakeTransport
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


def answer(*servers: str, weights: bool = False) -> str:
    """What a host's python3 prints, after a greeting of its shell."""
    told = {
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
    return f"Welcome!\n{BEGIN}\n{json.dumps(told)}\n{END}\n"


class Stage:
    """Two hosts, what they answer, and what was run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.patch = folder, monkeypatch
        self.leases = LeaseHosts(monkeypatch, folder / "leases")
        self.said: dict[str, Any] = {"a": answer("x", weights=True), "b": answer()}
        self.ran: list[tuple[list[str], dict[str, Any]]] = []
        self.results: dict[str, HostResult] = {}
        self.path = str(folder / "fleet.yaml")
        Path(self.path).write_text(FLEET)
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.setattr("sys.stdin", io.StringIO())
        monkeypatch.setattr("provisioner.cli.looking.connect", lambda host, _: self.open(host.name))
        monkeypatch.setattr(removal, "reset", self.reset)

    def open(self, host: str) -> FakeTransport:
        said = self.said[host]
        if isinstance(said, Exception):
            raise said
        return FakeTransport(host, [("", lambda _, stdin: self.leases.answer(host, stdin) or said)])

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
    stage.said["b"] = answer("y")
    stage.results["b"] = HostResult(host="b", state="failed", changed=0, message="locked")
    assert run(["destroy", stage.path, "--yes"]) == Exit.HOST_FAILED
    assert (stage.leases.folder / "a").exists() is False
    assert stage.leases.holder("b") is None
    assert stage.leases.file("b") is not None


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
    stage.said["b"] = said
    assert run(["destroy", stage.path, "--yes"]) == code
    err = capsys.readouterr().err
    assert err.endswith(f"{words}nothing was changed; name the other hosts with --hosts to clear them alone\n")
    assert stage.ran == []
