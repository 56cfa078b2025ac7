"""One run of a fleet at a time, whatever becomes of its process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from provisioner.errors import LockedError, UsageError
from provisioner.history.turn import control_id, current_user, holder, turn

SLEEPER = """
import sys, time
from pathlib import Path
from provisioner.history.turn import turn
with turn("fleet", "provision fleet.yaml", root=Path(sys.argv[1])):
    print("have it", flush=True)
    time.sleep(60)
"""


def test_one_after_the_other(tmp_path: Path) -> None:
    with turn("fleet", "first", root=tmp_path):
        with pytest.raises(LockedError), turn("fleet", "second", root=tmp_path):
            pass
        with turn("other", "third", root=tmp_path):
            pass
    with turn("fleet", "fourth", root=tmp_path):
        pass


def test_a_process_that_was_killed_leaves_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SLEEPER, str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "have it\n"
    assert f"process {process.pid}, since 20" in (holder("fleet", tmp_path) or "")
    process.kill()
    process.communicate()
    assert holder("fleet", tmp_path) is None
    with turn("fleet", "x", root=tmp_path):
        pass


def test_waiting(tmp_path: Path) -> None:
    said, inside, end = list[str](), threading.Event(), threading.Event()

    def first() -> None:
        with turn("fleet", "first", root=tmp_path):
            inside.set()
            end.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)

    def waited(words: str) -> None:
        said.append(words)
        end.set()

    with turn("fleet", "second", wait_s=10, on_wait=waited, root=tmp_path):
        pass
    thread.join()
    (words,) = said
    assert words.startswith("a run of fleet fleet is at work on this machine: ")
    assert words.endswith(": first; waiting for its end")


def test_waiting_in_vain(tmp_path: Path) -> None:
    began = time.monotonic()
    with (
        turn("fleet", "first", root=tmp_path),
        pytest.raises(LockedError, match=r"first \(waited 0\.6 s\)"),
        turn("fleet", "x", wait_s=0.6, root=tmp_path),
    ):
        pass
    assert time.monotonic() - began >= 0.6


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    with pytest.raises(UsageError, match="cannot be opened"), turn("fleet", "x", root=tmp_path):
        pass


def test_this_machine_has_one_word_for_itself(tmp_path: Path) -> None:
    words: list[str] = []
    threads = [threading.Thread(target=lambda: words.append(control_id(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(words) == 8
    assert len(set(words)) == 1
    assert control_id(tmp_path) == words[0]
    assert [path.name for path in tmp_path.iterdir()] == ["control-id"]
    assert control_id(tmp_path / "other") != words[0]


@pytest.mark.parametrize(
    ("account", "behind", "told"),
    [("anna", None, "anna"), ("root", "anna", "anna (as root)"), ("root", "root", "root")],
)
def test_who_does_it(monkeypatch: pytest.MonkeyPatch, account: str, behind: str | None, told: str) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: account)
    monkeypatch.delenv("SUDO_USER", raising=False)
    if behind:
        monkeypatch.setenv("SUDO_USER", behind)
    assert current_user() == told
