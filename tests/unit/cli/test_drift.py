"""`provision drift` from words to exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import converged, facts, file, plan
from worlds import World, proven

from provisioner.cli.main import run
from provisioner.errors import Exit, ProvisionError, UnreachableError
from provisioner.fleet.load import load_fleet
from provisioner.plan.facts import Facts

UNIT = "/etc/systemd/system/vllm-nemotron.service"


class Stage:
    """A fleet of hosts whose facts are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.path = folder / "fleet.yaml"
        self.path.write_text("hosts: [a, b, c]\nservers:\n  nemotron: {recipe: nemotron-3-nano}\n")
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        self.world = World({name: self.ready(name) for name in ("a", "b", "c")})
        monkeypatch.setattr("provisioner.rollout.survey.probe_all", lambda *given: self.world.probe_all(*given))

    def ready(self, host: str) -> Facts:
        the_plan = plan(load_fleet(self.path), facts(host))
        return proven(converged(the_plan), the_plan)

    def edited(self, host: str) -> Facts:
        there = self.ready(host)
        files = tuple(file(one.path, "by hand") if one.path == UNIT else one for one in there.files)
        return there.model_copy(update={"files": files})

    def see(self, **found: Facts | ProvisionError) -> None:
        self.world = World({**self.world.hosts, **found})


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return Stage(monkeypatch, tmp_path)


def test_as_planned(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drift", str(stage.path)]) == Exit.OK
    assert capsys.readouterr().out == "3 hosts: 3 as planned, 0 not as planned\n"


def test_what_is_not(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.see(b=stage.edited("b"))
    assert run(["drift", str(stage.path)]) == Exit.CHANGES
    host, line, count = capsys.readouterr().out.splitlines()
    assert host == "b"
    assert line.startswith(f"  ~ vllm_server: {UNIT}: differs")
    assert " (since 2" in line
    assert count == "3 hosts: 2 as planned, 1 not as planned"


def test_a_host_that_is_away(stage: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stage.see(b=stage.edited("b"), c=UnreachableError("c: refused"))
    metrics = tmp_path / "metrics" / "drift.prom"
    assert run(["drift", str(stage.path), "--prometheus", str(metrics)]) == Exit.UNREACHABLE
    assert "  ! unreachable: refused (since " in capsys.readouterr().out
    assert 'provision_drift{fleet="fleet",host="b"} 1.0' in metrics.read_text().splitlines()
    assert [path.name for path in metrics.parent.iterdir()] == ["drift.prom"]


def test_json(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.see(a=stage.edited("a"))
    assert run(["drift", str(stage.path), "--json", "--hosts", "a"]) == Exit.CHANGES
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    (host,) = found["hosts"]
    (one,) = host["deviations"]
    assert (host["host"], host["seen"], one["kind"], one["subject"]) == ("a", True, "differs", f"vllm_server: {UNIT}")
    assert one["since"] == found["at"]
