"""rollback and releases: what hosts keep, and bringing it back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.cli.alone import OnLook, alone
from provisioner.cli.columns import columns
from provisioner.cli.console import allowed, out, say
from provisioner.cli.doing import executed
from provisioner.cli.events import shown
from provisioner.cli.looking import connections_to, load_hosts
from provisioner.cli.rolling import Ended
from provisioner.errors import Exit, HostError, ProvisionError
from provisioner.fleet.models import Fleet, Host
from provisioner.history.steps import Step
from provisioner.plan.release import Release
from provisioner.rollout import releases as on_host
from provisioner.rollout.connections import Connections
from provisioner.rollout.execute import MAX_WORKERS, Options
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.releases import Kept
from provisioner.rollout.rollback import Back, planned, roll_back
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.survey import HostSurvey, Survey

if TYPE_CHECKING:
    from provisioner.history.rundir import Run
    from provisioner.rollout.leases import Leases


@dataclass(frozen=True)
class RollbackFlags:
    """The flags of `provision rollback`."""

    to: str | None
    hosts: tuple[str, ...]
    yes: bool
    smoke: bool
    json: bool
    lock_wait_s: float = 0.0


@dataclass(frozen=True)
class Way:
    """The way of a host to an earlier release, or why there is none."""

    host: Host
    release: Release | None = None
    seen: HostSurvey | None = None
    secrets: tuple[tuple[str, str], ...] = ()
    error: ProvisionError | None = None


def releases(path: Path, hosts: Sequence[str], *, json: bool) -> Exit:
    """What every host keeps, the newest first."""
    fleet = load_hosts(path, hosts)
    take_from_environment(fleet)

    def one(host: Host) -> Kept | ProvisionError:
        try:
            return on_host.kept(connections.connect(host))
        except ProvisionError as error:
            return error

    with connections_to(fleet) as connections, ThreadPoolExecutor(min(MAX_WORKERS, len(fleet.hosts))) as pool:
        found = dict(zip((host.name for host in fleet.hosts), pool.map(one, fleet.hosts), strict=True))
    kept = {name: told for name, told in found.items() if isinstance(told, Kept)}
    out(_as_json(kept) if json else _as_text(kept))
    lost = [told for told in found.values() if isinstance(told, ProvisionError)]
    for error in lost:
        say(str(error))
    return Exit(lost[0].exit_code) if lost else Exit.OK


def rollback(path: Path, flags: RollbackFlags) -> Exit:
    """Brings hosts back to an earlier release, all at once. One that has no way back stops all."""
    fleet = load_hosts(path, flags.hosts)
    environment = take_from_environment(fleet)
    options = Options(depth="smoke" if flags.smoke else fleet.rollout.analysis)
    ways: tuple[Way, ...] = ()

    def look(on_look: OnLook) -> Survey | Exit:
        nonlocal ways
        with ThreadPoolExecutor(min(MAX_WORKERS, len(fleet.hosts))) as pool:
            ways = tuple(pool.map(lambda host: _way(fleet, host, connections, flags.to, environment), fleet.hosts))
        secrets = dict(pair for way in ways for pair in way.secrets)
        seen = Survey(fleet, tuple(way.seen for way in ways if way.seen), secrets, environment=environment)
        on_look(seen.hosts)
        lost = [way.error for way in ways if way.error]
        if lost:
            say("\n".join(map(str, lost)))
            say("nothing was changed; name the other hosts with --hosts to roll them back alone")
            return Exit(lost[0].exit_code)
        say(_listing(ways))
        if not flags.yes and not allowed(_question(len(ways)), "change hosts"):
            say("nothing was changed")
            return Exit.CHANGES
        return seen

    def do(seen: Survey, name: str, leases: Leases) -> Exit:
        code = executed(seen, connections, options, _Return(ways), name, leases, json=flags.json)
        say(f"{path} may ask for another release still: change it before the next `provision {path}`")
        return code

    with connections_to(fleet) as connections:
        return alone(fleet, connections, look, do, hosts=lambda seen: seen.work, wait_s=flags.lock_wait_s)


class _Return:
    """Going back, as something that a run does."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self._targets: dict[str, str | None] = {way.host.name: way.release.id for way in ways if way.release}

    def __call__(self, seen: Survey, connections: Connections, run: Run, options: Options) -> Ended:
        hosts = tuple(self._targets)
        run.add_step(Step(kind="rolling_back", hosts=hosts, detail="asked for"))
        with shown(hosts, run) as on_event:
            backs = roll_back(
                seen,
                self._targets,
                connections,
                run.path,
                on_event=on_event,
                options=options,
                environment=seen.environment,
                hide=run.hide,
            )
        for back in backs:
            run.add_step(Step(kind=back.state, hosts=(back.host,), detail=back.message))
        return Ended(tuple(_outcome(back) for back in backs))


