"""What is not as planned and since when: a survey, and what the history remembers of earlier looks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from provisioner.errors import Exit
from provisioner.history.drift import Deviation, Drift, HostDrift
from provisioner.history.store import Store
from provisioner.rollout.survey import HostSurvey, Survey


def drift_of(seen: Survey, at: datetime | None = None) -> Drift:
    """The survey as drift. Since when is not known yet."""
    return Drift(fleet=seen.fleet.name, at=at or datetime.now(UTC), hosts=tuple(_host(host) for host in seen.hosts))


def remembered(drift: Drift, store: Store) -> Drift:
    """The same with the time at which each thing was seen first; what is new is remembered, what is gone forgotten.

    Of a host that could not be looked at, what was seen before is kept.
    """
    hosts = []
    for host in drift.hosts:
        subjects = [one.subject for one in host.deviations]
        since = store.note_drift(drift.fleet, host.host, subjects, at=drift.at, forget=host.seen)
        found = tuple(one.model_copy(update={"since": since[one.subject]}) for one in host.deviations)
        hosts.append(host.model_copy(update={"deviations": found}))
    return drift.model_copy(update={"hosts": tuple(hosts)})


def mended(drift: Drift, hosts: Collection[str], store: Store) -> None:
    """These hosts are as planned now."""
    for host in drift.hosts:
        if host.host in hosts and host.deviations:
            store.note_drift(drift.fleet, host.host, (), at=drift.at)


def _host(seen: HostSurvey) -> HostDrift:
    name = seen.host.name
    if seen.problems:
        kind = "unreachable" if seen.exit_code == Exit.UNREACHABLE else "unfit"
        reason = "; ".join(problem.removeprefix(f"{name}: ") for problem in seen.problems)
        found = [Deviation(kind=kind, subject=kind, reason=reason)]
    else:
        found = []
    for change in seen.changes.changes if seen.changes else ():
        found.append(Deviation(kind="differs", subject=f"{change.role}: {change.subject}", reason=change.reason))
    for server, why in seen.unproven.items():
        found.append(Deviation(kind="unproven", subject=f"server {server}", reason=why))
    # A role may have two things to say about one file.
    merged: dict[str, Deviation] = {}
    for one in found:
        before = merged.get(one.subject)
        reason = f"{before.reason}; {one.reason}" if before else one.reason
        merged[one.subject] = one.model_copy(update={"reason": reason})
    return HostDrift(host=name, deviations=tuple(merged.values()), seen=seen.facts is not None)
