"""The history: every run, its events and verdicts, what was accepted as baseline, and the audit log.

One SQLite file beside the run directories. A run that was killed leaves everything that it had told; it has no end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from platformdirs import user_state_path
from pydantic_core import to_json

from provisioner.errors import Exit, UsageError
from provisioner.fleet.suggest import near
from provisioner.history.database import Database
from provisioner.history.events import Event
from provisioner.history.rows import (
    Acceptance,
    AuditRow,
    Measurement,
    RunRow,
    acceptance,
    audit_row,
    measurement,
    run_row,
)
from provisioner.history.steps import Step
from provisioner.history.verdict import ServerVerdict

FILE = "history.sqlite"
LATEST = "latest"

_HOSTS = "(SELECT json_group_array(host) FROM (SELECT host FROM run_hosts WHERE run_id = runs.id ORDER BY position))"
_RUNS = f"SELECT runs.*, {_HOSTS} AS hosts FROM runs"  # noqa: S608 - of constants of this file, no value
_RUNS_WANTED = """
    WHERE (:fleet IS NULL OR fleet = :fleet)
        AND (:host IS NULL OR id IN (SELECT run_id FROM run_hosts WHERE host = :host))
    ORDER BY began_at DESC, rowid DESC LIMIT :limit"""
_IDS = "SELECT id FROM runs WHERE :fleet IS NULL OR fleet = :fleet"
_MEASUREMENTS = """
    SELECT verdicts.*, runs.fleet,
        (SELECT max(id) FROM acceptances WHERE verdict_id = verdicts.id) AS acceptance,
        (SELECT max(id) FROM acceptances WHERE verdict_id = verdicts.id AND replaces) AS replaces
    FROM verdicts JOIN runs ON runs.id = run_id
    WHERE benchmarked"""


def default_path(root: Path | None = None) -> Path:
    """Where the history is: beside `runs/`, in `root` or the user's state directory."""
    return (root if root is not None else user_state_path("provision")) / FILE


def open_store(path: Path | None = None, *, read_only: bool = False) -> Store:
    """The history at `path` (default: the user's). Read-only, one that is not there is empty and is not created.

    UsageError when it cannot be opened, is no database, or was written by a newer version.
    """
    file = path or default_path()
    return Store(Database(None if read_only and not file.exists() else file, read_only=read_only))


