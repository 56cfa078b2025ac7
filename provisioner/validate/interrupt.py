"""Ctrl-C reaches the main thread alone: the threads that validate hosts ask whether it came."""

from __future__ import annotations

from collections.abc import Callable

from provisioner.errors import Exit, ProvisionError

Interrupted = Callable[[], bool]


class RunInterrupted(ProvisionError):  # noqa: N818 - says what happened; it is nobody's error
    """The operator ended the run."""

    exit_code = Exit.INTERRUPTED


def stop_if(interrupted: Interrupted) -> None:
    """Raises when the run was interrupted."""
    if interrupted():
        raise RunInterrupted("interrupted", hint="running the command again goes on where this stopped")
