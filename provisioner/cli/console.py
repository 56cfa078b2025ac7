"""Where words go: results to stdout, everything else to stderr."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from provisioner.errors import UsageError


def out(text: str) -> None:
    """A result."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def say(text: str) -> None:
    """Progress, questions and errors."""
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()


def confirm(question: str) -> bool:
    """Asks at the terminal; anything but yes is no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def allowed(question: str, what: str) -> bool:
    """Asks for leave. UsageError where there is nobody to ask; `what`: what --yes would do unasked."""
    if not at_terminal():
        raise UsageError("there is no terminal to ask at", hint=f"add --yes to {what} without asking")
    return confirm(question)


def at_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextmanager
def interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Ctrl-C (and SIGTERM) set a flag that long work looks at between steps; a second one ends at once."""
    seen = False

    def handler(_signum: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True
        say("stopping; what is under way is ended and recorded (again to leave at once)")

    previous = {one: signal.signal(one, handler) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: seen
    finally:
        for one, old in previous.items():
            signal.signal(one, old)
