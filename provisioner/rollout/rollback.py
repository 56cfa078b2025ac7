"""Going back: a release that a host keeps, applied and validated as any other plan is, by the same code."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.apply.inventory import secret_references
from provisioner.errors import Exit, HostError, ProvisionError, UnreachableError
from provisioner.fleet.models import Fleet
from provisioner.history.events import Event, OnEvent
from provisioner.hosts.probe import probe
from provisioner.hosts.transport import Transport
from provisioner.plan.absent import absent_files, absent_servers
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan
from provisioner.plan.release import Release
from provisioner.rollout import releases
from provisioner.rollout.connections import Connections
from provisioner.rollout.execute import MAX_WORKERS, Options, execute
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.secrets import resolve_secrets
from provisioner.rollout.state import Returned
from provisioner.rollout.survey import HostSurvey, Survey, look_again, request_for

COMES_BACK_S = 120.0
"""how long a host that is not there is waited for: one that reboots comes back"""
ASK_EVERY_S = 2.0
STOP_TIMEOUT_S = 180.0
FOLDER = "rollback"
"""in the run's directory"""


@dataclass(frozen=True)
class Back:
    """What became of a host that was to go back."""

    host: str
    state: Returned
    message: str
    """where it is now; of a lost one, why and what to do"""
    outcome: HostOutcome | None = None
    """of applying and validating the release"""


def roll_back(
    survey: Survey,
    targets: Mapping[str, str | None],
    connections: Connections,
    run_dir: Path,
    *,
    on_event: OnEvent,
    options: Options,
    environment: Mapping[str, str] | None,
    hide: Callable[[Sequence[str]], None] = lambda _values: None,
    part: str = FOLDER,
) -> tuple[Back, ...]:
    """Brings every host of `targets` to the release of that id; None: it has none, and its servers are stopped.

    Hosts go on side by side; one that cannot be brought back holds up no other. `hide` is told secrets that the fleet
    file does not name any more.
    """
    hosts = {seen.host.name: seen for seen in survey.hosts if seen.host.name in targets}
    found: dict[str, Back] = {}
    ready: dict[str, tuple[HostSurvey, Release, Mapping[str, str]]] = {}

    def prepare(name: str) -> None:
        target = targets[name]
        on_event(Event(host=name, phase="rollback", status="started", task=f"back to {target or 'nothing'}"))
        try:
            transport = _connected(connections, hosts[name], options.interrupted)
            if target is None:
                found[name] = _stopped(transport, hosts[name])
            else:
                ready[name] = planned(survey.fleet, hosts[name], transport, target, environment)
        except ProvisionError as error:
            found[name] = _lost(name, str(error), target)
            if options.interrupted():
                found[name] = Back(name, "interrupted", f"interrupted on its way back to {target or 'nothing'}")

    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, max(1, len(hosts)))) as pool:
        list(pool.map(prepare, hosts))
    secrets = {key: value for _, _, values in ready.values() for key, value in values.items()}
    hide(tuple(secrets.values()))
    part_of = replace(
        survey, hosts=tuple(ready[name][0] for name in hosts if name in ready), secrets={**survey.secrets, **secrets}
    )
    if part_of.hosts:
        told = replace(options, results=f"{part}/benchmarks")
        outcomes = execute(part_of, connections, run_dir, on_event=on_event, options=told, part=part)
        for outcome in outcomes:
            found[outcome.host] = _back(outcome, ready[outcome.host][1], connections, ready[outcome.host][0])
    for back in found.values():
        on_event(_event(back))
    return tuple(found[name] for name in hosts)


def _connected(connections: Connections, seen: HostSurvey, interrupted: Callable[[], bool]) -> Transport:
    """A fresh connection, waiting for a host that is on its way up."""
    connections.drop(seen.host)
    end = time.monotonic() + COMES_BACK_S
    while True:
        try:
            return connections.connect(seen.host)
        except UnreachableError:
            if time.monotonic() >= end or interrupted():
                raise
            time.sleep(ASK_EVERY_S)


def planned(
    fleet: Fleet, seen: HostSurvey, transport: Transport, target: str, environment: Mapping[str, str] | None
) -> tuple[HostSurvey, Release, Mapping[str, str]]:
    """The host as it is and as that release wants it, and the secrets that it needs for that."""
    release = releases.read(transport, target)
    kept = release.plan
    facts = probe(transport, request_for(fleet, seen.host, kept))
    plan = again(kept, facts)
    secrets = resolve_secrets(secret_references([plan]), environment)
    return look_again(HostSurvey(seen.host, facts=facts, plan=plan), facts, secrets), release, secrets


def again(plan: HostPlan, facts: Facts) -> HostPlan:
    """A kept plan for the host as it is now: what came after it has no place in it."""
    return plan.model_copy(
        update={
            "absent": absent_servers(facts, [server.name for server in plan.servers]),
            "absent_files": absent_files(facts, plan.servers),
        }
    )


def _stopped(transport: Transport, seen: HostSurvey) -> Back:
    """The first release that a host was given: nothing of it may come up by itself, all of it is there to look at."""
    name = seen.host.name
    units = [server.unit for server in seen.plan.servers] if seen.plan else []
    script = "".join(
        f"if systemctl cat {unit} > /dev/null 2>&1; then systemctl disable --now {unit} && echo {unit} || exit 1; fi\n"
        for unit in map(shlex.quote, units)
    )
    result = transport.run(f"sudo -n sh -c {shlex.quote(script)}", timeout_s=STOP_TIMEOUT_S)
    if result.rc != 0:
        raise HostError(f"{name}: {', '.join(units)} cannot be stopped: {result.stderr.strip()}")
    stopped = result.stdout.split()
    if not stopped:
        return Back(name, "stopped", "has no previous release, and nothing of this one was started")
    look = f"look with `journalctl -u {stopped[0]}`"
    return Back(name, "stopped", f"has no previous release: {', '.join(stopped)} stopped; {look}")


def _back(outcome: HostOutcome, release: Release, connections: Connections, seen: HostSurvey) -> Back:
    name = outcome.host
    if outcome.exit_code == Exit.INTERRUPTED:
        return Back(name, "interrupted", f"interrupted on its way back to release {release.id}", outcome)
    if outcome.exit_code != Exit.OK:
        return replace(_lost(name, outcome.message, release.id), outcome=outcome)
    try:
        releases.name(connections.connect(seen.host), release)
    except ProvisionError as error:
        return replace(_lost(name, str(error), release.id), outcome=outcome)
    return Back(name, "rolled_back", f"serves its release {release.id} of {_day(release)} again", outcome)


def _lost(name: str, why: str, target: str | None) -> Back:
    what = f"be brought back to release {target}" if target else "be stopped"
    do = f"once it can be reached, `provision rollback FLEET --hosts {name}`, or `provision FLEET` for the new release"
    return Back(name, "lost", f"COULD NOT {what}: {why}\n{do}")


def _day(release: Release) -> str:
    return f"{release.accepted_at:%Y-%m-%d %H:%M}"


def _event(back: Back) -> Event:
    status = {"rolled_back": "ok", "stopped": "ok", "interrupted": "skipped", "lost": "failed"}[back.state]
    return Event.model_validate(
        {
            "host": back.host,
            "phase": "rollback",
            "status": status,
            "task": back.state.replace("_", " "),
            "detail": back.message,
        }
    )
