from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest
from samples import result, verdict

from provisioner.history.events import Event, Phase, Status
from provisioner.history.redact import redact
from provisioner.history.rundir import (
    HostOutcome,
    Run,
    create_run,
    outcomes,
    read_events,
    read_record,
    running,
    summary,
)
from provisioner.history.store import default_path, ending, open_store
from provisioner.history.verdict import CheckResult

SECRET = "hf_planted_token"


def new(root: Path) -> Run:
    return create_run("lab", command=["provision", "fleet.yaml"], fleet_path=Path("fleet.yaml"), root=root)


def event(host: str, phase: Phase, status: Status = "running", task: str = "task", detail: str = "") -> Event:
    return Event(host=host, phase=phase, task=task, status=status, detail=detail)


def test_the_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    run = new(tmp_path)
    run.add(event("a", "probe"))
    run.save("plans/a.json", "{}")
    run.finish(0)
    assert run.path.parent == tmp_path / "runs" / "lab"
    modes = {str(path.relative_to(run.path)): stat.S_IMODE(path.stat().st_mode) for path in run.path.rglob("*")}
    assert modes == {"events.jsonl": 0o600, "record.json": 0o600, "plans": 0o700, "plans/a.json": 0o600}
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700


def test_latest_points_to_the_newest_run(tmp_path: Path) -> None:
    first, second = new(tmp_path), new(tmp_path)
    assert first.path != second.path
    assert (tmp_path / "runs" / "lab" / "latest").resolve() == second.path.resolve()


def test_a_finished_run_reads_back(tmp_path: Path) -> None:
    run = new(tmp_path)
    run.add(event("b", "done", "ok", "4 tok/s"))
    run.add(event("a", "apply", "failed", "vllm_image: pull", "no such manifest"))
    run.add(event("a", "failed", "failed", "not validated"))
    record = run.finish(1)
    assert read_record(run.path) == record
    assert record.exit_code == 1
    assert record.finished is not None
    assert record.finished >= record.started
    assert record.command == ("provision", "fleet.yaml")
    assert Path(record.fleet_path).is_absolute()
    assert record.hosts == {
        "a": HostOutcome(state="failed", phase="apply", task="vllm_image: pull", detail="no such manifest"),
        "b": HostOutcome(state="done", phase="done", task="4 tok/s"),
    }
    assert summary(record.hosts) == "a: failed in apply: no such manifest\nb: done"


def test_a_killed_run_says_where_it_stopped(tmp_path: Path) -> None:
    run = new(tmp_path)
    run.add(event("a", "apply", "running", "docker_engine: install"))
    # A kill in the middle of a write leaves half a line.
    with (run.path / "events.jsonl").open("a") as file:
        file.write('{"host": "a", "pha')
    record = read_record(run.path)
    assert (record.finished, record.exit_code) == (None, None)
    assert summary(record.hosts) == "a: stopped in apply: docker_engine: install"


def test_no_secret_is_written(tmp_path: Path) -> None:
    run = create_run("lab", command=["x"], fleet_path=Path("f"), root=tmp_path)
    run.hide([SECRET])
    run.add(event("a", "apply", "failed", f"task {SECRET}", f"said {SECRET}"))
    run.save("facts.json", json.dumps({"token": SECRET}))
    run.finish(1)
    texts = [path.read_text() for path in run.path.rglob("*") if path.is_file()]
    assert len(texts) == 3
    assert not [text for text in texts if SECRET in text]
    assert sum("[redacted]" in text for text in texts) == 3


def test_events_of_many_threads_are_whole_lines(tmp_path: Path) -> None:
    run = new(tmp_path)
    threads = [
        threading.Thread(target=lambda host=host: [run.add(event(host, "apply", task=f"{i}")) for i in range(25)])
        for host in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = read_events(run.path)
    assert len(events) == 100
    assert [e.task for e in events if e.host == "c"] == [str(i) for i in range(25)]


def test_nothing_is_added_to_a_finished_run(tmp_path: Path) -> None:
    run = new(tmp_path)
    run.finish(0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        run.add(event("a", "probe"))


def test_a_host_that_went_on_after_a_failed_task_is_done() -> None:
    told = [event("a", "apply", "failed"), event("a", "apply", "ok"), event("a", "done", "ok", "fine")]
    assert outcomes(told) == {"a": HostOutcome(state="done", phase="done", task="fine")}


@pytest.mark.parametrize(
    ("secrets", "text"),
    [
        ([], "token hf_abcd and hf_abcdef"),
        (["hf_abcd", "hf_abcdef"], "token [redacted] and [redacted]"),
        (["", "and"], "token hf_abcd and hf_abcdef"),
    ],
)
def test_redact(secrets: list[str], text: str) -> None:
    assert redact("token hf_abcd and hf_abcdef", secrets) == text


def test_a_run_is_part_of_the_history(tmp_path: Path) -> None:
    run = create_run("lab", command=["provision", "f.yaml"], fleet_path=Path("f.yaml"), hosts=["a", "b"], root=tmp_path)
    run.add(event("a", "apply", "started"))
    run.add(event("a", "apply", "ok"))
    run.add_verdict(verdict("a"), workload="w", driver="580")
    with open_store(default_path(tmp_path), read_only=True) as store:
        row = store.run("latest")
        assert (row.id, row.fleet, row.hosts, row.exit_code) == (run.record.id, "lab", ("a", "b"), None)
        assert ending(row) == "interrupted"
        assert running(run.path)
        assert store.events(row.id) == read_events(run.path)
        assert [(m.host, m.workload, m.driver) for m in store.measurements()] == [("a", "w", "580")]
        run.finish(3)
        assert ending(store.run("latest")) == "a gate failed"
    assert not running(run.path)
    assert not running(tmp_path)


def test_no_secret_is_in_the_history(tmp_path: Path) -> None:
    odd = 'quo"ted\\secret\n'
    run = create_run(
        "lab", command=["provision", SECRET], fleet_path=Path("f"), secrets=[SECRET, odd, "amd64"], root=tmp_path
    )
    run.add(event("a", "apply", "failed", f"task {SECRET}", f"said {odd}"))
    check = CheckResult(name="chat", passed=False, detail=odd, seconds=0.1, request=f"Bearer {SECRET}")
    bench = result(raw={"env": {"KEY": [odd, SECRET]}})
    run.add_verdict(verdict("a", checks=(check,), reasons=(f"no {SECRET}",), log=odd, benchmark=bench))
    run.finish(1)
    texts = "".join(path.read_bytes().decode(errors="replace") for path in tmp_path.glob("history.sqlite*"))
    assert "[redacted]" in texts
    for form in (SECRET, odd, json.dumps(odd)[1:-1]):
        assert form not in texts
