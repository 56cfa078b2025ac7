"""What became of hosts, and what that means for the program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioner.errors import Exit
from provisioner.rollout.state import State

if TYPE_CHECKING:
    from provisioner.history.verdict import ServerVerdict


@dataclass(frozen=True)
class HostOutcome:
    """What became of one host."""

    host: str
    exit_code: Exit
    changed: int = 0
    """Ansible tasks that changed something"""
    verdicts: tuple[ServerVerdict, ...] = ()
    message: str = ""
    """why it failed, ending with the host's own words"""
    untouched: bool = False
    """it was as planned and proven: nothing was done"""
    touched: bool = False
    """it was changed, by this run or by one that was cut off: what is on it now is not its release"""
    state: State = "unchanged"
    """where a rollout left it"""
    pending: bool = False
    """it has work and its turn never came"""
    rollback: str = ""
    """what became of bringing it back, in words"""


def exit_code(outcomes: Sequence[HostOutcome]) -> Exit:
    """The run's exit code: interrupted, then a failed host, a failed gate, an unreachable host; else 0."""
    codes = {outcome.exit_code for outcome in outcomes}
    order = (Exit.INTERRUPTED, Exit.HOST_FAILED, Exit.BAD_INPUT, Exit.GATE_FAILED, Exit.UNREACHABLE)
    return next((code for code in order if code in codes), Exit.OK)
