"""`provision lock`, and --update-lock of other commands."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from provisioner.cli.console import out, say
from provisioner.errors import Exit, InputError
from provisioner.fleet.recipes import Recipe
from provisioner.plan.lock import UNLOCKED, Lock, entries, lock_file, short
from provisioner.plan.lock import read_lock as read_file
from provisioner.rollout.locking import Move, make_lock, moves, write_lock
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
        return read_file(fleet) or UNLOCKED
    except InputError:
        if some:
            raise
        return UNLOCKED


def table(file: Path, lock: Lock, moved: tuple[Move, ...], *, check: bool = False) -> str:
    """What is new, moved and gone; hashes are shortened, the file has them whole."""
    count = len(entries(lock)) - sum(move.after is not None for move in moved)
    same = f"{count} {'entry' if count == 1 else 'entries'} as locked before"
    if not moved:
        return f"{file}: nothing to change, {same}"
    return "\n".join([f"{file}{' would change' if check else ''}:", *map(_line, moved), f"  = {same}"])


def as_json(file: Path, lock: Lock, moved: tuple[Move, ...], *, written: bool) -> str:
    """The same for programs, hashes whole."""
    document = {"file": str(file), "written": written, "moves": [asdict(move) for move in moved]}
    return jsonlib.dumps({**document, "lock": lock.model_dump()}, indent=1)


def show(file: Path, lock: Lock, moved: tuple[Move, ...], *, check: bool, json: bool) -> Exit:
    """Prints either; 5 where a check found something that would change."""
    written = bool(moved) and not check
    out(as_json(file, lock, moved, written=written) if json else table(file, lock, moved, check=check))
    return Exit.CHANGES if check and moved else Exit.OK


def _line(move: Move) -> str:
    if move.before is None:
        return f"  + {move.entry}: {short(move.after or '')}"
    if move.after is None:
        return f"  - {move.entry}: {short(move.before)}"
    return f"  ~ {move.entry}: {short(move.before)} -> {short(move.after)}"
