"""The SQLite file of the history: opening it, bringing it to this program's shape, one writer at a time."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from provisioner.errors import UsageError
from provisioner.history.migrations import STEPS

BUSY_S = 30.0
"""how long a write waits for that of another process"""


class Database:
    """One connection, used by one thread at a time. Every write is on the disk when its `with` block ends."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        """`path` None: in memory, empty."""
        self.path = path
        self._lock = threading.RLock()
        with _told(path):
            self._connection = _connect(path)
            _migrate(self._connection, path)
            self._connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing."""
        with self._lock, _told(self.path), _transaction(self._connection, "IMMEDIATE"):
            yield self._connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the database, whatever others write meanwhile."""
        with self._lock, _told(self.path), _transaction(self._connection, "DEFERRED"):
            yield self._connection

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        _create(path)
    connection = sqlite3.connect(path or ":memory:", timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_mode = WAL")  # readers never wait for the writer
    connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut, not only a killed process
    return connection


def _create(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):  # SQLite gives its other files the mode of this one
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise UsageError(f"{path}: the history cannot be kept there: {error.strerror or error}") from error


def _migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    if _version(connection) == len(STEPS):
        return
    with _transaction(connection, "IMMEDIATE"):
        version = _version(connection)  # another process may have been quicker
        if version > len(STEPS):
            raise UsageError(
                f"{path}: written by a newer version of this program (shape {version}; this one knows {len(STEPS)})",
                hint="use that version, or look at another history with --history FILE",
            )
        for step in STEPS[version:]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    # executescript() would commit the transaction that holds the step together.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    if connection.in_transaction:  # part of one that is open already
        yield
        return
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back after some errors
            connection.rollback()
        raise
    connection.commit()


@contextmanager
def _told(path: Path | None) -> Iterator[None]:
    """SQLite's errors as ours, with the file they are about."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UsageError(f"{path}: {error}", hint="is it writable, and is there space on its disk?") from error
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # a mistake of ours
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: {error}", hint="move it away to begin a new history") from error
