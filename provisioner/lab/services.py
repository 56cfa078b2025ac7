"""The lab's own background processes: started detached, found again by pid file, stopped with care."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab.process import tail, wait_until


def start(state: Path, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Start `argv` in a session of its own unless it runs already; its words go to STATE/log/NAME.log. The pid."""
    running = _running_pid(state, name)
    if running is not None:
        return running
    log = log_file(state, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    record = _record(state, name)
    record.parent.mkdir(parents=True, exist_ok=True)
    program = shutil.which(argv[0], path=(env or os.environ).get("PATH"))
    if program is None:
        raise LabError(f"{name}: {argv[0]} is not on this machine")
    with log.open("ab") as words:
        # not subprocess: its Popen object would complain that the process outlives it, which is what we want
        pid = os.posix_spawn(
            program,
            list(argv),
            env or os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, words.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, words.fileno(), 2),
                *((os.POSIX_SPAWN_CLOSE, number) for number in _inherited()),
            ],
            setsid=True,
        )
    record.write_text(json.dumps({"pid": pid, "start": _start_time(pid), "argv": list(argv)}))
    return pid


def _inherited() -> list[int]:
    """Descriptors that a program of ours would get besides the first three: one of flock(1) would keep its lock."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208  numbers, no paths
    return [number for number in numbers if number > 2 and _is_inheritable(number)]


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the one that listed the folder
        return False


def stop(state: Path, name: str, *, timeout: float = 20) -> bool:
    """Stop it if it runs, TERM first, KILL after `timeout` seconds. Whether there was anything to stop."""
    pid = _running_pid(state, name)
    record = _record(state, name)
    if pid is None:
        record.unlink(missing_ok=True)
        return False
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: not is_running(state, name), timeout=timeout, every=0.1):
        os.killpg(pid, signal.SIGKILL)
        if not wait_until(lambda: not is_running(state, name), timeout=10, every=0.1):
            raise LabError(f"{name} (pid {pid}) does not end, not even when killed")
    record.unlink(missing_ok=True)
    return True


def is_running(state: Path, name: str) -> bool:
    """Whether the process that we started under this name still runs."""
    return _running_pid(state, name) is not None


def names(state: Path) -> list[str]:
    """Every service with a record, running or not."""
    return sorted(path.stem for path in (state / "pid").glob("*.json"))


def log_file(state: Path, name: str) -> Path:
    """Where its stdout and stderr go."""
    return state / "log" / f"{name}.log"


def last_words(state: Path, name: str) -> str:
    """The end of its log, indented, for error messages."""
    log = log_file(state, name)
    return tail(log.read_bytes()) if log.exists() else ""


def _running_pid(state: Path, name: str) -> int | None:
    """The pid, if that process is still the one we started: pids are used again, start times are not."""
    record = _record(state, name)
    if not record.exists():
        return None
    known = json.loads(record.read_text())
    pid = int(known["pid"])
    _reap(pid)
    return pid if known["start"] is not None and _start_time(pid) == known["start"] else None


def _start_time(pid: int) -> str | None:
    """Start time of a live process in clock ticks since boot (proc(5), stat field 22); None for none or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def _reap(pid: int) -> None:
    """Children of this very process would stay zombies after their end."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _record(state: Path, name: str) -> Path:
    return state / "pid" / f"{name}.json"
