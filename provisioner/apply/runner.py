"""One run of a playbook through ansible-runner: site.yml over hosts that have changes, reset.yml to clear hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from provisioner.apply.inventory import write_connections, write_inventory
from provisioner.apply.outcome import Outcomes, TaskChange
from provisioner.apply.places import Here, Place, Played, Work
from provisioner.apply.play import TIMEOUT_S, Job, Strategy, usable
from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Fleet
from provisioner.history.events import Event, OnEvent
from provisioner.plan.model import HostPlan
from provisioner.plan.roles import NEED_FACTS, ROLES
from provisioner.plan.variables import secret_name

__all__ = ["HostResult", "Strategy", "apply", "reset", "usable"]


class HostResult(Frozen):
    """What Ansible made of one host."""

    host: str
    state: Literal["ok", "failed", "unreachable", "interrupted"]
    changed: int
    """tasks that changed something"""
    message: str = ""
    """why it failed: the task and the host's own words"""
    would: tuple[TaskChange, ...] = ()
    """of a check: what would have changed"""


def apply(
    run_dir: Path,
    fleet: Fleet,
    plans: Sequence[HostPlan],
    secrets: Mapping[str, str],
    *,
    on_event: OnEvent,
    interrupted: Callable[[], bool],
    strategy: Strategy = "mitogen_free",
    check: bool = False,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    roles: Sequence[str] = ROLES,
    on_applied: Callable[[str], None] = lambda _host: None,
    place: Place | None = None,
) -> tuple[HostResult, ...]:
    """Brings every host of `plans` to its plan; the hosts go on side by side, each at its own pace.

    `run_dir` is fresh and 0700; the inventory and Ansible's own records stay in it. A failing host holds up no other.
    `check`: Ansible's check mode, which changes nothing; results tell what would change. `more`: variables by host.
    `roles`: those that run. `place`: where Ansible runs; here where it is not given.
    `on_applied` is told the name of a host as soon as it is through, while others are still at work; it must be quick.
    """
    there = place or Here()
    by_name = {plan.host: plan for plan in plans}

    def inventory(folder: Path, hosts: Sequence[str]) -> None:
        write_inventory(folder, fleet, [by_name[host] for host in hosts], more, own_ssh=there.own_ssh)

    job = Job(
        playbook="site.yml",
        strategy=strategy,
        hosts=len(plans),
        check=check,
        tags=() if set(roles) == set(ROLES) else tuple(roles),
        variables={"provision_gather_facts": bool(NEED_FACTS & set(roles))},
    )
    return _play(
        run_dir, fleet, tuple(by_name), job, inventory, secrets, there,
        on_event=on_event, interrupted=interrupted, on_applied=on_applied,
    )  # fmt: skip


def reset(
    run_dir: Path,
    fleet: Fleet,
    hosts: Sequence[str],
    variables: Mapping[str, Any],
    *,
    on_event: OnEvent,
    interrupted: Callable[[], bool],
    strategy: Strategy = "mitogen_free",
) -> tuple[HostResult, ...]:
    """Runs reset.yml over these hosts; `variables` are those of the role removal. Otherwise as `apply`."""

    def inventory(folder: Path, names: Sequence[str]) -> None:
        write_connections(folder, fleet, names)

    job = Job(
        playbook="reset.yml",
        strategy=strategy,
        hosts=len(hosts),
        variables={**variables, "removal_confirmed": "yes"},
    )
    return _play(run_dir, fleet, hosts, job, inventory, {}, Here(), on_event=on_event, interrupted=interrupted)


def _play(
    run_dir: Path,
    fleet: Fleet,
    hosts: Sequence[str],
    job: Job,
    inventory: Callable[[Path, Sequence[str]], None],
    secrets: Mapping[str, str],
    place: Place,
    *,
    on_event: OnEvent,
    interrupted: Callable[[], bool],
    on_applied: Callable[[str], None] = lambda _host: None,
) -> tuple[HostResult, ...]:
    """One playbook to its end: every shard of the hosts, side by side where the place has several."""
    strategy, why = usable(job.strategy)
    if why:
        for host in hosts:
            task = f"Ansible goes through the hosts in its own, slower way: {why}"
            on_event(Event(host=host, phase="apply", status="running", task=task))
    job = replace(job, strategy=strategy)
    named = {secret_name(key): value for key, value in secrets.items()}
    under_way = []
    for shard in place.split([fleet.host(name) for name in hosts]):
        folder = run_dir / shard.folder
        inventory(folder / "inventory", shard.hosts)
        outcomes = Outcomes(shard.hosts, on_event, on_applied)
        part = replace(job, hosts=len(shard.hosts))
        work = Work(shard, folder, part, named, outcomes, interrupted)
        under_way.append((work, place.executor.submit(place.play, work)))
    results = {}
    for work, future in under_way:
        played = future.result()
        for host in work.shard.hosts:
            results[host] = _result(host, work.outcomes, played)
            if job.check:
                would = work.outcomes.changes(host)
                results[host] = results[host].model_copy(update={"would": would})
    return tuple(results[host] for host in hosts)


def _result(host: str, outcomes: Outcomes, played: Played) -> HostResult:
    changed = outcomes.changed(host)
    if outcomes.unreachable(host):
        return HostResult(host=host, state="unreachable", changed=changed, message=outcomes.message(host))
    if played.status == "canceled":
        where = f"during “{outcomes.task(host)}”" if outcomes.task(host) else "before its first task"
        return HostResult(host=host, state="interrupted", changed=changed, message=where)
    if not outcomes.finished:
        if played.status == "lost" and outcomes.through(host):
            return HostResult(host=host, state="ok", changed=changed)
        return HostResult(host=host, state="failed", changed=changed, message=_early(played))
    if outcomes.failed(host):
        return HostResult(host=host, state="failed", changed=changed, message=outcomes.message(host))
    return HostResult(host=host, state="ok", changed=changed)


def _early(played: Played) -> str:
    if played.status == "lost":
        return played.last
    if played.status == "timeout":
        return f"Ansible did not finish within {TIMEOUT_S // 3600} h:\n{played.last}"
    return f"Ansible ended early ({played.status}):\n{played.last}"
