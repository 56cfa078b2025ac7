"""The directory of a run: what was done, event by event, and how it ended. Readable by its owner alone."""

from __future__ import annotations

import fcntl
import os
import secrets as randomness
import threading
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from platformdirs import user_state_path
from pydantic import AwareDatetime, Field

from provisioner.fleet.base import Frozen
from provisioner.history.events import Event, Phase
from provisioner.history.redact import redact, redact_data
from provisioner.history.steps import OnStep, Step
from provisioner.history.store import Store, default_path, open_store
from provisioner.history.turn import current_user
from provisioner.history.verdict import ServerVerdict

EVENTS = "events.jsonl"
RECORD = "record.json"
LATEST = "latest"


class HostOutcome(Frozen):
    """Where a host ended, or where it stands: the last thing that happened on it."""

    state: Literal["done", "failed", "stopped"]
    """stopped: neither done nor failed when the run ended"""
    phase: Phase
    task: str
    detail: str = ""


class Record(Frozen):
    """One run. `finished` and `exit_code` are None while it runs, and for ever when it was killed."""

    id: str
    command: tuple[str, ...]
    fleet: str
    fleet_path: str
    started: AwareDatetime
    finished: AwareDatetime | None = None
    exit_code: int | None = None
    hosts: dict[str, HostOutcome] = Field(default_factory=dict)


class Run:
    """An open run directory. Safe to use from the threads of all hosts."""

    def __init__(self, path: Path, record: Record, secrets: Iterable[str], store: Store) -> None:
        self.path = path
        self.record = record
        self.store = store
        """the history that this run is part of; `finish` closes it"""
        self.on_step: OnStep = lambda _: None
        """is told every step once it is recorded"""
        self._secrets = set(secrets)
        self._lock = threading.Lock()
        self._events = os.open(path / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._events, fcntl.LOCK_EX)  # held for as long as this process lives: see running()
        self._write_record()

    def hide(self, secrets: Iterable[str]) -> None:
        """From now on these values are redacted in everything written here."""
        with self._lock:
            self._secrets |= set(secrets)

    def add(self, event: Event) -> None:
        """Append one event; it is on the disk when this returns, so that a killed run says where it stopped."""
        with self._lock:
            clean = _redacted(event, self._secrets)
            os.write(self._events, clean.model_dump_json().encode() + b"\n")
            os.fsync(self._events)
            self.store.add_event(self.record.id, clean)

    def add_step(self, step: Step) -> None:
        """Append one step of a rollout to the history; it is on the disk when this returns."""
        with self._lock:
            clean = step.model_copy(update={"detail": redact(step.detail, self._secrets)})
            self.store.add_step(self.record.id, clean)
        self.on_step(clean)

    def add_verdict(self, verdict: ServerVerdict, *, workload: str = "", driver: str | None = None) -> None:
        """Keep what a server got, in the history; secrets are redacted."""
        with self._lock:
            texts = redact_data(verdict.model_dump(exclude={"platform"}), self._secrets)
            clean = ServerVerdict.model_validate(texts | {"platform": verdict.platform})
            self.store.add_verdict(self.record.id, clean, workload=workload, driver=driver)

    def save(self, name: str, text: str) -> Path:
        """Keep a text (facts, plans, a report) under a name relative to the directory; secrets are redacted."""
        path = self.path / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, redact(text, self._secrets))
        return path

    def directory(self, name: str) -> Path:
        """A subdirectory for somebody else to write to, such as `benchmarks`; created when it is not there."""
        path = self.path / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def finish(self, exit_code: int) -> Record:
        """Write how it ended; hosts are judged by their last events. Nothing can be added afterwards."""
        with self._lock:
            ended = {"finished": datetime.now(UTC), "exit_code": exit_code, "hosts": outcomes(read_events(self.path))}
            self.record = self.record.model_copy(update=ended)
            self._write_record()
            os.close(self._events)
            self.store.finish_run(self.record.id, exit_code)
            self.store.close()
        return self.record

    def _write_record(self) -> None:
        _write(self.path / RECORD, redact(self.record.model_dump_json(indent=2) + "\n", self._secrets))


