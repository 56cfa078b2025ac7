"""Two control machines at one host: one waits or leaves, and the host ends in one plan. The dead are in no way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Lab, Started, container, shell, wait_for

LEASE = "/run/provision/lease.json"


@pytest.fixture
def other(lab: Lab) -> dict[str, str]:
    """Environment of a second control machine: a state directory of its own."""
    return {"XDG_STATE_HOME": str(lab.folder / "other-control-machine")}


@pytest.fixture
def at_work(lab: Lab, served: str) -> Iterator[Started]:
    """The first one, in the middle of a run; its container is told to start slowly."""
    fleet = lab.write_fleet("first", [served], env={"CONTROL": "first", "SIM_STARTUP_SECONDS": "6"})
    with lab.started(fleet, "--yes", "--smoke") as started:
        wait_for(lambda: leased(served), 120, lambda: f"the lease of the first run; so far:\n{started.text}")
        yield started


def test_one_leaves_or_waits(lab: Lab, served: str, other: dict[str, str], at_work: Started) -> None:
    fleet = lab.write_fleet("second", [served], env={"CONTROL": "second"})
    left = lab.run(fleet, "--yes", "--smoke", env=other)
    assert left.rc == 6, str(left)
    run = lab.latest_run("first").name
    assert f"  {served}: " in left.stderr
    assert f", run {run} of fleet first, since 20" in left.stderr
    assert "--lock-wait 10m" in left.stderr
    looked = lab.run("plan", fleet, env=other)
    assert looked.rc == 5, str(looked)
    with lab.started(fleet, "--yes", "--smoke", "--lock-wait", "5m", env=other) as waiting:
        wait_for(lambda: "waiting for the end of that" in waiting.text, 60, lambda: f"waiting; so far:\n{waiting.text}")
        first, second = at_work.done(240), waiting.done(240)
    assert first.rc == 0, str(first)
    assert second.rc == 0, str(second)
    assert "another run was at work since these hosts were looked at: looking again" in second.stderr
    assert says(served) == "second"
    assert "0 to change" in lab.run("plan", fleet, env=other).stdout
    assert not leased(served)


def leased(host: str) -> bool:
    return '"holder"' in shell(host, f"cat {LEASE} 2>/dev/null || true")


def says(host: str) -> str:
    """Which control machine's plan the server runs."""
    container(host)
    lines = shell(host, "docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' vllm-sim").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("CONTROL="))
