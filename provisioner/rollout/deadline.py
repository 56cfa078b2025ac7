"""By when a rollout must be over, and whether a wave may still begin."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from provisioner.errors import Exit
from provisioner.fleet.durations import duration_text
from provisioner.history.store import Store

RUNS = 5
"""so many of the last runs tell how long a wave takes"""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Deadline:
    """The end of a window. `wave_s`: how long a wave takes where nobody knows better."""

    end: datetime
    wave_s: float
    now: Callable[[], datetime] = _now

    def latest_start(self, expected_s: float | None = None) -> datetime:
        """The last moment at which a wave that takes so long may begin."""
        return self.end - timedelta(seconds=self.wave_s if expected_s is None else expected_s)

    def refuses(self, expected_s: float | None = None) -> str | None:
        """Why a wave must not begin now; None where it may."""
        if self.now() <= self.latest_start(expected_s):
            return None
        takes = duration_text(round(self.wave_s if expected_s is None else expected_s))
        return (
            f"it would not be over by {self.end:%H:%M} ({self.end.tzname()}), which ends the window: it takes {takes}"
        )


def expected_wave_s(store: Store, fleet: str, hosts: Collection[str]) -> float | None:
    """How long these hosts took to be changed and validated: the longest of each in the last runs that ended well.
    None where no such run is known. Hosts of a wave are changed side by side."""
    longest: float | None = None
    runs = [
        run for run in store.runs(fleet, limit=RUNS * 4) if run.exit_code == Exit.OK and set(run.hosts) & set(hosts)
    ]
    for run in runs[:RUNS]:
        for host in set(run.hosts) & set(hosts):
            events = [event.time for event in store.events(run.id, host)]
            if len(events) > 1:
                longest = max(longest or 0.0, (events[-1] - events[0]).total_seconds())
    return longest
