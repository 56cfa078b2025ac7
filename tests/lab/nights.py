"""A lab host with systemd as the control machine of itself: a timer starts rollouts, does not overlap, catches up.

`control.install` has put the program there. Too slow for the suite: `make rollouts` runs it.
"""

from __future__ import annotations

import json
from typing import Any

from control import FLEETS, HOME, provision, write_fleet
from support import Lab, container, shell, wait_for

TIMER = "provision-nights.timer"
SERVICE = "provision-nights@timer.service"
STATE = "/root/.local/state/provision/runs/nights"


def remove(host: str) -> None:
    """Takes the program and the timer away again."""
    shell(host, f"systemctl disable --now {TIMER}; rm -rf {HOME} {FLEETS} /etc/systemd/system/provision-nights*; true")


def fleet(lab: Lab, host: str, calendar: str, number: int, *, slow: str = "0.1", **schedule: Any) -> str:
    """A fleet file on the control machine; `number` makes it another plan."""
    env = {"NIGHT": str(number), "SIM_STARTUP_SECONDS": slow}
    path = lab.write_fleet("nights", [host], env=env)
    return write_fleet(lab, host, path, schedule={"calendar": calendar, "time_zone": "UTC", **schedule})


def begins_and_does_not_overlap(lab: Lab, control: str) -> str:
    """At its minute; meanwhile every other run of the fleet leaves."""
    when = shell(control, "date -u -d '+25 seconds' '+%H:%M:%S'").strip()
    path = fleet(lab, control, f"*-*-* {when}", 1, slow="8")
    provision(control, f"schedule install {path} --system")
    (one,) = json.loads(provision(control, "schedule list --json"))
    assert when in one["next"]
    wait_for(lambda: active(control) == "activating", 90, lambda: f"the run; so far:\n{journal(control)}", every=0.5)
    began = shell(control, f"systemctl show -P ExecMainStartTimestamp {SERVICE}").split()[2]
    assert seconds(began) - seconds(when) in range(5), (began, when)
    wait_for(lambda: "holder" in shell(control, "cat /run/provision/lease.json; true"), 60, "the lease")
    refused = provision(control, f"{path} --yes --smoke", rc=6)
    assert "a run of fleet nights is at work on this machine" in refused
    provision(control, f"schedule run-now {path} --system")
    said = "a run of fleet nights is at work on this machine"
    wait_for(lambda: said in journal(control, "hand"), 60, lambda: f"run-now; so far:\n{journal(control, 'hand')}")
    assert shell(control, "systemctl is-failed provision-nights@hand.service; true").strip() != "failed"
    ended(control, "0")
    assert night(control) == "1"
    assert len(runs(control)) == 1
    return f"planned for {when}, begun at {began}"


def catches_up_once(lab: Lab, control: str) -> None:
    """The control machine was off at the planned time: it is made up for, once, and only within the window."""
    planned = shell(control, "date -u -d '-2 hours' '+%H:%M'").strip()
    stamp = f"/var/lib/systemd/timers/stamp-{TIMER}"
    for number, window, done in ((2, "+1 hour", "2"), (3, "-1 hour", "2")):
        latest = shell(control, f"date -u -d '{window}' '+%H:%M'").strip()
        path = fleet(lab, control, f"*-*-* {planned}", number, window={"latest_start": latest})
        shell(control, f"systemctl stop {TIMER}; touch {stamp}")
        provision(control, f"schedule install {path} --system")
        before = exited(control)
        shell(control, f"systemctl stop {TIMER} && touch -d '-3 hours' {stamp} && systemctl start {TIMER}")
        ended(control, before)
        assert night(control) == done, journal(control)
    assert "too late: planned for " in journal(control)
    there = runs(control)
    shell(control, f"systemctl restart {TIMER}")
    assert active(control) != "activating"
    assert runs(control) == there


def changes_nothing_and_is_removed(lab: Lab, control: str) -> None:
    """Where all is as planned it reports that and begins no run."""
    path = fleet(lab, control, "Sat 02:00", 2)
    provision(control, f"schedule install {path} --system")
    before, same = runs(control), container(control)
    provision(control, f"schedule run-now {path} --system")
    wait_for(lambda: "1 host: 1 as planned, 0 not as planned" in journal(control, "hand"), 60, "a drift report")
    assert (runs(control), container(control)) == (before, same)
    provision(control, f"schedule remove {path} --system")
    assert "nights" not in provision(control, "schedule list")
    assert shell(control, f"ls /etc/systemd/system/{TIMER} 2>/dev/null; true") == ""


def active(host: str) -> str:
    return shell(host, f"systemctl show -P ActiveState {SERVICE}").strip()


def exited(host: str) -> str:
    """When the timer's last run ended, by a clock that only systemd knows; 0: never, or one goes on."""
    return shell(host, f"systemctl show -P ExecMainExitTimestampMonotonic {SERVICE}").strip()


def ended(host: str, before: str) -> None:
    """Waits for the end of a run of the timer's that is not the one `before`; it ended well."""
    over = lambda: exited(host) not in ("", "0", before) and active(host) == "inactive"  # noqa: E731
    wait_for(over, 240, lambda: f"the end of the run; so far:\n{journal(host)}")
    assert shell(host, f"systemctl show -P ExecMainStatus {SERVICE}").strip() == "0", journal(host)


def runs(host: str) -> list[str]:
    return shell(host, f"ls {STATE} 2>/dev/null | grep -v latest; true").split()


def night(host: str) -> str:
    lines = shell(host, "docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' vllm-sim").splitlines()
    return next((line.partition("=")[2] for line in lines if line.startswith("NIGHT=")), "")


def journal(host: str, by: str = "timer") -> str:
    return shell(host, f"journalctl -o cat --no-pager -u provision-nights@{by}.service; true")


def seconds(clock: str) -> int:
    hours, minutes, rest = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(rest)
