"""What happens to a host, as it happens: the one kind of event that every phase of a run emits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, get_args

from pydantic import AwareDatetime, Field

from provisioner.fleet.base import Frozen

Phase = Literal["probe", "plan", "check", "apply", "health", "answers", "benchmark", "rollback", "done", "failed"]
Status = Literal["started", "running", "ok", "changed", "failed", "skipped"]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""in the order a host goes through them; `check` is instead of all later ones, `done` and `failed` are where it ends"""


def _now() -> datetime:
    return datetime.now(UTC)


class Event(Frozen):
    """One thing that happened on one host. `task` and `detail` are for people and hold no secrets."""

    host: str
    phase: Phase
    task: str = ""
    """what is being done: an Ansible task's name, a check, a progress line"""
    status: Status = "running"
    time: AwareDatetime = Field(default_factory=_now)
    server: str = ""
    """name of the server it is about; "" when it is about the host"""
    detail: str = ""
    """why it failed or was skipped; of something long, how far it is"""


OnEvent = Callable[[Event], None]
