"""Which hosts change together, and in which order. Pure: the same fleet gives the same waves on every run.

Waves are made of the whole fleet, not of the hosts with work: a run that was cut off goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from provisioner.errors import UsageError
from provisioner.fleet.rollout import Rollout
from provisioner.fleet.suggest import did_you_mean

CANARY = "canary"
GROUP = "group"
"""value of `batch_by` that stands for the first group of a host"""


@dataclass(frozen=True)
class Member:
    """What waves need to know of a host."""

    name: str
    kind: str
    """hardware profile and platform; "" when no probe told it"""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wave:
    """Hosts that are changed together. A gate stands behind it."""

    name: str
    hosts: tuple[str, ...]


def plan_waves(rollout: Rollout, members: Sequence[Member]) -> tuple[Wave, ...]:
    """Every host is in exactly one wave; no wave is empty.

    Raises UsageError for a canary that is no host of the fleet, and for a host without the label to batch by.
    """
    canary = _canary(rollout, members)
    rest = [member for member in members if member.name not in canary]
    batches = _labelled(rollout.batch_by, rest) if rollout.batch_by else _sized(rollout, len(members), rest)
    first = [Wave(CANARY, canary)] if canary else []
    return (*first, *batches)


def _canary(rollout: Rollout, members: Sequence[Member]) -> tuple[str, ...]:
    names = [member.name for member in members]
    if isinstance(rollout.canary, int):
        return tuple(names[: rollout.canary])
    if rollout.canary == "auto":
        first_of = {member.kind: member.name for member in reversed(members) if member.kind}
        return tuple(name for name in names if name in first_of.values())
    for name in rollout.canary:
        if name not in names:
            raise UsageError(f'rollout.canary: "{name}" is no host of the fleet', hint=did_you_mean(name, names))
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
    without = [member.name for member in rest if label not in member.labels]
    if without:
        example = f"hosts.{without[0]}.labels or a group's"
        raise UsageError(
            f"rollout.batch_by: {len(without)} hosts have no {label}: {', '.join(without[:5])}",
            hint="every host needs a group" if label == GROUP else f"give them one in {example}",
        )
    by_value: dict[str, list[str]] = {}
    for member in rest:
        by_value.setdefault(member.labels[label], []).append(member.name)
    return [Wave(f"{label} {value}", tuple(names)) for value, names in by_value.items()]
