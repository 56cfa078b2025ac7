from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from builders import plan
from reports import LOAD, NOON, THREE, events, verdict

from provisioner.history.events import Event
from provisioner.history.rundir import runs_dir
from provisioner.history.store import open_store
from provisioner.plan.model import Change, Changes
from provisioner.report.gather import gather, latest_plan, phase_times
from provisioner.report.model import Report

FAILED = Event(host="gpu-01", phase="apply", task="docker_engine: Start it", status="failed", detail="no unit")


def gathered(root: Path, *told: Event, run: str = "r2", files: bool = True) -> Report:
    directory = runs_dir("lab", root) / run
    if files:
        (directory / "plans").mkdir(parents=True)
        (directory / "changes").mkdir()
        (directory / "plans" / "gpu-01.json").write_text(plan().model_dump_json())
        changes = Changes(host="gpu-01", changes=(Change(role="vllm_server", subject="unit", reason="differs"),))
        (directory / "changes" / "gpu-01.json").write_text(changes.model_dump_json())
    with open_store(root / "history.sqlite") as store:
        for name, output in (("r1", 1000.0), ("r2", 900.0), ("r3", 800.0)):
            store.begin_run(name, "lab", "/lab.yaml", ("provision",), "ops", ["gpu-01", "gpu-02"])
            store.add_verdict(name, verdict(output=output), workload=LOAD, driver="580.1")
            if name == run:
                for event in told:
                    store.add_event(name, event)
            store.finish_run(name, 0)
        return gather(store, store.run(run), now=datetime.now(UTC), root=root)


def test_a_run_with_the_history_up_to_it(tmp_path: Path) -> None:
    found = gathered(tmp_path, *events())
    first, second = found.hosts
    assert found.ending == "passed"
    assert (first.name, first.state, second.name, second.state) == ("gpu-01", "passed", "gpu-02", "untouched")
    assert first.plan == plan()
    assert first.changes is not None
    assert first.changes[0].reason == "differs"
    assert [event.task for event in first.applied] == ["vllm_server: Write the unit"]
    assert found.others == ()
    # Its own benchmark and the one before it; not what came later.
    assert first.trends[0].throughputs == (1000, 900)
    assert first.driver == "580.1"
    assert [one.run_id for one in found.before] == ["r1"]
    assert [one.benchmark.output_throughput for one in found.verdicts if one.benchmark] == [900]


def test_a_failure_is_told_by_its_event(tmp_path: Path) -> None:
    ended = FAILED.model_copy(update={"phase": "failed", "task": ""})
    (first, _) = gathered(tmp_path, FAILED, ended).hosts
    assert first.state == "failed"
    assert first.failures == (FAILED,)


def test_hosts_of_the_fleet_that_it_did_not_touch(tmp_path: Path) -> None:
    with open_store(tmp_path / "history.sqlite") as store:
        store.begin_run("r0", "lab", "/lab.yaml", ("provision",), "ops", ["gpu-07"])
        store.add_verdict("r0", verdict("gpu-07"), workload=LOAD)
        store.begin_run("r00", "other", "/other.yaml", ("provision",), "ops", ["gpu-08"])
        store.add_verdict("r00", verdict("gpu-08"), workload=LOAD)
    assert [trend.host for trend in gathered(tmp_path).others] == ["gpu-07"]


def test_a_run_without_its_directory(tmp_path: Path) -> None:
    (first, _) = gathered(tmp_path, files=False).hosts
    assert (first.plan, first.changes, first.notes) == (None, None, ())


def test_files_of_another_version_are_told_and_left_out(tmp_path: Path) -> None:
    directory = runs_dir("lab", tmp_path) / "r2" / "plans"
    directory.mkdir(parents=True)
    (directory / "gpu-01.json").write_text('{"host": "gpu-01"}')
    (first, _) = gathered(tmp_path, files=False).hosts
    assert first.plan is None
    assert first.notes == (
        f"{directory}/gpu-01.json is not shown, another version of provision wrote it: platform: Field required",
    )


def test_the_latest_plan_is_the_first_that_is_there(tmp_path: Path) -> None:
    gathered(tmp_path)
    directory = runs_dir("lab", tmp_path)
    assert latest_plan([directory / "r3", directory / "r2"], "gpu-01") == plan()
    assert latest_plan([directory / "r3"], "gpu-01") is None


def test_a_phase_lasts_until_the_next_begins() -> None:
    assert [(one.phase, one.server, one.seconds, one.failed) for one in phase_times(events())] == [
        ("apply", "", 60, False),
        ("health", "nemotron", 30, False),
        ("benchmark", "nemotron", 30, False),
    ]
    assert phase_times(()) == ()
    late = FAILED.model_copy(update={"time": NOON + timedelta(seconds=7)})
    (only,) = phase_times([FAILED.model_copy(update={"time": NOON}), late])
    assert (only.seconds, only.failed) == (7, True)


def test_a_run_that_tuned(tmp_path: Path) -> None:
    directory = runs_dir("lab", tmp_path) / "r2"
    directory.mkdir(parents=True)
    (directory / "tune.json").write_text(THREE.model_dump_json())
    assert gathered(tmp_path, *events(), files=False).tuning == THREE
