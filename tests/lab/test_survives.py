"""Servers outlive what happens to hosts: a killed container, a reboot."""

from __future__ import annotations

import time
from pathlib import Path

from support import FP8, Lab, chat, container, health, shell, show, wait_for

from provisioner.lab import faults

BACK_S = 120


def test_a_killed_container_is_started_again(lab: Lab, served: str, as_planned: Path) -> None:
    before = container(served)
    restarts = _restarts(served)
    began = time.monotonic()
    faults.kill_container(served, "vllm-sim")
    wait_for(lambda: health(served), BACK_S, f"/health on {served} after docker kill")
    show(f"{time.monotonic() - began:6.1f} s  until the server answered again after docker kill")
    assert container(served) != before
    assert _restarts(served) == restarts + 1
    assert chat(served, FP8)[0] == 200
    plan = lab.run("plan", as_planned)
    assert plan.rc == 0, str(plan)


def test_a_reboot_brings_the_server_back(lab: Lab, served: str, as_planned: Path) -> None:
    before = container(served)
    began = time.monotonic()
    faults.reboot(served)
    show(f"{time.monotonic() - began:6.1f} s  until SSH answered after the reboot")
    wait_for(lambda: health(served), BACK_S, f"/health on {served} after the reboot")
    show(f"{time.monotonic() - began:6.1f} s  until the server answered after the reboot")
    assert container(served) != before
    status, body = chat(served, FP8)
    assert status == 200, body
    again = lab.run(as_planned, "--yes")
    assert again.rc == 0, str(again)
    assert "nothing changed" in again.stdout


def _restarts(host: str) -> int:
    return int(shell(host, "systemctl show vllm-sim --property=NRestarts --value"))
