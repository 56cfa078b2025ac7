"""Which hosts change together, and in which order. Pure: the same fleet gives the same waves on every run.

Waves are made of the whole fleet, not of the hosts with work: a run that was cut off goes on with the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from provisioner.fleet.rollout import Order, Rollout
from provisioner.plan.release import release_id
from provisioner.rollout.survey import HostSurvey, Survey

CANARY = "canary"
ALL = "all"
"""name of the one wave of a fleet that has nothing to lose"""


@dataclass(frozen=True)
class Member:
    """What waves need to know of a host."""

    name: str
    kind: str
    """hardware profile and platform; "" when no probe told it"""
    batch: str | None = None
    """its value of the label that batches go by"""
    release: str = ""
    """id of the release that it is to get; "" when it is not known. Chance hangs on it alone"""


@dataclass(frozen=True)
class Wave:
    """Hosts that are changed together. A gate stands behind it."""

    name: str
    hosts: tuple[str, ...]


def waves_of(seen: Survey) -> tuple[Wave, ...]:
    """The waves of a fleet that was looked at.

    One wave where nothing serves yet and the fleet file does not say `rollout`: there is nothing to lose, and nobody
    asked for more.
    """
    rollout = seen.fleet.rollout
    if not rollout.model_fields_set and not any(map(_serves, seen.hosts)):
        return (Wave(ALL, tuple(one.host.name for one in seen.hosts)),)
    return plan_waves(rollout, [_member(rollout, one) for one in seen.hosts])


def turns(seen: Survey) -> tuple[Wave, ...]:
    """The waves with something to do, of those hosts alone."""
    work = {one.host.name for one in seen.work}
    found = (Wave(wave.name, tuple(host for host in wave.hosts if host in work)) for wave in waves_of(seen))
    return tuple(wave for wave in found if wave.hosts)


def may_return(seen: Survey, hosts: Sequence[str], changed: Sequence[str]) -> tuple[str, ...]:
    """Those that get their previous release when the gate of a wave of `hosts` fails, after waves of `changed` have
    passed. One that has none is stopped at most."""
    candidates = {"never": (), "wave": tuple(hosts), "all": (*changed, *hosts)}[seen.fleet.rollout.rollback]
    released = {one.host.name for one in seen.hosts if one.release is not None}
    return tuple(host for host in candidates if host in released)


def _serves(seen: HostSurvey) -> bool:
    running = seen.facts.containers if seen.facts else ()
    return seen.release is not None or any(one.running and one.name.startswith("vllm-") for one in running)


def _member(rollout: Rollout, seen: HostSurvey) -> Member:
    kind = f"{seen.plan.hardware} {seen.plan.platform}" if seen.plan else ""
    batch = seen.host.batch(rollout.batch_by) if rollout.batch_by else None
    return Member(seen.host.name, kind, batch, release_id(seen.plan) if seen.plan else "")


def plan_waves(rollout: Rollout, members: Sequence[Member]) -> tuple[Wave, ...]:
    """Every host is in exactly one wave; no wave is empty. Canaries that are not among the members are left out."""
    members = in_order(rollout.order, members)
    canary = _canary(rollout, members)
    rest = [member for member in members if member.name not in canary]
    batches = _labelled(rollout.batch_by, rest) if rollout.batch_by else _sized(rollout, len(members), rest)
    first = [Wave(CANARY, canary)] if canary else []
    return (*first, *batches)


def in_order(order: Order, members: Sequence[Member]) -> list[Member]:
    """The members as `rollout.order` wants them. Chance is a hash of name and release: each host has its place by
    itself, so that one which is away in a later run takes no other along."""
    match order:
        case "inventory":
            return list(members)
        case "reverse_inventory":
            return list(reversed(members))
        case "sorted" | "reverse_sorted":
            return sorted(members, key=lambda member: member.name, reverse=order == "reverse_sorted")
        case "shuffle":
            return sorted(
                members, key=lambda member: hashlib.sha256(f"{member.release} {member.name}".encode()).digest()
            )


def _canary(rollout: Rollout, members: Sequence[Member]) -> tuple[str, ...]:
    names = [member.name for member in members]
    if isinstance(rollout.canary, int):
        return tuple(names[: rollout.canary])
    if rollout.canary == "auto":
        first_of = {member.kind: member.name for member in reversed(members) if member.kind}
        return tuple(name for name in names if name in first_of.values())
    return tuple(name for name in names if name in rollout.canary)


def _sized(rollout: Rollout, fleet_size: int, rest: Sequence[Member]) -> Iterator[Wave]:
    begin = 0
    for number, size in enumerate(_sizes(rollout, fleet_size), start=1):
        if begin >= len(rest):
            return
        yield Wave(f"batch {number}", tuple(member.name for member in rest[begin : begin + size]))
        begin += size


def _sizes(rollout: Rollout, fleet_size: int) -> Iterator[int]:
    """Hosts of every batch, without end: the last one repeats."""
    size = 1
    for entry in rollout.batches:
        # A percentage of a small fleet is at least one host: no wave may be empty.
        size = entry if isinstance(entry, int) else max(1, fleet_size * int(entry.removesuffix("%")) // 100)
        yield size
    while True:
        yield size


def _labelled(label: str, rest: Sequence[Member]) -> list[Wave]:
    by_value: dict[str, list[str]] = {}
    for member in rest:
        by_value.setdefault(member.batch or "none", []).append(member.name)
    return [Wave(f"{label} {value}", tuple(names)) for value, names in by_value.items()]