class Store:
    """An open history. Safe to use from several threads, and beside other processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing can be read or added afterwards."""
        self._database.close()

    # What runs tell

    def begin_run(
        self, run_id: str, fleet: str, fleet_path: str, command: Sequence[str], user: str, hosts: Sequence[str]
    ) -> None:
        """A run that begins now, with the hosts it is to act on."""
        with self._database.writing() as db:
            db.execute(
                "INSERT INTO runs (id, fleet, fleet_path, command, user, began_at) VALUES (?, ?, ?, ?, ?, ?)",
                (run_id, fleet, fleet_path, json.dumps(list(command)), user, _now()),
            )
            db.executemany(
                "INSERT INTO run_hosts (run_id, position, host) VALUES (?, ?, ?)",
                [(run_id, position, host) for position, host in enumerate(hosts)],
            )
            self._audit(user, "began", self.run(run_id), hosts, (), "")

    def finish_run(self, run_id: str, exit_code: int) -> None:
        """How it ended."""
        with self._database.writing() as db:
            db.execute("UPDATE runs SET ended_at = ?, exit_code = ? WHERE id = ?", (_now(), exit_code, run_id))
            run = self.run(run_id)
            self._audit(run.user, "ended", run, run.hosts, self._images(run_id), _ended(exit_code))

    def add_event(self, run_id: str, event: Event) -> None:
        """One event; it is on the disk when this returns."""
        with self._database.writing() as db:
            db.execute(
                "INSERT INTO events (run_id, host, event) VALUES (?, ?, ?)",
                (run_id, event.host, event.model_dump_json()),
            )

    def add_step(self, run_id: str, step: Step) -> None:
        """One step of a rollout; it is on the disk, and in the audit log, when this returns."""
        with self._database.writing() as db:
            db.execute("INSERT INTO steps (run_id, step) VALUES (?, ?)", (run_id, step.model_dump_json()))
            run = self.run(run_id)
            self._audit(run.user, step.kind, run, step.hosts, self._images(run_id, step.hosts), step.words)

    def add_verdict(
        self, run_id: str, verdict: ServerVerdict, *, workload: str = "", driver: str | None = None
    ) -> None:
        """What a server got. `workload`: its fingerprint (provisioner.plan.workload); without one, the measurement is
        compared with no other. `driver`: of the host's GPUs."""
        image = verdict.image.short if verdict.image else None
        with self._database.writing() as db:
            db.execute(
                "INSERT INTO verdicts (run_id, at, host, server, hardware, workload, driver, image, benchmarked,"
                " verdict) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run_id,
                    _now(),
                    verdict.host,
                    verdict.server,
                    verdict.hardware,
                    workload,
                    driver,
                    image,
                    verdict.benchmark is not None,
                    _verdict_text(verdict),
                ),
            )

    def accept(
        self,
        run_id: str,
        host: str | None = None,
        server: str | None = None,
        *,
        by: str,
        note: str = "",
        automatic: bool = False,
        replaces: bool = False,
    ) -> tuple[Measurement, ...]:
        """Takes the last benchmark of every server of the run (of `host`, of `server`) into its host's baseline.

        `replaces`: what was accepted before does not count any more. UsageError when the run has no such benchmark.
        """
        with self._database.writing() as db:
            run = self.run(run_id)
            found = {(m.host, m.server): m for m in self._measured(run=run_id, host=host, server=server)}
            if not found:
                about = "".join(f", {key} {value}" for key, value in (("host", host), ("server", server)) if value)
                raise UsageError(f"run {run_id}{about}: it has no benchmark", hint=f"`provision history {host or ''}`")
            db.executemany(
                "INSERT INTO acceptances (verdict_id, at, by, note, automatic, replaces) VALUES (?, ?, ?, ?, ?, ?)",
                [(m.id, _now(), by, note, automatic, replaces) for m in found.values()],
            )
            if not automatic:
                what = f"{', '.join(sorted({m.server for m in found.values()}))}{': ' if note else ''}{note}"
                hosts = tuple(dict.fromkeys(m.host for m in found.values()))
                taken = {f"{m.host}/{m.server}" for m in found.values()}
                images = [image for image in self._images(run_id, hosts) if image.partition("=")[0] in taken]
                self._audit(by, "replaced" if replaces else "accepted", run, hosts, images, what)
            ids = {m.id for m in found.values()}
            return tuple(m for m in self._measured(run=run_id, host=host, server=server) if m.id in ids)

    def note_drift(
        self, fleet: str, host: str, subjects: Sequence[str], *, at: datetime, forget: bool = True
    ) -> dict[str, datetime]:
        """What is not as planned on a host now → since when that is known. What is not among `subjects` any more is
        forgotten, unless `forget` is False."""
        with self._database.writing() as db:
            rows = db.execute("SELECT subject, since FROM drift WHERE fleet = ? AND host = ?", (fleet, host)).fetchall()
            known = {row["subject"]: row["since"] for row in rows}
            if forget:
                gone = [(fleet, host, subject) for subject in known if subject not in subjects]
                db.executemany("DELETE FROM drift WHERE fleet = ? AND host = ? AND subject = ?", gone)
            fresh = {subject: at.isoformat(timespec="microseconds") for subject in subjects if subject not in known}
            db.executemany(
                "INSERT INTO drift (fleet, host, subject, since) VALUES (?, ?, ?, ?)",
                [(fleet, host, subject, since) for subject, since in fresh.items()],
            )
        return {subject: datetime.fromisoformat((known | fresh)[subject]) for subject in subjects}

    def note_unlock(self, user: str, fleet: str, command: Sequence[str], holders: Mapping[str, str], why: str) -> None:
        """That somebody ended leases by hand. `holders`: by host, whose it was."""
        whose = "; ".join(f"{host}: {holder}" for host, holder in holders.items())
        with self._database.writing():
            self._audited(user, "unlocked", "", fleet, command, holders, (), f"{why} ({whose})")

    # What is asked

    def runs(self, fleet: str | None = None, host: str | None = None, limit: int | None = None) -> tuple[RunRow, ...]:
        """Newest first; `host`: those that were to act on it."""
        with self._database.reading() as db:
            rows = db.execute(
                _RUNS + _RUNS_WANTED,
                {"fleet": fleet, "host": host, "limit": -1 if limit is None else limit},
            ).fetchall()
        return tuple(run_row(row) for row in rows)

    def run(self, run: str, fleet: str | None = None) -> RunRow:
        """By its id, a part of it that no other run has (its beginning or its end), or `latest`. UsageError if none."""
        with self._database.reading() as db:
            if run == LATEST:
                found = self.runs(fleet, limit=1)
                if not found:
                    raise UsageError("there is no run yet" + (f" of fleet {fleet}" if fleet else ""))
                return found[0]
            ids = [str(row[0]) for row in db.execute(_IDS, {"fleet": fleet})]
            row = db.execute(f"{_RUNS} WHERE id = ?", (_only(run, ids),)).fetchone()
        return run_row(row)

    def hosts(self, fleet: str | None = None) -> tuple[str, ...]:
        """Every host that a run was to act on, by name."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT DISTINCT host FROM run_hosts JOIN runs ON runs.id = run_id"
                " WHERE :fleet IS NULL OR fleet = :fleet ORDER BY host",
                {"fleet": fleet},
            ).fetchall()
        return tuple(row["host"] for row in rows)

    def events(self, run_id: str, host: str | None = None) -> tuple[Event, ...]:
        """In the order they were told."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT event FROM events WHERE run_id = :run AND (:host IS NULL OR host = :host) ORDER BY id",
                {"run": run_id, "host": host},
            ).fetchall()
        return tuple(Event.model_validate_json(row["event"]) for row in rows)

    def steps(self, run_id: str) -> tuple[Step, ...]:
        """Of a rollout, in the order they were taken."""
        with self._database.reading() as db:
            rows = db.execute("SELECT step FROM steps WHERE run_id = ? ORDER BY id", (run_id,)).fetchall()
        return tuple(Step.model_validate_json(row["step"]) for row in rows)

    def verdicts(self, run_id: str) -> tuple[ServerVerdict, ...]:
        """In the order they were found."""
        with self._database.reading() as db:
            rows = db.execute("SELECT verdict FROM verdicts WHERE run_id = ? ORDER BY id", (run_id,)).fetchall()
        return tuple(ServerVerdict.model_validate_json(row["verdict"]) for row in rows)

    def measurements(
        self,
        fleet: str | None = None,
        host: str | None = None,
        server: str | None = None,
        hardware: str | None = None,
        workload: str | None = None,
        *,
        run: str | None = None,
    ) -> tuple[Measurement, ...]:
        """Every benchmark that fits, oldest first, accepted or not. `run`: the whole id of one."""
        return self._measured(run=run, fleet=fleet, host=host, server=server, hardware=hardware, workload=workload)

    def accepted(self, host: str | None = None, server: str | None = None) -> tuple[Acceptance, ...]:
        """Who took what into the baseline, oldest first."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT acceptances.*, run_id, host, server FROM acceptances JOIN verdicts ON verdicts.id = verdict_id"
                " WHERE (:host IS NULL OR host = :host) AND (:server IS NULL OR server = :server)"
                " ORDER BY acceptances.id",
                {"host": host, "server": server},
            ).fetchall()
        return tuple(acceptance(row) for row in rows)

    def audit(
        self, fleet: str | None = None, host: str | None = None, limit: int | None = None
    ) -> tuple[AuditRow, ...]:
        """The audit log, newest first. It is only ever appended to."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT * FROM audit WHERE (:fleet IS NULL OR fleet = :fleet)"
                " AND (:host IS NULL OR EXISTS (SELECT 1 FROM json_each(hosts) WHERE value = :host))"
                " ORDER BY id DESC LIMIT :limit",
                {"fleet": fleet, "host": host, "limit": -1 if limit is None else limit},
            ).fetchall()
        return tuple(audit_row(row) for row in rows)

    def _measured(
        self,
        *,
        run: str | None = None,
        fleet: str | None = None,
        host: str | None = None,
        server: str | None = None,
        hardware: str | None = None,
        workload: str | None = None,
    ) -> tuple[Measurement, ...]:
        wanted = {
            "run_id": run, "runs.fleet": fleet, "host": host, "server": server, "hardware": hardware,
            "workload": workload,
        }  # fmt: skip
        given = {column: value for column, value in wanted.items() if value is not None}
        conditions = "".join(f" AND {column} = ?" for column in given)
        with self._database.reading() as db:
            rows = db.execute(f"{_MEASUREMENTS}{conditions} ORDER BY verdicts.id", tuple(given.values())).fetchall()
        return tuple(measurement(row) for row in rows)

    def _images(self, run_id: str, hosts: Sequence[str] | None = None) -> tuple[str, ...]:
        """The digests of what was found running, on these hosts or all of them."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT host, server, verdict FROM verdicts WHERE run_id = :run AND image IS NOT NULL"
                " AND (:hosts IS NULL OR host IN (SELECT value FROM json_each(:hosts))) ORDER BY id",
                {"run": run_id, "hosts": None if hosts is None else json.dumps(list(hosts))},
            ).fetchall()
        last = {(row["host"], row["server"]): row["verdict"] for row in rows}
        return tuple(f"{host}/{server}={_digest(verdict)}" for (host, server), verdict in last.items())

    def _audit(
        self, user: str, action: str, run: RunRow, hosts: Iterable[str], images: Iterable[str], verdict: str
    ) -> None:
        self._audited(user, action, run.id, run.fleet, run.command, hosts, images, verdict)

    def _audited(
        self,
        user: str,
        action: str,
        run_id: str,
        fleet: str,
        command: Sequence[str],
        hosts: Iterable[str],
        images: Iterable[str],
        verdict: str,
    ) -> None:
        with self._database.writing() as db:
            db.execute(
                "INSERT INTO audit (at, user, action, run_id, fleet, command, hosts, images, verdict)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    _now(),
                    user,
                    action,
                    run_id,
                    fleet,
                    json.dumps(list(command)),
                    json.dumps(list(hosts)),
                    json.dumps(list(images)),
                    verdict,
                ),
            )


def ending(run: RunRow) -> str:
    """How a run ended, in words; without an end, `interrupted`."""
    return "interrupted" if run.exit_code is None else _ended(run.exit_code)


def _ended(exit_code: int) -> str:
    words = {
        Exit.OK: "passed",
        Exit.HOST_FAILED: "a host failed",
        Exit.BAD_INPUT: "bad input",
        Exit.GATE_FAILED: "a gate failed",
        Exit.UNREACHABLE: "a host was unreachable",
        Exit.INTERRUPTED: "interrupted",
    }
    return next((word for code, word in words.items() if code == exit_code), f"exit code {exit_code}")


def _only(part: str, ids: list[str]) -> str:
    if part in ids:
        return part
    found = [run for run in ids if part and (run.startswith(part) or run.endswith(part))]
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(sorted(found, reverse=True)[:3])
        raise UsageError(f"run {part}: {len(found)} runs are called so: {shown}{' …' if len(found) > 3 else ''}")
    nearest = near(part, ids)
    hint = f'did you mean "{nearest}"?' if nearest else "`provision history` lists them; `latest` is the last one"
    raise UsageError(f"run {part}: there is no such run", hint=hint)


def _verdict_text(verdict: ServerVerdict) -> str:
    # model_dump_json() makes null of inf and nan, also within `raw`.
    return to_json(verdict.model_dump(), inf_nan_mode="constants").decode()


def _digest(verdict: str) -> str:
    """Of the registry, or the id of an image that was built; in a verdict as it is kept."""
    image = json.loads(verdict)["image"]
    return str(image["digest"] or image["id"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
