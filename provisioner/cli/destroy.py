"""destroy: from flags to looking, asking and taking away, and what is printed of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.apply.runner import HostResult
from provisioner.cli import show_removal as show
from provisioner.cli.alone import OnLook, alone
from provisioner.cli.console import allowed, interrupt_flag, out, say
from provisioner.cli.events import shown
from provisioner.cli.looking import connections_to, load_hosts
from provisioner.cli.told import notifier_of, tell_removed
from provisioner.errors import Exit
from provisioner.fleet.models import Fleet
from provisioner.history.finishing import finishing
from provisioner.history.rundir import create_run
from provisioner.rollout import removal
from provisioner.rollout.leases import Leases
from provisioner.rollout.removal import Asked, HostLook
from provisioner.rollout.secrets import take_from_environment

if TYPE_CHECKING:
    from provisioner.rollout.notify import Notifier

Looks = tuple[HostLook, ...]


@dataclass(frozen=True)
class DestroyFlags:
    """The flags of `provision destroy`."""

    yes: bool
    hosts: tuple[str, ...]
    weights: bool
    docker: bool
    dry_run: bool
    json: bool
    lock_wait_s: float = 0.0


def destroy(path: Path, flags: DestroyFlags) -> Exit:
    """Look, show, ask, take away, while no other run is at work there. A host that cannot be looked at stops all."""
    fleet = load_hosts(path, flags.hosts)
    environment = take_from_environment(fleet)
    asked = Asked(weights=flags.weights, docker=flags.docker)

    def looked_at() -> Looks:
        with shown([host.name for host in fleet.hosts], None) as on_event:
            return removal.look(fleet, connections, asked, on_event=on_event)

    def look(on_look: OnLook) -> Looks | Exit:
        seen = looked_at()
        on_look(seen)
        if any(one.error for one in seen) or not _work(seen):
            return _listed(flags, seen)
        say(show.listing(seen))
        question = f"Take this away from {len(_work(seen))} of {len(seen)} hosts?"
        if not flags.yes and not allowed(question, "take away"):
            say("nothing was changed")
            return Exit.CHANGES
        return seen

    def do(seen: Looks, name: str, leases: Leases) -> Exit:
        return _recorded(fleet, seen, asked, flags, leases, notifier_of(fleet, name, environment), name)

    with connections_to(fleet) as connections:
        if flags.dry_run:
            return _listed(flags, looked_at())
        return alone(fleet, connections, look, do, hosts=_work, wait_s=flags.lock_wait_s)


def _work(seen: Looks) -> Looks:
    """Hosts with something of ours."""
    return tuple(one for one in seen if one.work)


def _listed(flags: DestroyFlags, seen: Looks) -> Exit:
    """Shows what would go, where nothing does."""
    _print(flags, seen, (), None)
    lost = [one.error for one in seen if one.error]
    if lost:
        say("nothing was changed; name the other hosts with --hosts to clear them alone")
        return Exit(lost[0].exit_code)
    return Exit.CHANGES if _work(seen) else Exit.OK


def _recorded(
    fleet: Fleet,
    seen: Looks,
    asked: Asked,
    flags: DestroyFlags,
    leases: Leases,
    notifier: Notifier,
    name: str,
) -> Exit:
    """Take away and report, with a record of it however it ends."""
    names = [one.host.name for one in _work(seen)]
    run = create_run(fleet.name, name=name, command=sys.argv, fleet_path=fleet.path, hosts=names)
    results: tuple[HostResult, ...] = ()
    with finishing(run, lambda code: tell_removed(notifier, code, results)) as end:
        notifier.tell("started", show.started(seen), hosts=names)
        with interrupt_flag() as interrupted, shown(names, run) as on_event:
            stop = leases.stopped_by(interrupted)
            results = removal.destroy(fleet, seen, run.path, asked, on_event=on_event, interrupted=stop)
        leases.clear(result.host for result in results if result.state == "ok")
        run.save("removal.json", show.as_json(seen, results, run.path))
        end.code = removal.worst(results)
        _print(flags, seen, results, run.path)
    return end.code


def _print(flags: DestroyFlags, seen: Looks, results: Sequence[HostResult], run_dir: Path | None) -> None:
    if flags.json:
        out(show.as_json(seen, results, run_dir))
    if any(one.error for one in seen):
        say(show.problems(seen))
    words = show.outcome(seen, results, run_dir) if run_dir else show.listing(seen)
    say(words) if flags.json else out(words)
