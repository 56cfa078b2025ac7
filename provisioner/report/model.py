"""A report: everything known of one run and of what came before it, as frozen data. Every format shows this."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime

from provisioner.fleet.base import Frozen
from provisioner.history.events import Event, Phase
from provisioner.history.rows import Measurement, RunRow
from provisioner.history.rundir import HostOutcome
from provisioner.history.steps import Step
from provisioner.history.tuning import Tuning
from provisioner.history.verdict import ServerVerdict
from provisioner.plan.model import Change, HostPlan


class Mark(Frozen):
    """What was different with a measurement than with the one before it."""

    index: int
    """of the measurement in its trend, the first is 0"""
    what: Literal["image", "driver", "vLLM"]
    before: str
    after: str


class Trend(Frozen):
    """The benchmarks of one server on one host that can be compared with its newest, oldest first."""

    host: str
    server: str
    measurements: tuple[Measurement, ...]
    marks: tuple[Mark, ...] = ()
    others: int = 0
    """how many more there are: of other loads, on other hardware, of a stand-in"""

    @property
    def throughputs(self) -> tuple[float, ...]:
        """Output tok/s of each."""
        return tuple(one.result.output_throughput for one in self.measurements)

    @property
    def change(self) -> float | None:
        """Output tok/s of the newest against the one before it; None for the first."""
        if len(self.measurements) < 2 or not self.throughputs[-2]:
            return None
        return self.throughputs[-1] / self.throughputs[-2] - 1


class PhaseTime(Frozen):
    """How long a host was in a phase."""

    phase: Phase
    server: str
    began: AwareDatetime
    seconds: float
    failed: bool


class HostReport(Frozen):
    """One host in one run."""

    name: str
    outcome: HostOutcome | None
    """None: the run did nothing on it"""
    plan: HostPlan | None
    changes: tuple[Change, ...] | None
    """what was to change; None where the run did not record it"""
    notes: tuple[str, ...] = ()
    """what could not be read of the run's directory"""
    phases: tuple[PhaseTime, ...]
    applied: tuple[Event, ...]
    """what did change: tasks of roles"""
    failures: tuple[Event, ...]
    verdicts: tuple[ServerVerdict, ...]
    trends: tuple[Trend, ...]

    @property
    def driver(self) -> str | None:
        """Of its GPUs, as this run saw it, else the newest benchmark before it."""
        now = [one.evidence.driver for one in self.verdicts if one.evidence and one.evidence.driver]
        if now:
            return now[-1]
        seen = [one.driver for trend in self.trends for one in trend.measurements if one.driver]
        return seen[-1] if seen else None

    @property
    def state(self) -> Literal["passed", "failed", "stopped", "untouched"]:
        """In one word."""
        if any(not verdict.passed for verdict in self.verdicts):
            return "failed"
        if self.outcome is None:
            return "untouched"
        return "passed" if self.outcome.state == "done" else self.outcome.state


class Report(Frozen):
    """One run."""

    run: RunRow
    ending: str
    """how it ended, in words"""
    made_at: AwareDatetime
    hosts: tuple[HostReport, ...]
    others: tuple[Trend, ...] = ()
    """of hosts of the fleet that the run did nothing on"""
    steps: tuple[Step, ...] = ()
    """of a rollout, in the order they were taken"""
    before: tuple[Measurement, ...] = ()
    """benchmarks of the fleet in other runs, oldest first"""
    tuning: Tuning | None = None
    """of a run that tuned a server"""

    @property
    def verdicts(self) -> tuple[ServerVerdict, ...]:
        """Of all hosts."""
        return tuple(verdict for host in self.hosts for verdict in host.verdicts)

    @property
    def took(self) -> timedelta | None:
        """From beginning to end; None without an end."""
        return self.run.ended_at - self.run.began_at if self.run.ended_at else None
