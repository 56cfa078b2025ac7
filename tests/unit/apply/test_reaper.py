"""Whatever carries the word on its command line is ended, also when it will not listen."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from provisioner.apply import reaper

DEAF = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)
PLAIN = "import time; print('up', flush=True); time.sleep(60)"


def start(code: str, word: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code, word], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    return process


def test_what_carries_the_word_is_ended_and_nothing_else() -> None:
    word = f"/run/{uuid.uuid4()}"
    left, other = start(PLAIN, word), start(PLAIN, f"/run/{uuid.uuid4()}")
    try:
        with reaper.reaper(word):
            assert left.poll() is None
        assert left.wait(10) == -15
        assert other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.communicate()


def test_folders_are_removed_also_when_nobody_is_left_to_ask_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "shard"
    (folder / "inventory").mkdir(parents=True)
    code = (
        "import os, pathlib, signal, sys\n"
        "from provisioner.apply.reaper import reaper\n"
        "with reaper(sys.argv[1], pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1] + '-none')):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == -9
    deadline = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "PATIENCE_S", 0.3)
    word = f"/run/{uuid.uuid4()}"
    process = start(DEAF, word)
    try:
        reaper._send(process.pid, reaper.signal.SIGTERM)
        assert process.poll() is None
        reaper.end_all(word)  # it stays a zombie of ours until waited for, without a command line
        assert process.wait(10) == -9
    finally:
        process.kill()
        process.communicate()
