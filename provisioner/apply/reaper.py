"""Ends what an Ansible run leaves running: `python reaper.py WORD [FOLDER …]` waits for the end of its stdin, then ends
them and removes the folders.

Ansible's workers leave their parent's session, so that neither ansible-runner's cancelling nor a killed `provision`
takes them along, and they would wait for an answer for ever. This program outlives both. Standard library alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 5.0
"""between asking processes to end and killing them"""
_PAUSE_S = 0.1


@contextmanager
def reaper(word: str, *folders: Path) -> Iterator[None]:
    """When the block is left, or this process is gone however it ended, processes whose command lines hold `word` are
    ended, and the folders removed. `word` must be theirs alone, such as the path of a run's file."""
    # Without our environment, which may hold secrets, and without site packages, so that it starts in a moment.
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, word, *map(str, folders)],
        stdin=subprocess.PIPE,
        env={},
        start_new_session=True,
    )
    try:
        yield
    finally:
        watcher.communicate()


def end_all(word: str) -> None:
    """Ask, wait, kill. Processes of other users, and this one, are left alone."""
    deadline = time.monotonic() + PATIENCE_S
    asked: set[int] = set()
    while left := _processes(word):
        late = time.monotonic() >= deadline
        for pid in left if late else left - asked:
            _send(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= left
        if time.monotonic() >= deadline + PATIENCE_S:
            return  # not even killed: stuck in the kernel, which nobody can help
        time.sleep(_PAUSE_S)


def _processes(word: str) -> set[int]:
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        pid = int(place.name)
        try:
            ours = place.stat().st_uid == os.getuid() and word.encode() in (place / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if ours and pid not in (os.getpid(), os.getppid()):
            found.add(pid)
    return found


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself


if __name__ == "__main__":
    sys.stdin.read()
    end_all(sys.argv[1])
    for folder in sys.argv[2:]:
        shutil.rmtree(folder, ignore_errors=True)
