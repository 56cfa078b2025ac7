"""The units of a schedule, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import fleet

from provisioner.errors import UsageError
from provisioner.fleet.models import Fleet
from provisioner.fleet.notify import Notify
from provisioner.fleet.schedule import Schedule
from provisioner.rollout.timer import Place, fleet_of, units

USER = Place("user", ("/opt/p/bin/provision",), Path("/home/ops"), Path("/home/ops/.local/state"))
SYSTEM = Place("system", ("/opt/p/bin/provision",), Path("/home/ops"), Path("/home/ops/.local/state"), "ops")
SATURDAY = Schedule(calendar="Sat *-*-* 02:00", time_zone="Europe/Berlin", jitter="15m")

TIMER = """\
# Written by `provision schedule install`; change the fleet file and install again.
# X-Provision-Fleet=/srv/fleets/fleet.yaml
[Unit]
Description=provision: when the fleet nights is looked at

[Timer]
OnCalendar=Sat *-*-* 02:00 Europe/Berlin
# A time that passed while this machine was off is made up for, once.
Persistent=true
RandomizedDelaySec=900
AccuracySec=1s
Unit=provision-nights@timer.service

[Install]
WantedBy=timers.target
"""
SERVICE_OF_A_USER = """\
# Written by `provision schedule install`; change the fleet file and install again.
# X-Provision-Fleet=/srv/fleets/fleet.yaml
[Unit]
Description=provision: the fleet nights, started by %i

[Service]
Type=oneshot
ExecStart=/opt/p/bin/provision schedule run /srv/fleets/fleet.yaml --started-by %i
WorkingDirectory=/srv/fleets
Environment="PATH=/opt/p/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Environment="XDG_STATE_HOME=/home/ops/.local/state"
Environment="ANSIBLE_HOME=/home/ops/.local/state/provision/ansible"
# Secrets that the fleet file refers to as env:NAME, one NAME=value a line; readable by its owner alone.
EnvironmentFile=-/home/ops/.config/provision/nights.env
# 5: there was something to do, and no time for it; 6: another run was at work.
SuccessExitStatus=5 6
# The run is told and ends in order, with what it started; what is left after ten minutes is killed.
KillMode=mixed
TimeoutStopSec=10min
UMask=0077
# A mail system's set-group-id programs need what these forbid: with `email` in `notify` they are left out.
NoNewPrivileges=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""
SERVICE_OF_THE_SYSTEM = (
    SERVICE_OF_A_USER.replace(
        "started by %i\n", "started by %i\nWants=network-online.target\nAfter=network-online.target\n"
    ).replace("Type=oneshot\n", "Type=oneshot\nUser=ops\n")
    + """\
PrivateDevices=yes
ProtectClock=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectSystem=strict
ReadWritePaths="-/home/ops/.local/state/provision"
ReadWritePaths="-/srv/fleets"
"""
)


def nights(path: str = "/srv/fleets/fleet.yaml", **more: object) -> Fleet:
    changes = {"name": "nights", "path": Path(path), "schedule": SATURDAY, **more}
    return fleet().model_copy(update=changes)


def test_units_of_a_user() -> None:
    assert units(nights(), USER) == {
        "provision-nights@.service": SERVICE_OF_A_USER,
        "provision-nights.timer": TIMER,
    }


def test_units_of_the_system() -> None:
    assert units(nights(), SYSTEM) == {
        "provision-nights@.service": SERVICE_OF_THE_SYSTEM,
        "provision-nights.timer": TIMER,
    }


def test_mails_need_programs_with_more_rights() -> None:
    service = units(nights(notify=(Notify(on=("failed",), email=("root",)),)), SYSTEM)["provision-nights@.service"]
    lines = service.splitlines()
    assert "NoNewPrivileges=yes" not in lines
    assert "PrivateDevices=yes" not in lines
    assert lines[-1] == 'ReadWritePaths="-/var/spool"'
    assert "ProtectSystem=strict" in lines


def test_paths_with_anything_in_them() -> None:
    service = units(nights('/srv/100% of "it"/a fleet.yaml'), SYSTEM)["provision-nights@.service"]
    lines = service.splitlines()
    assert 'ExecStart=/opt/p/bin/provision schedule run "/srv/100%% of \\"it\\"/a fleet.yaml" --started-by %i' in lines
    assert 'WorkingDirectory=/srv/100%% of "it"' in lines
    assert 'ReadWritePaths="-/srv/100%% of \\"it\\""' in lines


def test_whose_they_are() -> None:
    for text in units(nights(), USER).values():
        assert fleet_of(text) == Path("/srv/fleets/fleet.yaml")
    assert fleet_of("[Unit]\n") is None


def test_without_a_calendar() -> None:
    with pytest.raises(UsageError) as caught:
        units(nights(schedule=Schedule()), USER)
    assert str(caught.value) == (
        "/srv/fleets/fleet.yaml: it has no schedule.calendar\n  hint: for example: schedule: {calendar: Sat 02:00}"
    )
