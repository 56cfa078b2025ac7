"""One tree of errors. Each carries what went wrong, what to do about it, and the exit code of the program."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """Exit codes of every command (documented in the README)."""

    OK = 0
    HOST_FAILED = 1
    BAD_INPUT = 2
    GATE_FAILED = 3
    UNREACHABLE = 4
    CHANGES = 5
    LOCKED = 6
    INTERRUPTED = 130


class ProvisionError(Exception):
    """Base of all errors that a user can cause or mend: shown as a message, never as a traceback."""

    exit_code = Exit.HOST_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with an input file. Lines and columns count from 1; 0 means that no place is known."""

    file: Path
    line: int
    column: int
    key: str
    reason: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else str(self.file)
        key = f" {self.key}:" if self.key else ""
        return f"{place}:{key} {self.reason}" + (f"; {self.hint}" if self.hint else "")


class InputError(ProvisionError):
    """The input is wrong: every problem at once, each with file, line, column and key."""

    exit_code = Exit.BAD_INPUT

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(ProvisionError):
    """The command line or the circumstances do not allow what was asked for."""

    exit_code = Exit.BAD_INPUT


class UpstreamError(ProvisionError):
    """A registry, model hub or git server did not say what a name stands for: it has none, or refuses to tell."""

    exit_code = Exit.BAD_INPUT


class UpstreamUnreachableError(UpstreamError):
    """It does not answer."""

    exit_code = Exit.UNREACHABLE


class UnreachableError(ProvisionError):
    """A host cannot be reached over SSH."""

    exit_code = Exit.UNREACHABLE


class HostError(ProvisionError):
    """A host was reached but is not fit, or what was done to it failed. `log` ends with the host's own words."""

    exit_code = Exit.HOST_FAILED

    def __init__(self, message: str, *, hint: str | None = None, log: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log = log


class LockedError(ProvisionError):
    """Another run is at work on the fleet, or on a host of it."""

    exit_code = Exit.LOCKED


class GateError(ProvisionError):
    """A server answered, but not well enough."""

    exit_code = Exit.GATE_FAILED


class LabError(ProvisionError):
    """The rehearsal fleet cannot be set up on this machine."""

    exit_code = Exit.HOST_FAILED
