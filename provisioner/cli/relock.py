"""--update-lock of commands that have other things to do besides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from provisioner.cli.console import say
from provisioner.cli.show_lock import table
from provisioner.errors import InputError
from provisioner.fleet.recipes import Recipe
from provisioner.plan.lock import UNLOCKED, Lock, lock_file, read_lock
from provisioner.rollout.locking import make_lock, moves, write_lock
from provisioner.rollout.survey import Survey


def relock(seen: Survey, recipes: Mapping[str, Recipe], environment: Mapping[str, str], *, some: bool) -> Lock:
    """Writes the lock anew for the survey's hosts, which were planned without one, and says what moved."""
    old = previous(seen.fleet.path, some=some)
    new = make_lock(seen, recipes, old if some else UNLOCKED, environment)
    moved = moves(old, new)
    if moved:
        write_lock(seen.fleet, new)
    say(table(lock_file(seen.fleet.path), new, moved))
    return new


def previous(fleet: Path, *, some: bool) -> Lock:
    """What is locked now, for a lock that is written anew: a broken file matters where some of it stays."""
    try:
        return read_lock(fleet) or UNLOCKED
    except InputError:
        if some:
            raise
        return UNLOCKED
