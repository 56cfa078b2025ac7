"""Runs that are alone: with the fleet's turn on this machine, and the leases of the hosts that they change."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from provisioner.cli.console import say
from provisioner.errors import Exit, LockedError
from provisioner.fleet.models import Fleet
from provisioner.rollout.connections import Connections

if TYPE_CHECKING:
    from provisioner.rollout.leases import Leases, Looked

LOOKS = 5
"""at hosts that other runs change in between, before a run gives up"""

Seen = TypeVar("Seen")
OnLook = Callable[["Sequence[Looked]"], None]
"""to be told of the hosts that were looked at, before anybody is asked"""


def alone(
    fleet: Fleet,
    connections: Connections,
    look: Callable[[OnLook], Seen | Exit],
    do: Callable[[Seen, str, Leases], Exit],
    *,
    hosts: Callable[[Seen], Sequence[Looked]],
    wait_s: float,
) -> Exit:
    """Looks, and does what there is to do, while no other run is at work on the fleet or on one of these hosts.

    What a run that died on this machine still holds of the hosts that were seen is given back, also where there is
    nothing to do. `do` gets the name of the run and its leases. `hosts` are those that it changes: they are leased
    once they have been looked at. Where another run was there since, what was seen is not so any more: they are looked
    at again.
    """
    from provisioner.history.turn import turn
    from provisioner.rollout.leases import leased, release_dead, who_am_i

    def on_look(seen: Sequence[Looked]) -> None:
        held = [(one.host, one.leased) for one in seen if one.leased]
        for words in release_dead(connections, held, fleet.name):
            say(words)

    with turn(fleet.name, shlex.join(["provision", *sys.argv[1:]]), wait_s=wait_s, on_wait=say):
        for _ in range(LOOKS):
            seen = look(on_look)
            if isinstance(seen, Exit):
                return seen
            from provisioner.history.rundir import new_name  # with the history, which a run without work leaves alone

            name, changing = new_name(), hosts(seen)
            todo = [one.host for one in changing]
            with leased(connections, todo, who_am_i(fleet.name, name), wait_s=wait_s, say=say) as leases:
                if leases.untouched_since(changing):
                    return do(seen, name, leases)
            say("another run was at work since these hosts were looked at: looking again")
    raise LockedError(f"other runs were at work on these hosts in between, {LOOKS} times", hint="--lock-wait 10m")
