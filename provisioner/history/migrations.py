"""The shape of the history database, one step after another. A step that was released is never edited: add another."""

from __future__ import annotations

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        fleet TEXT NOT NULL,
        fleet_path TEXT NOT NULL,
        command TEXT NOT NULL,           -- JSON list
        user TEXT NOT NULL,
        began_at TEXT NOT NULL,          -- UTC, ISO 8601 with microseconds: sorts as time does
        ended_at TEXT,
        exit_code INTEGER
    );
    CREATE INDEX runs_by_time ON runs (began_at);

    CREATE TABLE run_hosts (
        run_id TEXT NOT NULL REFERENCES runs (id),
        position INTEGER NOT NULL,
        host TEXT NOT NULL,
        PRIMARY KEY (run_id, position)
    ) WITHOUT ROWID;
    CREATE INDEX run_hosts_by_host ON run_hosts (host, run_id);

    CREATE TABLE events (
        id INTEGER PRIMARY KEY,          -- in the order they were told
        run_id TEXT NOT NULL REFERENCES runs (id),
        host TEXT NOT NULL,
        event TEXT NOT NULL              -- JSON
    );
    CREATE INDEX events_by_run ON events (run_id, host);

    CREATE TABLE verdicts (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL REFERENCES runs (id),
        at TEXT NOT NULL,
        host TEXT NOT NULL,
        server TEXT NOT NULL,
        hardware TEXT NOT NULL,
        workload TEXT NOT NULL,
        driver TEXT,
        image TEXT,
        benchmarked INTEGER NOT NULL,
        verdict TEXT NOT NULL            -- JSON
    );
    CREATE INDEX verdicts_by_run ON verdicts (run_id);
    CREATE INDEX verdicts_by_host ON verdicts (host, server);
    CREATE INDEX verdicts_by_workload ON verdicts (workload, hardware);

    CREATE TABLE acceptances (
        id INTEGER PRIMARY KEY,
        verdict_id INTEGER NOT NULL REFERENCES verdicts (id),
        at TEXT NOT NULL,
        by TEXT NOT NULL,
        note TEXT NOT NULL,
        automatic INTEGER NOT NULL,
        replaces INTEGER NOT NULL
    );
    CREATE INDEX acceptances_by_verdict ON acceptances (verdict_id);

    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        user TEXT NOT NULL,
        action TEXT NOT NULL,
        run_id TEXT NOT NULL,
        fleet TEXT NOT NULL,
        command TEXT NOT NULL,           -- JSON list
        hosts TEXT NOT NULL,             -- JSON list
        images TEXT NOT NULL,            -- JSON list
        verdict TEXT NOT NULL
    );
    CREATE TRIGGER audit_is_not_edited BEFORE UPDATE ON audit
        BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
        BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;
    """,
    """
    CREATE TABLE steps (
        id INTEGER PRIMARY KEY,          -- in the order they were taken
        run_id TEXT NOT NULL REFERENCES runs (id),
        step TEXT NOT NULL               -- JSON
    );
    CREATE INDEX steps_by_run ON steps (run_id);
    """,
    """
    CREATE TABLE drift (
        fleet TEXT NOT NULL,
        host TEXT NOT NULL,
        subject TEXT NOT NULL,           -- what is not as planned
        since TEXT NOT NULL,             -- when it was seen first
        PRIMARY KEY (fleet, host, subject)
    ) WITHOUT ROWID;
    """,
)
