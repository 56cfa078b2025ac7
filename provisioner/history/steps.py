"""What happens to a rollout as a whole, as it happens: waves, gates, going back, approval."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from provisioner.fleet.base import Frozen

StepKind = Literal[
    "started",  # hosts: all that it is about
    "wave",  # a wave begins
    "failed",  # hosts of the wave that did not pass its gate
    "rolling_back",  # hosts that are about to get their previous release
    "rolled_back",  # they serve it again
    "stopped",  # they had none: their servers are stopped
    "lost",  # they could not be brought back
    "promoted",  # they passed with their wave: the new release is theirs
    "paused",
    "asked",  # somebody must say whether it goes on
    "approved",
    "refused",
    "aborted",  # the rollout ends before its last wave; detail: why
    "interrupted",
    "finished",
]


class Step(Frozen):
    """One step. `detail` is for people and holds no secrets."""

    kind: StepKind
    wave: str = ""
    """its name; "" when it is about the whole rollout"""
    hosts: tuple[str, ...] = ()
    detail: str = ""
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def words(self) -> str:
        """Wave and detail, where it has them."""
        return ": ".join(part for part in (self.wave, self.detail) if part)


OnStep = Callable[[Step], None]
