"""Background processes: started detached, known again, stopped; and programs run with a bound."""

import json
import os
import re
from pathlib import Path

import pytest

from provisioner.errors import LabError
from provisioner.lab import services
from provisioner.lab.process import run, wait_until


def test_start_and_stop(tmp_path: Path) -> None:
    pid = services.start(tmp_path, "sleeper", ["sleep", "60"])
    try:
        assert services.is_running(tmp_path, "sleeper")
        assert services.start(tmp_path, "sleeper", ["sleep", "60"]) == pid  # already there
        assert os.getsid(pid) == pid  # survives our terminal
    finally:
        assert services.stop(tmp_path, "sleeper")
    assert not services.is_running(tmp_path, "sleeper")
    assert services.names(tmp_path) == []
    assert not services.stop(tmp_path, "sleeper")


def test_descriptors_of_whoever_started_us_are_not_handed_on(tmp_path: Path) -> None:
    held = os.open(tmp_path / "lock", os.O_CREAT | os.O_WRONLY)
    os.set_inheritable(held, True)  # as flock(1) hands on its lock
    try:
        pid = services.start(tmp_path, "sleeper", ["sleep", "60"])
        targets = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH115, PTH208
        assert str(tmp_path / "lock") not in targets
    finally:
        os.close(held)
        services.stop(tmp_path, "sleeper")


def test_a_pid_used_again_by_another_process_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()
    (tmp_path / "pid" / "old.json").write_text(json.dumps({"pid": os.getpid(), "start": "1", "argv": []}))
    assert not services.is_running(tmp_path, "old")
    assert not services.stop(tmp_path, "old")  # and above all does not kill it


def test_last_words_of_a_service_that_ends(tmp_path: Path) -> None:
    services.start(tmp_path, "sad", ["sh", "-c", "echo goodbye >&2; exit 3"])
    assert wait_until(lambda: not services.is_running(tmp_path, "sad"), timeout=10)
    assert services.last_words(tmp_path, "sad") == "\n    goodbye"


def test_a_missing_program_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="ghost: no-such-program is not on this machine"):
        services.start(tmp_path, "ghost", ["no-such-program"])
    with pytest.raises(LabError, match="counting: no-such-program is not on this machine"):
        run(["no-such-program"], timeout=5, what="counting")


def test_failures_carry_the_programs_words() -> None:
    with pytest.raises(LabError, match=re.escape("counting: sh failed (exit 3)\n    too many")):
        run(["sh", "-c", "echo too many >&2; exit 3"], timeout=5, what="counting")


def test_a_program_that_does_not_end_is_bounded() -> None:
    with pytest.raises(LabError, match="waiting: sleep did not end within 0 s"):
        run(["sleep", "30"], timeout=0.2, what="waiting")
