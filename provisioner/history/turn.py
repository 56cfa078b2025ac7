"""One run of a fleet at a time on this control machine, and what this machine and who is at it are called by others.

The kernel keeps the lock (flock on a file beside the history): it goes with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_state_path

from provisioner.errors import LockedError, UsageError

POLL_S = 0.5


@contextmanager
def turn(
    fleet: str,
    command: str,
    *,
    wait_s: float = 0.0,
    on_wait: Callable[[str], None] = lambda _: None,
    root: Path | None = None,
) -> Iterator[None]:
    """The fleet is ours until the block ends. LockedError when another run has it and still does after `wait_s`.

    `command`: what whoever comes second is told. `on_wait` is told once who is waited for.
    """
    file = _open(_folder(root) / "locks" / f"{fleet}.lock")
    try:
        _wait(file, fleet, time.monotonic() + wait_s, wait_s, on_wait)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{current_user()}, process {os.getpid()}, since {_now()}: {command}\n".encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)


def holder(fleet: str, root: Path | None = None) -> str | None:
    """Who has the fleet's turn on this machine; None where nobody has."""
    file = _open(_folder(root) / "locks" / f"{fleet}.lock")
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _said(file)
    finally:
        os.close(file)
    return None


def current_user() -> str:
    """Who does it: the name of the account, and behind sudo whose terminal it is."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        name = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER", name)
    return name if behind == name else f"{behind} (as {name})"


def control_id(root: Path | None = None) -> str:
    """A word for this state directory of this machine, the same for ever."""
    path = _folder(root) / "control-id"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".control-id.{secrets.token_hex(4)}")
    with suppress(FileExistsError):  # whoever links it first has named it
        if not path.exists():
            temporary.write_text(secrets.token_hex(8) + "\n", encoding="ascii")
            try:
                path.hardlink_to(temporary)
            finally:
                temporary.unlink()
    return path.read_text(encoding="ascii").strip()


def _wait(file: int, fleet: str, end: float, wait_s: float, on_wait: Callable[[str], None]) -> None:
    told = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = f"a run of fleet {fleet} is at work on this machine: {_said(file)}"
            if time.monotonic() >= end:
                waited = f" (waited {wait_s:g} s)" if wait_s else ""
                raise LockedError(f"{who}{waited}", hint="wait for its end: --lock-wait 10m") from None
            if not told:
                on_wait(f"{who}; waiting for its end")
                told = True
            time.sleep(POLL_S)
        else:
            return


def _said(file: int) -> str:
    return os.pread(file, 4096, 0).decode(errors="replace").strip() or "it does not say which"


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"{path}: cannot be opened: {error.strerror or error}") from error


def _folder(root: Path | None) -> Path:
    return root if root is not None else user_state_path("provision")


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
