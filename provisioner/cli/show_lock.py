"""What is printed of a lock."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path

from provisioner.plan.lock import Lock, entries, short
from provisioner.rollout.locking import Move


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


def _line(move: Move) -> str:
    if move.before is None:
        return f"  + {move.entry}: {short(move.after or '')}"
    if move.after is None:
        return f"  - {move.entry}: {short(move.before)}"
    return f"  ~ {move.entry}: {short(move.before)} -> {short(move.after)}"
