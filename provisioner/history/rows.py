"""What the history gives back: plain data, no database in it."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime

from pydantic import AwareDatetime

from provisioner.fleet.base import Frozen, Platform
from provisioner.history.verdict import BenchmarkResult, ServerVerdict, engine_of


class RunRow(Frozen):
    """One run. `ended_at` and `exit_code` are None while it runs, and for ever when it was killed."""

    id: str
    fleet: str
    fleet_path: str
    began_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    exit_code: int | None = None
    command: tuple[str, ...]
    user: str
    hosts: tuple[str, ...]
    """those it was to act on"""


class Measurement(Frozen):
    """One benchmark of one server, with what it was measured on."""

    id: int
    run_id: str
    at: AwareDatetime
    fleet: str
    host: str
    server: str
    hardware: str
    gpu_count: int
    platform: Platform
    model: str
    variant: str
    version: str | None
    """vLLM's, as the server told it"""
    image: str | None
    """twelve digits of its digest"""
    driver: str | None
    workload: str
    """fingerprint of what makes two benchmarks comparable (provisioner.plan.workload); "" where it is not known"""
    passed: bool
    """what the verdict was"""
    accepted: bool
    """it belongs to the baseline of its host"""
    acceptance: int = 0
    """the last one of it, in the order in which they were made; 0: none"""
    replaces: int = 0
    """the acceptance by which the baseline began anew with it: what was accepted before does not count any more. 0: it
    did not"""
    simulated: bool = False
    """the GPUs were stand-ins"""
    engine: str = ""
    """what kind of engine it was (verdict.engine_of)"""
    result: BenchmarkResult


class Acceptance(Frozen):
    """That a measurement belongs to the baseline of its host, and who says so."""

    measurement: int
    run_id: str
    host: str
    server: str
    at: AwareDatetime
    by: str
    note: str
    automatic: bool
    """by the fleet's policy, not by hand"""
    replaces: bool


class AuditRow(Frozen):
    """One line of the audit log."""

    id: int
    at: AwareDatetime
    user: str
    action: str
    """began, ended, accepted, replaced, unlocked, and the steps of rollouts (history.steps)"""
    run_id: str
    fleet: str
    command: tuple[str, ...]
    hosts: tuple[str, ...]
    images: tuple[str, ...]
    """host/server=digest of what was found running there"""
    verdict: str
    """how it ended"""


def run_row(row: sqlite3.Row) -> RunRow:
    """A row of `runs`, with its hosts."""
    return RunRow(
        id=row["id"],
        fleet=row["fleet"],
        fleet_path=row["fleet_path"],
        began_at=datetime.fromisoformat(row["began_at"]),
        ended_at=datetime.fromisoformat(row["ended_at"]) if row["ended_at"] else None,
        exit_code=row["exit_code"],
        command=tuple(json.loads(row["command"])),
        user=row["user"],
        hosts=tuple(json.loads(row["hosts"])),
    )


def measurement(row: sqlite3.Row) -> Measurement:
    """A row of `verdicts` that has a benchmark, with its run's fleet and what was accepted."""
    verdict = ServerVerdict.model_validate_json(row["verdict"])
    if verdict.benchmark is None:
        raise ValueError(f"verdict {row['id']} has no benchmark")
    return Measurement(
        id=row["id"],
        run_id=row["run_id"],
        at=datetime.fromisoformat(row["at"]),
        fleet=row["fleet"],
        host=verdict.host,
        server=verdict.server,
        hardware=verdict.hardware,
        gpu_count=verdict.gpu_count,
        platform=verdict.platform,
        model=verdict.model,
        variant=verdict.variant,
        version=verdict.version,
        image=row["image"],
        driver=row["driver"],
        workload=row["workload"],
        passed=verdict.passed,
        accepted=row["acceptance"] is not None,
        acceptance=row["acceptance"] or 0,
        replaces=row["replaces"] or 0,
        simulated=verdict.simulated,
        engine=engine_of(verdict.image),
        result=verdict.benchmark,
    )


def acceptance(row: sqlite3.Row) -> Acceptance:
    """A row of `acceptances`, with what it is about."""
    return Acceptance(
        measurement=row["verdict_id"],
        run_id=row["run_id"],
        host=row["host"],
        server=row["server"],
        at=datetime.fromisoformat(row["at"]),
        by=row["by"],
        note=row["note"],
        automatic=bool(row["automatic"]),
        replaces=bool(row["replaces"]),
    )


def audit_row(row: sqlite3.Row) -> AuditRow:
    """A row of `audit`."""
    return AuditRow(
        id=row["id"],
        at=datetime.fromisoformat(row["at"]),
        user=row["user"],
        action=row["action"],
        run_id=row["run_id"],
        fleet=row["fleet"],
        command=tuple(json.loads(row["command"])),
        hosts=tuple(json.loads(row["hosts"])),
        images=tuple(json.loads(row["images"])),
        verdict=row["verdict"],
    )
