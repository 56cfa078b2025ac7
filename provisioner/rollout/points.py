"""What a tuning works with: the points as plans, and how it speaks to its host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from provisioner.errors import UsageError
from provisioner.fleet.models import Fleet, Host
from provisioner.fleet.recipes import Recipe
from provisioner.history.events import Event, OnEvent, Phase, Status
from provisioner.history.rundir import Run
from provisioner.history.tuning import TunedPoint
from provisioner.hosts.transport import Transport
from provisioner.plan import model
from provisioner.plan.lock import UNLOCKED
from provisioner.plan.tuning import Candidate, point_key, share_s, tuned_fleet
from provisioner.rollout.connections import Connections
from provisioner.rollout.survey import HostSurvey, Survey, planned_again
from provisioner.validate.interrupt import Interrupted


@dataclass(frozen=True)
class Planned:
    """A point with the plan that serves it."""

    candidate: Candidate
    fleet: Fleet
    plan: model.HostPlan | None
    """None: it cannot be served, and `problem` says why"""
    key: str = ""
    problem: str = ""

    def server(self, name: str) -> model.Server:
        """Its server; only of one that has a plan."""
        return server_of(self.plan, name)


@dataclass
class Work:
    """What a tuning needs and what it knows so far."""

    seen: Survey
    """of one host, which is as planned"""
    server: str
    recipes: Mapping[str, Recipe]
    connections: Connections
    run: Run
    on_event: OnEvent
    interrupted: Interrupted
    budget_s: int
    known: Mapping[str, TunedPoint] = field(default_factory=dict)
    """points of earlier tunings, by key: not measured again"""
    regained: Callable[[], AbstractContextManager[object]] = nullcontext
    """the host, for as long as the server is put back; LockedError where somebody else has it by then"""
    clock: Callable[[], float] = time.monotonic

    @property
    def host(self) -> HostSurvey:
        return self.seen.hosts[0]


def server_of(plan: model.HostPlan | None, name: str) -> model.Server:
    """The server of that name; UsageError when the host has none."""
    for server in plan.servers if plan else ():
        if server.name == name:
            return server
    raise UsageError(f"--server {name}: it is not placed on this host")


def planned(work: Work, candidates: Iterable[Candidate]) -> tuple[Planned, ...]:
    """The plan of each point; points that come to the same server under the same load are one."""
    made: dict[str, Planned] = {}
    listed = tuple(candidates)
    seconds = share_s(work.budget_s, len(listed))
    for candidate in listed:
        one = _planned(work, candidate, seconds)
        made.setdefault(one.key or candidate.label, one)
    return tuple(made.values())


def fresh(work: Work, host: Host) -> Transport:
    """A new connection."""
    work.connections.drop(host)  # it may have died of idleness while Ansible or a benchmark worked
    return work.connections.connect(host)


def teller(work: Work, server: model.Server, phase: Phase) -> Callable[[str], None]:
    """Tells how far something is."""
    host = work.host.host.name
    return lambda text: work.on_event(event(host, phase, text, "running", server.name))


def event(host: str, phase: Phase, task: str, status: Status, server: str = "") -> Event:
    """What happens on the host."""
    return Event(host=host, phase=phase, task=task, status=status, server=server)


def _planned(work: Work, candidate: Candidate, seconds: int) -> Planned:
    name = work.host.host.name
    fleet = tuned_fleet(work.seen.fleet, name, work.server, candidate, seconds)
    again = planned_again(
        replace(work.seen, fleet=fleet), work.recipes, work.seen.lock or UNLOCKED, compare=False
    ).hosts[0]
    if again.plan is None or again.problems:
        return Planned(candidate, fleet, None, problem="; ".join(again.problems).partition("\n")[0])
    server = server_of(again.plan, work.server)
    facts = work.host.facts
    image = facts.image(server.image) if facts else None
    key = point_key(again.plan, server, facts.driver_version if facts else None, image.id if image else None)
    return Planned(candidate, fleet, again.plan, key)
