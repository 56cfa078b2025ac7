"""Running programs to their end, with a bound, and one clear error when they fail."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from provisioner.errors import LabError


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    what: str,
    env: Mapping[str, str] | None = None,
    data: bytes | None = None,
    stdin: IO[bytes] | None = None,
    hint: str | None = None,
) -> str:
    """Run to the end and return stdout.

    `what` names the work in errors ("building the host image"); `timeout` is in seconds.
    Raises LabError with the last lines of stderr when the program is missing, fails or takes too long.
    """
    try:
        done = subprocess.run(
            list(argv), env=env, input=data, stdin=stdin, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"{what}: {argv[0]} is not on this machine", hint=hint) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"{what}: {argv[0]} did not end within {timeout:.0f} s" + tail(error.stderr or b""), hint=hint
        ) from error
    if done.returncode:
        words = tail(done.stderr) or tail(done.stdout)
        raise LabError(f"{what}: {argv[0]} failed (exit {done.returncode}){words}", hint=hint)
    return done.stdout.decode(errors="replace")


def succeeds(argv: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> bool:
    """Whether the program is there and ends with 0 in time: for questions, not for work."""
    try:
        done = subprocess.run(list(argv), env=env, capture_output=True, timeout=timeout, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def wait_until(ready: Callable[[], bool], *, timeout: float, every: float = 0.2) -> bool:
    """Ask until it is so or `timeout` seconds have passed; the caller says what was waited for."""
    end = time.monotonic() + timeout
    while not ready():
        if time.monotonic() >= end:
            return False
        time.sleep(every)
    return True


def tail(output: bytes, lines: int = 6) -> str:
    """The last lines of a program's words, each on its own indented line; empty when it said nothing."""
    words = [line for line in output.decode(errors="replace").splitlines() if line.strip()][-lines:]
    return "".join(f"\n    {line}" for line in words)