def create_run(
    fleet: str,
    *,
    command: Iterable[str],
    fleet_path: Path,
    hosts: Iterable[str] = (),
    secrets: Collection[str] = (),
    root: Path | None = None,
    name: str | None = None,
) -> Run:
    """A fresh directory `<root>/runs/<fleet>/<UTC time>-<id>`, mode 0700, a `latest` link to it, and its row in the
    history `<root>/history.sqlite`.

    `hosts`: those it is to act on. `root` defaults to the user's state directory for `provision`. `name`: what
    `new_name` gave, where the run had to be named before it began.
    """
    started = datetime.now(UTC)
    store = open_store(default_path(root))
    parent = runs_dir(fleet, root)
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = name or new_name(started)
    path = parent / name
    path.mkdir(mode=0o700)
    record = Record(
        id=name, command=tuple(command), fleet=fleet, fleet_path=str(fleet_path.absolute()), started=started
    )
    run = Run(path, record, secrets, store)
    words = [redact(word, secrets) for word in record.command]
    store.begin_run(name, fleet, record.fleet_path, words, current_user(), tuple(hosts))
    _point_latest(parent, name)
    return run


def new_name(at: datetime | None = None) -> str:
    """A name for a run that begins now; no other run has it."""
    return f"{at or datetime.now(UTC):%Y%m%dT%H%M%SZ}-{randomness.token_hex(3)}"


def runs_dir(fleet: str, root: Path | None = None) -> Path:
    """Where the runs of a fleet are."""
    return (root if root is not None else user_state_path("provision")) / "runs" / fleet


def running(path: Path) -> bool:
    """Whether the process of a run is still there, whatever its record says."""
    try:
        file = os.open(path / EVENTS, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def read_record(path: Path) -> Record:
    """The record of a run. Of one that was killed, the hosts are read off its events."""
    record = Record.model_validate_json((path / RECORD).read_text(encoding="utf-8"))
    if record.finished is not None:
        return record
    return record.model_copy(update={"hosts": outcomes(read_events(path))})


def read_events(path: Path) -> tuple[Event, ...]:
    """The events of a run. A last line cut off by a crash is left out."""
    lines = (path / EVENTS).read_text(encoding="utf-8").split("\n")
    return tuple(Event.model_validate_json(line) for line in lines[:-1])


def outcomes(events: Iterable[Event]) -> dict[str, HostOutcome]:
    """Where each host ended or stands, by its last event; of a failed one, the failure itself."""
    last: dict[str, Event] = {}
    failure: dict[str, Event] = {}
    for event in events:
        last[event.host] = event
        if event.status == "failed" and event.phase != "failed":
            failure[event.host] = event
    return {host: _outcome(event, failure.get(host, event)) for host, event in sorted(last.items())}


def summary(hosts: Mapping[str, HostOutcome]) -> str:
    """One line a host: where each one ended."""
    return "\n".join(
        f"{host}: {o.state}" + ("" if o.state == "done" else f" in {o.phase}: {o.detail or o.task}")
        for host, o in hosts.items()
    )


def _outcome(last: Event, failure: Event) -> HostOutcome:
    if last.phase == "done":
        return HostOutcome(state="done", phase=last.phase, task=last.task)
    if last.phase == "failed" or last.status == "failed":
        return HostOutcome(state="failed", phase=failure.phase, task=failure.task, detail=failure.detail)
    if last.phase == "rollback" and failure is not last:  # it went back because of that
        return HostOutcome(state="failed", phase=failure.phase, task=failure.task, detail=failure.detail)
    return HostOutcome(state="stopped", phase=last.phase, task=last.task, detail=last.detail)


def _redacted(event: Event, secrets: Iterable[str]) -> Event:
    return event.model_copy(update={"task": redact(event.task, secrets), "detail": redact(event.detail, secrets)})


def _write(path: Path, text: str) -> None:
    # A reader, or a crash, never sees half of it.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _point_latest(parent: Path, name: str) -> None:
    temporary = parent / f".{LATEST}.{name}"
    temporary.symlink_to(name)
    temporary.replace(parent / LATEST)
