"""The history keeps what it was told, whatever happens to the program that told it."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import result, verdict

from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen
from provisioner.history import migrations
from provisioner.history.events import PHASES, Event
from provisioner.history.steps import Step
from provisioner.history.store import Store, default_path, ending, open_store
from provisioner.history.verdict import BenchmarkResult, CheckResult, ImageSeen, Latency, ServerVerdict

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(max_size=30)
FLOATS = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
LATENCIES = st.builds(Latency, mean_ms=FLOATS, median_ms=FLOATS, p99_ms=FLOATS)
RESULTS = st.builds(
    BenchmarkResult,
    num_prompts=st.integers(0, 2**40),
    completed=st.integers(0, 2**40),
    failed=st.integers(0, 9),
    duration_s=FLOATS,
    total_input_tokens=st.integers(0, 2**40),
    total_output_tokens=st.integers(0, 2**40),
    request_throughput=FLOATS,
    output_throughput=FLOATS,
    total_token_throughput=FLOATS,
    ttft=LATENCIES,
    tpot=LATENCIES,
    itl=LATENCIES,
    e2el=st.none() | LATENCIES,
    raw=st.dictionaries(TEXTS, JSON, max_size=4),
)
CHECKS = st.builds(CheckResult, name=TEXTS, passed=st.booleans(), detail=TEXTS, seconds=FLOATS, answer=TEXTS, log=TEXTS)
VERDICTS = st.builds(
    ServerVerdict,
    host=NAMES,
    server=NAMES,
    platform=st.sampled_from(["linux/amd64", "linux/arm64"]),
    hardware=NAMES,
    hardware_name=TEXTS,
    gpu_count=st.integers(0, 16),
    simulated=st.booleans(),
    image=st.none() | st.builds(ImageSeen, reference=TEXTS, id=TEXTS, digest=st.none() | TEXTS),
    variant=NAMES,
    precision=NAMES,
    model=TEXTS,
    endpoint=TEXTS,
    version=st.none() | TEXTS,
    checks=st.lists(CHECKS, max_size=2).map(tuple),
    chat_answer=st.none() | TEXTS,
    benchmark=st.none() | RESULTS,
    passed=st.booleans(),
    reasons=st.lists(TEXTS, max_size=2).map(tuple),
    log=TEXTS,
    exit_code=st.sampled_from([0, 1, 3, 4]),
)
EVENTS = st.builds(
    Event,
    host=NAMES,
    phase=st.sampled_from(PHASES),
    task=TEXTS,
    status=st.sampled_from(["started", "running", "ok", "changed", "failed", "skipped"]),
    time=st.datetimes(timezones=st.just(UTC)),
    server=NAMES | st.just(""),
    detail=TEXTS,
)


class Told(Frozen):
    """One run, as a test tells it."""

    hosts: tuple[str, ...]
    command: tuple[str, ...]
    events: tuple[Event, ...]
    verdicts: tuple[ServerVerdict, ...]
    exit_code: int | None


RUNS = st.builds(
    Told,
    hosts=st.lists(NAMES, max_size=4, unique=True).map(tuple),
    command=st.lists(TEXTS, max_size=3).map(tuple),
    events=st.lists(EVENTS, max_size=4).map(tuple),
    verdicts=st.lists(VERDICTS, max_size=3).map(tuple),
    exit_code=st.none() | st.sampled_from([0, 1, 2, 3, 4, 130]),
)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with open_store(default_path(tmp_path)) as opened:
        yield opened


def begin(store: Store, run: str = "r1", fleet: str = "lab", hosts: tuple[str, ...] = ("gpu-01",)) -> None:
    store.begin_run(run, fleet, "/f.yaml", ("provision", "f.yaml"), "anna", hosts)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(runs=st.lists(RUNS, max_size=3))
def test_what_is_added_is_read_back(runs: list[Told], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = default_path(tmp_path_factory.mktemp("history"))
    with open_store(path) as store:
        for number, told in enumerate(runs):
            store.begin_run(f"r{number}", "lab", "/f.yaml", told.command, "anna", told.hosts)
            for event in told.events:
                store.add_event(f"r{number}", event)
            for one in told.verdicts:
                store.add_verdict(f"r{number}", one, workload="w", driver="580")
            if told.exit_code is not None:
                store.finish_run(f"r{number}", told.exit_code)
    with open_store(path, read_only=True) as store:
        rows = store.runs()
        assert [row.id for row in rows] == [f"r{number}" for number in reversed(range(len(runs)))]
        for row, told in zip(rows, reversed(runs), strict=True):
            assert (row.hosts, row.command, row.exit_code) == (told.hosts, told.command, told.exit_code)
            assert (row.ended_at is None) == (told.exit_code is None)
            assert store.events(row.id) == told.events
            assert store.verdicts(row.id) == told.verdicts
        measured = [one for told in runs for one in told.verdicts if one.benchmark]
        assert [m.result for m in store.measurements()] == [one.benchmark for one in measured]
        assert {m.host for m in store.measurements(host="gpu-01")} <= {"gpu-01"}


def test_figures_that_are_no_numbers_are_kept(store: Store) -> None:
    begin(store)
    told = verdict(benchmark=result(float("inf"), raw={"rate": float("inf"), "x": float("nan")}))
    store.add_verdict("r1", told)
    (back,) = store.verdicts("r1")
    assert back.benchmark is not None
    assert back.benchmark.output_throughput == float("inf")
    assert str(back.benchmark.raw) == "{'rate': inf, 'x': nan}"


def test_the_file_is_for_its_owner_alone(store: Store, tmp_path: Path) -> None:
    begin(store)
    assert {path.name for path in tmp_path.iterdir()} == {
        "history.sqlite",
        "history.sqlite-wal",
        "history.sqlite-shm",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_history_that_is_not_there_is_empty_and_stays_away(tmp_path: Path) -> None:
    with open_store(tmp_path / "none.sqlite", read_only=True) as store:
        assert store.runs() == ()
        with pytest.raises(UsageError, match="there is no run yet"):
            store.run("latest")
    assert not list(tmp_path.iterdir())


def test_read_only_is_read_only(store: Store, tmp_path: Path) -> None:
    with open_store(default_path(tmp_path), read_only=True) as reader, pytest.raises(UsageError, match="readonly"):
        begin(reader)


def test_readers_see_whole_runs_while_many_threads_write(store: Store, tmp_path: Path) -> None:
    hosts = tuple(f"h{number}" for number in range(20))
    failures: list[str] = []
    done = threading.Event()

    def write(worker: int) -> None:
        for number in range(10):
            run = f"r{worker}-{number}"
            begin(store, run, hosts=hosts)
            for host in hosts[:3]:
                store.add_event(run, Event(host=host, phase="probe"))
            store.finish_run(run, 0)

    def read() -> None:
        with open_store(default_path(tmp_path), read_only=True) as reader:
            while not done.is_set():
                for row in reader.runs():
                    if row.hosts != hosts:
                        failures.append(f"{row.id}: {row.hosts}")
                    if row.exit_code is not None and len(reader.events(row.id)) != 3:
                        failures.append(f"{row.id} has ended with {len(reader.events(row.id))} events")

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert len(store.runs()) == 40


WRITER = """
import sys
from pathlib import Path
from provisioner.history.events import Event
from provisioner.history.store import open_store