def _outcome(back: Back) -> HostOutcome:
    outcome = back.outcome or HostOutcome(back.host, Exit.OK)
    code = {"lost": Exit.HOST_FAILED, "interrupted": Exit.INTERRUPTED}.get(back.state, Exit.OK)
    return replace(outcome, exit_code=code, state=back.state, rollback=back.message)


def _way(fleet: Fleet, host: Host, connections: Connections, to: str | None, environment: dict[str, str]) -> Way:
    try:
        transport = connections.connect(host)
        kept = on_host.kept(transport)
        if to is not None:
            target = _named(kept, to, host.name)
        elif kept.serving is None:
            raise HostError(f"{host.name}: has no release", hint="it was never provisioned to the end")
        else:
            seen, release, secrets = planned(fleet, HostSurvey(host), transport, kept.serving, environment)
            if seen.changes:  # something came after it that never passed
                return Way(host, release, seen, tuple(secrets.items()))
            if kept.before is None:
                raise HostError(f"{host.name}: has no release before {kept.serving}, which it serves")
            target = kept.before.id
        seen, release, secrets = planned(fleet, HostSurvey(host), transport, target, environment)
        return Way(host, release, replace(seen, unaccepted=True), tuple(secrets.items()))
    except ProvisionError as error:
        return Way(host, error=error)


def _named(kept: Kept, part: str, host: str) -> str:
    found = [one.id for one in kept.releases if one.id.startswith(part)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.id for one in kept.releases) or "none"
    raise HostError(f"{host}: {'has no' if not found else 'has more than one'} release {part}; it keeps: {names}")


def _listing(ways: Sequence[Way]) -> str:
    lines = [""]
    for way in ways:
        if way.release is None or way.seen is None:
            continue
        lines.append(f"{way.host.name}: back to release {way.release.id} of {way.release.accepted_at:%Y-%m-%d %H:%M}")
        changes = way.seen.changes.changes if way.seen.changes else ()
        lines += [f"  ~ {change.role}: {change.subject}: {change.reason}" for change in changes]
    return "\n".join(lines)


def _question(hosts: int) -> str:
    return f"Roll back {hosts} hosts?" if hosts != 1 else "Roll back 1 host?"


def _as_text(found: dict[str, Kept]) -> str:
    head = ("host", "release", "accepted", "run", "serves", "servers")
    rows = [
        (
            name,
            one.id,
            f"{one.accepted_at:%Y-%m-%d %H:%M}",
            one.run,
            "yes" if one.id == kept.serving else "",
            ", ".join(f"{server.name}: {server.image}" for server in one.plan.servers),
        )
        for name, kept in found.items()
        for one in kept.releases
    ]
    return "\n".join(columns([head, *rows])) if rows else "no release yet"


def _as_json(found: dict[str, Kept]) -> str:
    document = {
        name: {
            "serving": kept.serving,
            "releases": [one.model_dump(mode="json") for one in kept.releases],
        }
        for name, kept in found.items()
    }
    return json.dumps(document, indent=1)
