"""By when a rollout must be over, and whether a wave may still begin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from provisioner.errors import Exit
from provisioner.fleet.durations import duration_text
from provisioner.history.steps import Step
from provisioner.history.store import Store

LOOKED_AT = 20
"""so many of the fleet's last runs are asked how long things take"""
RUNS = 5
"""so many of those with a host tell how long a wave takes it"""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Expected:
    """How long a wave takes, and going back from it once its gate has failed; 0 where nothing would go back."""

    wave_s: float
    back_s: float = 0.0


@dataclass(frozen=True)
class Deadline:
    """The end of a window. `wave_s`: how long a wave takes where nobody knows better."""

    end: datetime
    wave_s: float
    now: Callable[[], datetime] = _now

    def latest_start(self, takes: Expected) -> datetime:
        """The last moment at which such a wave may begin: it and going back from it are over by the end."""
        return self.end - timedelta(seconds=takes.wave_s + takes.back_s)

    def refuses(self, takes: Expected) -> str | None:
        """Why such a wave must not begin now; None where it may."""
        if self.now() <= self.latest_start(takes):
            return None
        back = f", and going back from it {duration_text(round(takes.back_s))}" if takes.back_s else ""
        return (
            f"it would not be over by {self.end:%H:%M} ({self.end.tzname()}), which ends the window: "
            f"it takes {duration_text(round(takes.wave_s))}{back}"
        )


def expected(
    store: Store, fleet: str, hosts: Collection[str], returning: Collection[str], unknown_s: float
) -> Expected:
    """How long a wave of these hosts takes, of which (and of earlier ones) `returning` may have to go back.

    Hosts go on side by side, so the longest of each in its last runs counts. A host of which no wave is known is taken
    to need `unknown_s`. One that is not known to have gone back is taken to need as long as the wave for it: it is the
    same work, and what it needs is mostly there.
    """
    waves: dict[str, list[float]] = {}
    backs: dict[str, float] = {}
    for run in store.runs(fleet, limit=LOOKED_AT):
        steps = store.steps(run.id)
        for host in _waved(steps) & set(hosts) if run.exit_code == Exit.OK else ():
            if len(waves.setdefault(host, [])) < RUNS:
                waves[host].append(_span_s(store, run.id, host))
        for host, seconds in _backs(steps).items():
            backs[host] = max(seconds, backs.get(host, 0.0))
    wave_s = max((max(waves.get(host, [0.0])) or unknown_s for host in hosts), default=unknown_s)
    return Expected(wave_s, max((backs.get(host, wave_s) for host in returning), default=0.0))


def _waved(steps: Sequence[Step]) -> set[str]:
    """The hosts that had their turn in a wave. Runs of other commands have none, and say nothing of waves."""
    return {host for step in steps if step.kind == "wave" for host in step.hosts}


def _span_s(store: Store, run: str, host: str) -> float:
    """From the first to the last that is known of the host."""
    times = [event.time for event in store.events(run, host)]
    return (times[-1] - times[0]).total_seconds() if times else 0.0


def _backs(steps: Sequence[Step]) -> dict[str, float]:
    """The hosts that got their previous release back → how many seconds that took."""
    began: dict[str, datetime] = {}
    took: dict[str, float] = {}
    for step in steps:
        for host in step.hosts:
            if step.kind == "rolling_back":
                began[host] = step.time
            elif step.kind == "rolled_back" and host in began:
                took[host] = (step.time - began[host]).total_seconds()
    return took
