"""lock: what the fleet's names stand for now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.cli import show_lock
from provisioner.cli.console import out
from provisioner.cli.events import shown
from provisioner.cli.looking import connections_to, load
from provisioner.cli.relock import previous
from provisioner.errors import Exit
from provisioner.history.facts import read_facts
from provisioner.plan.lock import UNLOCKED, lock_file
from provisioner.rollout.locking import make_lock, moves, read_lock, write_lock
from provisioner.rollout.recorded import recorded_survey
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.survey import survey


def lock(path: Path, hosts: Sequence[str], facts: Path | None, *, update: bool, check: bool, json: bool) -> Exit:
    """Writes what the fleet's names stand for now: what the lock lacks, or with `update` all of it. Exits 5 where a
    check found something that would change."""
    fleet, recipes = load(path, hosts)
    environment = take_from_environment(fleet)
    old = previous(path, some=bool(hosts)) if update else read_lock(fleet, recipes) or UNLOCKED
    planned_with = None if update else old
    if facts is not None:
        seen = recorded_survey(fleet, recipes, read_facts(facts), planned_with)
    else:
        with connections_to(fleet) as connections, shown([host.name for host in fleet.hosts], None) as on_event:
            seen = survey(fleet, recipes, connections, on_event=on_event, compare=False, lock=planned_with)
    new = make_lock(seen, recipes, UNLOCKED if update and not hosts else old, environment)
    moved = moves(old, new)
    if moved and not check:
        write_lock(fleet, new)
    file, written = lock_file(path), bool(moved) and not check
    out(
        show_lock.as_json(file, new, moved, written=written) if json else show_lock.table(file, new, moved, check=check)
    )
    return Exit.CHANGES if check and moved else Exit.OK