store = open_store(Path(sys.argv[1]))
store.begin_run(sys.argv[2], "lab", "/f.yaml", ["provision"], "anna", ["a"])
for number in range(10**6):
    store.add_event(sys.argv[2], Event(host="a", phase="apply", task=str(number)))
    print(number, flush=True)  # only now does anybody count on it
"""


@pytest.mark.parametrize("lines", [1, 7, 40, 150])
def test_a_killed_writer_leaves_every_event_it_had_committed(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "history.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), "r1"], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [next(writer.stdout) for _ in range(lines)]
        os.kill(writer.pid, signal.SIGKILL)
        told += list(writer.stdout)  # what it had said before it died
        assert writer.wait() == -signal.SIGKILL
    told = [line for line in told if line.endswith("\n")]
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    raw.close()
    with open_store(path) as store:
        tasks = [event.task for event in store.events("r1")]
        assert tasks[: len(told)] == [line.strip() for line in told]
        assert len(tasks) - len(told) in (0, 1)  # one may have been committed and not told yet
        run = store.run("latest")
        assert (run.ended_at, run.exit_code, ending(run)) == (None, None, "interrupted")
        begin(store, "r2")  # and it goes on
        assert [row.id for row in store.runs()] == ["r2", "r1"]


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    script = WRITER.replace("10**6", "50")
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(path), run], stdout=subprocess.DEVNULL) for run in "ab"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with open_store(path, read_only=True) as store:
        assert [len(store.events(run)) for run in "ab"] == [50, 50]


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    begin(store)
    with pytest.raises(sqlite3.IntegrityError):
        begin(store, hosts=("other",))
    assert store.run("r1").hosts == ("gpu-01",)
    with pytest.raises(sqlite3.IntegrityError):
        store.add_event("no such run", Event(host="a", phase="probe"))
    assert len(store.audit()) == 1


def test_runs_of_a_fleet_and_of_a_host(store: Store) -> None:
    begin(store, "r1", "a", ("x", "y"))
    begin(store, "r2", "b", ("y",))
    begin(store, "r3", "a", ("x",))
    assert [row.id for row in store.runs()] == ["r3", "r2", "r1"]
    assert [row.id for row in store.runs("a")] == ["r3", "r1"]
    assert [row.id for row in store.runs(host="y")] == ["r2", "r1"]
    assert [row.id for row in store.runs(limit=1)] == ["r3"]
    assert store.run("latest", fleet="b").id == "r2"


def test_a_run_by_a_part_of_its_id(store: Store) -> None:
    for run in ("20261124T100000Z-aaa111", "20261124T110000Z-bbb222", "20261125T100000Z-aaa333"):
        begin(store, run)
    assert store.run("bbb222").id == "20261124T110000Z-bbb222"
    assert store.run("20261125").id == "20261125T100000Z-aaa333"
    with pytest.raises(UsageError) as several:
        store.run("20261124")
    assert str(several.value) == "run 20261124: 2 runs are called so: 20261124T110000Z-bbb222, 20261124T100000Z-aaa111"
    with pytest.raises(UsageError) as none:
        store.run("20261124T110000Z-bbb22x")
    assert str(none.value) == (
        'run 20261124T110000Z-bbb22x: there is no such run\n  hint: did you mean "20261124T110000Z-bbb222"?'
    )
    with pytest.raises(UsageError, match="`provision history` lists them"):
        store.run("")


def test_measurements_and_what_is_accepted_of_them(store: Store) -> None:
    begin(store, "r1")
    store.add_verdict("r1", verdict("gpu-01", output=5000.0), workload="w1", driver="580.95")
    store.add_verdict("r1", verdict("gpu-01", "small", output=100.0), workload="w2")
    store.add_verdict("r1", verdict("gpu-02", output=None), workload="w1")
    begin(store, "r2")
    store.add_verdict("r2", verdict("gpu-02", output=4900.0, passed=False), workload="w1")
    assert [(m.run_id, m.host, m.server) for m in store.measurements()] == [
        ("r1", "gpu-01", "nemotron"),
        ("r1", "gpu-01", "small"),
        ("r2", "gpu-02", "nemotron"),
    ]
    assert [m.result.output_throughput for m in store.measurements(workload="w1")] == [5000.0, 4900.0]
    first = store.measurements(host="gpu-01", server="nemotron")[0]
    assert (first.driver, first.image, first.version, first.passed, first.accepted) == (
        "580.95",
        "a" * 12,
        "0.12.0",
        True,
        False,
    )
    assert [m.server for m in store.accept("r1", by="policy", automatic=True)] == ["nemotron", "small"]
    assert [m.accepted for m in store.measurements()] == [True, True, False]
    store.accept("r2", "gpu-02", by="anna", note="new cooling", replaces=True)
    assert [(a.run_id, a.host, a.by, a.note, a.automatic, a.replaces) for a in store.accepted(host="gpu-02")] == [
        ("r2", "gpu-02", "anna", "new cooling", False, True)
    ]
    assert [m.replaces for m in store.measurements()] == [0, 0, 3]
    with pytest.raises(UsageError) as error:
        store.accept("r1", "gpu-02", by="anna")
    assert str(error.value) == "run r1, host gpu-02: it has no benchmark\n  hint: `provision history gpu-02`"


def test_of_a_server_measured_twice_in_a_run_the_last_is_accepted(store: Store) -> None:
    begin(store)
    store.add_verdict("r1", verdict(output=4000.0, passed=False))
    store.add_verdict("r1", verdict(output=5000.0))
    store.accept("r1", by="policy", automatic=True)
    assert [(m.result.output_throughput, m.accepted) for m in store.measurements()] == [(4000.0, False), (5000.0, True)]


def test_the_audit_log(store: Store, tmp_path: Path) -> None:
    begin(store, hosts=("gpu-01", "gpu-02"))
    store.add_verdict("r1", verdict())
    store.accept("r1", by="policy", automatic=True)
    store.finish_run("r1", 3)
    store.accept("r1", by="bert", note="known loss", replaces=True)
    begin(store, "r2", hosts=("other",))
    lines = [(a.user, a.action, a.run_id, a.hosts, a.images, a.verdict) for a in reversed(store.audit())]
    running = ("gpu-01/nemotron=sha256:" + "a" * 64,)
    assert lines == [
        ("anna", "began", "r1", ("gpu-01", "gpu-02"), (), ""),
        ("anna", "ended", "r1", ("gpu-01", "gpu-02"), running, "a gate failed"),
        ("bert", "replaced", "r1", ("gpu-01",), running, "nemotron: known loss"),
        ("anna", "began", "r2", ("other",), (), ""),
    ]
    assert [a.run_id for a in store.audit(host="other")] == ["r2"]
    assert store.audit(limit=1)[0].command == ("provision", "f.yaml")
    with sqlite3.connect(default_path(tmp_path)) as raw:
        for statement in ("DELETE FROM audit", "UPDATE audit SET user = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="the audit log is append-only"):
                raw.execute(statement)
    raw.close()


def test_steps_of_a_rollout_are_in_the_history_and_in_the_audit_log(store: Store) -> None:
    begin(store)
    store.add_verdict("r1", verdict("a"))
    steps = (
        Step(kind="wave", wave="canary", hosts=("a",)),
        Step(kind="promoted", wave="canary", hosts=("a",)),
        Step(kind="aborted", wave="batch 1", detail="its gate failed: b"),
    )
    for step in steps:
        store.add_step("r1", step)
    assert store.steps("r1") == steps
    told = [(one.action, one.hosts, one.images, one.verdict) for one in reversed(store.audit(limit=3))]
    seen = ("a/nemotron=sha256:" + "a" * 64,)
    assert told == [
        ("wave", ("a",), seen, "canary"),
        ("promoted", ("a",), seen, "canary"),
        ("aborted", (), (), "batch 1: its gate failed: b"),
    ]


def test_times_are_utc_and_in_order(store: Store) -> None:
    before = datetime.now(UTC)
    begin(store)
    store.finish_run("r1", 0)
    run = store.run("r1")
    assert run.ended_at is not None
    assert before <= run.began_at <= run.ended_at <= datetime.now(UTC)
    assert run.began_at.tzinfo == UTC


def test_a_history_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    open_store(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(UsageError) as error:
        open_store(path)
    known = len(migrations.STEPS)
    assert error.value.message == (
        f"{path}: written by a newer version of this program (shape 99; this one knows {known})"
    )


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_text("not a database at all, but long enough to have a header" * 10)
    with pytest.raises(UsageError) as error:
        open_store(path)
    assert str(error.value) == f"{path}: file is not a database\n  hint: move it away to begin a new history"


def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="the history cannot be kept there: File exists"):
        open_store(tmp_path / "file" / "history.sqlite")


def test_a_step_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.sqlite"
    with open_store(path) as store:
        begin(store)
    good = migrations.STEPS
    broken = (*good, "CREATE TABLE more (x);\nCREATE TABLE runs (x);")
    monkeypatch.setattr("provisioner.history.database.STEPS", broken)
    with pytest.raises(UsageError, match="table runs already exists"):
        open_store(path)
    mended = (*good, "CREATE TABLE more (x);\nALTER TABLE runs ADD COLUMN label TEXT;")
    monkeypatch.setattr("provisioner.history.database.STEPS", mended)
    with open_store(path) as store:
        assert store.run("r1").hosts == ("gpu-01",)
