"""destroy: from flags to looking, asking and taking away, and what is printed of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.apply.runner import HostResult
from provisioner.cli import show_removal as show
from provisioner.cli.console import allowed, interrupt_flag, out, say
from provisioner.cli.events import shown
from provisioner.cli.looking import connections_to, load_hosts
from provisioner.cli.told import notifier_of, tell_removed
from provisioner.errors import Exit
from provisioner.fleet.models import Fleet
from provisioner.history.finishing import finishing
from provisioner.history.rundir import create_run, new_name
from provisioner.history.turn import turn
from provisioner.rollout import removal
from provisioner.rollout.leases import Leases, leased, who_am_i
from provisioner.rollout.removal import Asked, HostLook
from provisioner.rollout.secrets import take_from_environment

if TYPE_CHECKING:
    from provisioner.rollout.notify import Notifier


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
    """Look, show, ask, take away. A host that cannot be looked at stops all."""
    fleet = load_hosts(path, flags.hosts)
    environment = take_from_environment(fleet)
    asked = Asked(weights=flags.weights, docker=flags.docker)
    if flags.dry_run:
        return _looked(fleet, asked, flags, environment)
    with turn(fleet.name, shlex.join(["provision", *sys.argv[1:]]), wait_s=flags.lock_wait_s, on_wait=say):
        return _looked(fleet, asked, flags, environment)


def _looked(fleet: Fleet, asked: Asked, flags: DestroyFlags, environment: Mapping[str, str]) -> Exit:
    names = [host.name for host in fleet.hosts]
    with connections_to(fleet) as connections, shown(names, None) as on_event:
        seen = removal.look(fleet, connections, asked, on_event=on_event)
    lost = [one.error for one in seen if one.error]
    work = [one for one in seen if one.work]
    if lost or flags.dry_run or not work:
        _print(flags, seen, (), None)
        if lost:
            say("nothing was changed; name the other hosts with --hosts to clear them alone")
            return Exit(lost[0].exit_code)
        return Exit.CHANGES if work else Exit.OK
    say(show.listing(seen))
    if not flags.yes and not allowed(f"Take this away from {len(work)} of {len(seen)} hosts?", "take away"):
        say("nothing was changed")
        return Exit.CHANGES
    return _destroyed(fleet, seen, asked, flags, environment)


def _destroyed(
    fleet: Fleet, seen: Sequence[HostLook], asked: Asked, flags: DestroyFlags, environment: Mapping[str, str]
) -> Exit:
    """Take away and report, on hosts that no other run has, with a record of it however it ends."""
    name, hosts = new_name(), [one.host for one in seen if one.work]
    who = who_am_i(fleet.name, name)
    with (
        connections_to(fleet) as connections,
        leased(connections, hosts, who, wait_s=flags.lock_wait_s, say=say) as leases,
    ):
        return _recorded(fleet, seen, asked, flags, leases, notifier_of(fleet, name, environment), name)


def _recorded(
    fleet: Fleet,
    seen: Sequence[HostLook],
    asked: Asked,
    flags: DestroyFlags,
    leases: Leases,
    notifier: Notifier,
    name: str,
) -> Exit:
    names = [one.host.name for one in seen if one.work]
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


def _print(flags: DestroyFlags, seen: Sequence[HostLook], results: Sequence[HostResult], run_dir: Path | None) -> None:
    if flags.json:
        out(show.as_json(seen, results, run_dir))
    if any(one.error for one in seen):
        say(show.problems(seen))
    words = show.outcome(seen, results, run_dir) if run_dir else show.listing(seen)
    say(words) if flags.json else out(words)
