"""What is not as planned, where and since when: data that monitoring reads."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from provisioner.fleet.base import Frozen


class Deviation(Frozen):
    """One thing on one host that is not as planned."""

    kind: Literal["differs", "unproven", "unfit", "unreachable"]
    subject: str
    """what it is: an Ansible role and a path, image or unit; a server; stays the same from one look to the next"""
    reason: str
    since: AwareDatetime | None = None
    """when a run or a drift check saw it first; None before it was looked up"""


class HostDrift(Frozen):
    """One host; without deviations it is as planned and validated."""

    host: str
    deviations: tuple[Deviation, ...] = ()
    seen: bool = True
    """False: it could not be looked at, so that what is on it is not known"""


class Drift(Frozen):
    """A fleet at one moment."""

    fleet: str
    at: AwareDatetime
    hosts: tuple[HostDrift, ...]

    @property
    def count(self) -> int:
        """How many things are not as planned."""
        return sum(len(host.deviations) for host in self.hosts)
