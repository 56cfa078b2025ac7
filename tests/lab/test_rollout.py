"""Rollouts over two hosts that serve: a good release reaches both, a bad one stops at the canary, which goes back."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support import FP8, Lab, chat, container, shell

from provisioner.history.steps import Step
from provisioner.history.store import default_path, open_store

NAME = "rollout"
DIES = {"SIM_FAULT": "die-on-first-request"}
"""a fault of the lab's engine"""


@pytest.fixture(scope="module")
def hosts(served: str, free_host: str) -> list[str]:
    return [served, free_host]


@pytest.fixture(scope="module")
def first(lab: Lab, hosts: list[str]) -> str:
    """Both hosts serve a release that passed."""
    done = lab.run(_fleet(lab, hosts, "1"), "--yes", "--smoke")
    assert done.rc == 0, str(done)
    return _release(hosts[0])


def _fleet(lab: Lab, hosts: list[str], release: str, **env: str) -> Path:
    rollout: dict[str, Any] = {"canary": 1, "analysis": "smoke"}
    return lab.write_fleet(NAME, hosts, env={"RELEASE": release, **env}, top_rollout=rollout)


def _release(host: str) -> str:
    return shell(host, "cat /var/lib/vllm/release")


def _env(host: str) -> str:
    return shell(host, "docker container inspect --format '{{.Config.Env}}' vllm-sim")


def _steps(lab: Lab) -> tuple[Step, ...]:
    with open_store(default_path(lab.state / "provision"), read_only=True) as store:
        return store.steps(store.run("latest", NAME).id)


def test_the_plan_shows_the_waves(lab: Lab, hosts: list[str], first: str) -> None:
    done = lab.run("plan", _fleet(lab, hosts, "2"))
    assert done.rc == 5, str(done)
    said = (
        f"rollout: 2 waves\n  1. canary   {hosts[0]}\n  2. batch 1  {hosts[1]}\n"
        "  gate of each: smoke; it stops at the first failed host and rolls its wave back\n"
    )
    assert said in done.stdout, str(done)


def test_a_bad_release_stops_at_the_canary_which_goes_back(lab: Lab, hosts: list[str], first: str) -> None:
    canary, other = hosts
    before = container(other)
    done = lab.run(_fleet(lab, hosts, "2", **DIES), "--yes")
    assert done.rc == 3, str(done)
    assert f"rollout stopped at canary: its gate failed: {canary}\n" in done.stdout, str(done)
    assert f"{canary}: serves its release " in done.stdout, str(done)
    assert "0 of 2 hosts served and validated (0 untouched, 1 not reached)" in done.stdout, str(done)
    assert container(other) == before
    assert "RELEASE=1" in _env(canary)
    assert _release(canary) == first
    assert chat(canary, FP8)[0] == 200
    kinds = [(step.kind, step.hosts) for step in _steps(lab) if step.hosts]
    assert kinds[1:] == [
        ("wave", (canary,)),
        ("failed", (canary,)),
        ("rolling_back", (canary,)),
        ("rolled_back", (canary,)),
    ]
    audit = lab.run("history", "--audit", "--fleet", NAME)
    assert "rolled_back" in audit.stdout, str(audit)


def test_a_good_release_reaches_all_though_its_run_is_killed(lab: Lab, hosts: list[str], first: str) -> None:
    """kill -9 in the second wave: the same command goes on there, and does not touch the canary again."""
    canary, other = hosts
    fleet, runs = _fleet(lab, hosts, "3"), lab.runs(NAME)
    with lab.started(fleet, "--yes") as run:
        run.wait_for_task(NAME, runs, f'"host":"{other}","phase":"apply"')
        os.kill(run.process.pid, signal.SIGKILL)
        run.wait(60)
    done_already = container(canary)
    assert "RELEASE=3" in _env(canary)
    again = lab.run("resume", fleet)
    assert again.rc == 0, str(again)
    assert container(canary) == done_already
    assert "RELEASE=3" in _env(other)
    assert _release(canary) == _release(other) != first
    nothing = lab.run(fleet, "--yes", "--smoke")
    assert nothing.rc == 0, str(nothing)


def test_back_by_hand(lab: Lab, hosts: list[str], first: str) -> None:
    fleet = _fleet(lab, hosts, "3")
    listed = lab.run("releases", fleet)
    assert listed.rc == 0, str(listed)
    assert len(listed.stdout.splitlines()) >= 5, str(listed)
    done = lab.run("rollback", fleet, "--yes", "--smoke", "--hosts", hosts[1])
    assert done.rc == 0, str(done)
    assert "RELEASE=1" in _env(hosts[1])
    assert _release(hosts[1]) == first
    assert "RELEASE=3" in _env(hosts[0])
    plan = lab.run("plan", fleet, "--hosts", hosts[1])
    assert plan.rc == 5, str(plan)
