"""What a tuning measured, kept in its run's directory after every point: `tune.json`. It also says what is to be put
back on the host, should nobody be left to do it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from pydantic_core import to_json

from provisioner.fleet.base import Frozen
from provisioner.history.rundir import LATEST, Run, runs_dir
from provisioner.history.verdict import BenchmarkResult
from provisioner.plan.tuning import Candidate

FILE = "tune.json"


class TunedPoint(Frozen):
    """One point: what was tried and what came of it."""

    candidate: Candidate
    key: str = ""
    """of what was measured (plan.tuning.point_key); "" where it could not even be planned"""
    state: Literal["measured", "failed", "left"] = "left"
    """left: not tried, because the time was over or the tuning was interrupted"""
    reason: str = ""
    """why it failed or was left"""
    log: str = ""
    """the server's last words, of one that failed"""
    gpus: int = 1
    """how many the server spreads over"""
    start_s: float | None = None
    """seconds until the server answered; None where it was not restarted for this point"""
    bench_argv: tuple[str, ...] = ()
    result: BenchmarkResult | None = None
    kept_from: str = ""
    """the run that measured it, where it was an earlier one"""


class Tuning(Frozen):
    """One tuning of one server on one host."""

    host: str
    server: str
    hardware: str
    hardware_name: str
    model: str
    simulated: bool = False
    engine: str = ""
    """what kind of engine measured (verdict.engine_of)"""
    budget_s: int
    points: tuple[TunedPoint, ...]
    original_argv: tuple[str, ...]
    """what the server's container ran before and must run again"""
    changed: bool = False
    """the host was touched"""
    put_back: bool = False
    """the server runs as it did before"""

    @property
    def measured(self) -> tuple[TunedPoint, ...]:
        """Points with figures."""
        return tuple(point for point in self.points if point.result is not None)

    @property
    def owed(self) -> bool:
        """Whether something is to be put back."""
        return self.changed and not self.put_back


def save_tuning(run: Run, tuning: Tuning) -> None:
    """Keeps it as it stands; secrets are redacted."""
    # model_dump_json() makes null of inf and nan.
    run.save(FILE, to_json(tuning.model_dump(), inf_nan_mode="constants", indent=1).decode() + "\n")


def read_tuning(directory: Path) -> Tuning | None:
    """That of a run; None where it has none, or one of another version."""
    try:
        return Tuning.model_validate(json.loads((directory / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, ValidationError):
        return None


def tunings(fleet: str, host: str, server: str, root: Path | None = None) -> tuple[tuple[str, Tuning], ...]:
    """Earlier ones of this server, with the ids of their runs, newest first."""
    parent = runs_dir(fleet, root)
    folders = [one for one in parent.iterdir() if one.name != LATEST] if parent.is_dir() else []
    found = ((one.name, read_tuning(one)) for one in sorted(folders, key=lambda one: one.name, reverse=True))
    return tuple((name, one) for name, one in found if one and (one.host, one.server) == (host, server))


def known_points(earlier: tuple[tuple[str, Tuning], ...]) -> dict[str, TunedPoint]:
    """By key, the newest measurement of each point."""
    known: dict[str, TunedPoint] = {}
    for run, tuning in earlier:
        for point in tuning.measured:
            known.setdefault(point.key, point.model_copy(update={"kept_from": point.kept_from or run}))
    return known
