"""Whom a run tells of its beginning and its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import facts

from provisioner.cli.main import run
from provisioner.cli.told import tell_step
from provisioner.errors import Exit
from provisioner.fleet.notify import Notify
from provisioner.history.steps import Step
from provisioner.rollout.notify import Notifier
from provisioner.rollout.outcome import HostOutcome

from .test_commands import FLEET, Stage, stage  # noqa: F401  a fixture


def told(folder: Path) -> list[dict[str, Any]]:
    file = folder / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def notifying(stage: Stage, **hosts: Any) -> str:  # noqa: F811
    hook = stage.folder / "hook"
    hook.write_text('#!/bin/sh\ncat >> "$(dirname "$0")/told"\n')
    hook.chmod(0o755)
    rule = "{on: [started, failed, finished], command: [./hook]}"
    return stage.hosts(FLEET.format(hosts=", ".join(hosts)) + f"notify: [{rule}]\n", **hosts)


def test_a_good_run(stage: Stage) -> None:  # noqa: F811
    assert run([notifying(stage, a=facts("a"), b=facts("b")), "--yes"]) == Exit.OK
    first, last = told(stage.folder)
    assert (first["event"], first["text"], first["hosts"]) == (
        "started",
        "a run begins on 2 of 2 hosts: a, b",
        ["a", "b"],
    )
    assert (last["event"], last["text"]) == ("finished", "a run has ended well: 2 of 2 hosts served and validated")
    assert first["run"] == last["run"] == stage.runs[0].name
    assert first["fleet"] == "fleet"


def test_a_bad_run(stage: Stage) -> None:  # noqa: F811
    stage.outcomes = [HostOutcome("a", Exit.OK), HostOutcome("b", Exit.GATE_FAILED, message="too slow\nlog")]
    assert run([notifying(stage, a=facts("a"), b=facts("b")), "--yes"]) == Exit.GATE_FAILED
    _, last = told(stage.folder)
    assert (last["event"], last["exit_code"], last["hosts"]["b"]["exit_code"]) == ("failed", 3, 3)
    assert last["text"] == (
        "a run has failed (exit code 3): 1 of 2 hosts served and validated\n"
        "stopped: its gate failed: b\nb: gate failed: too slow"
    )


def test_an_interrupted_run(stage: Stage) -> None:  # noqa: F811
    stage.outcomes = KeyboardInterrupt()
    assert run([notifying(stage, a=facts("a")), "--yes"]) == Exit.INTERRUPTED
    assert [(one["event"], one["text"]) for one in told(stage.folder)][1:] == [("failed", "a run was interrupted")]


def test_nothing_to_do_is_no_news(stage: Stage) -> None:  # noqa: F811
    path = notifying(stage, a=facts("a"))
    stage.world.hosts = {"a": stage.ready("a")}
    assert run([path, "--yes"]) == Exit.OK
    assert told(stage.folder) == []


def test_what_fails_is_a_warning(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    rules = "[{on: [finished], command: [/no/such/hook]}, {on: [finished], webhook: 'env:NO_HOOK'}]"
    path = stage.hosts(FLEET.format(hosts="a") + f"notify: {rules}\n", a=facts("a"))
    assert run([path, "--yes"]) == Exit.OK
    said = capsys.readouterr().err
    assert "warning: notify[0] (command): [Errno 2] No such file or directory: '/no/such/hook'\n" in said
    assert "warning: notify[1] (webhook): the secret env:NO_HOOK is not set\n" in said


@pytest.mark.parametrize(
    ("step", "event", "text"),
    [
        (Step(kind="promoted", wave="canary", hosts=("a",)), "wave", "canary has passed its gate: a"),
        (Step(kind="rolled_back", hosts=("a",)), "rolled_back", "a serves its previous release again"),
        (
            Step(kind="stopped", hosts=("a",), detail="look at it"),
            "rolled_back",
            "a had no previous release and is stopped (look at it)",
        ),
        (Step(kind="lost", hosts=("a",)), "rolled_back", "a COULD NOT BE BROUGHT BACK: somebody must look"),
        (Step(kind="paused", wave="canary"), None, ""),
    ],
)
def test_steps_of_a_rollout(tmp_path: Path, step: Step, event: str | None, text: str) -> None:
    rule = Notify(on=("wave", "rolled_back"), command=("/bin/sh", "-c", 'cat >> "$0"', str(tmp_path / "told")))
    warnings: list[str] = []
    notifier = Notifier([rule], fleet="sim", run="r", warn=warnings.append, environment={})
    tell_step(notifier, step)
    assert [(one["event"], one["text"]) for one in told(tmp_path)] == ([(event, text)] if event else [])
    assert warnings == []
