"""`provision tune` from words to exit codes, over a host whose facts are given; what it measures is given, too."""

from __future__ import annotations

import functools
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import converged, facts, file, lock, plan
from leasing import LeaseHosts
from reports import latency, result
from worlds import World, proven

from provisioner.cli import tune as module
from provisioner.cli.main import run
from provisioner.errors import Exit, HostError, LockedError
from provisioner.fleet.load import load_fleet
from provisioner.history.rundir import runs_dir
from provisioner.history.tuning import TunedPoint, Tuning, read_tuning, save_tuning
from provisioner.history.turn import holder, turn
from provisioner.hosts import lease
from provisioner.hosts.lease import FILE, Who
from provisioner.hosts.probe import ProbeResult
from provisioner.plan.bundle import Manifest
from provisioner.plan.facts import Facts
from provisioner.plan.lock import UNLOCKED
from provisioner.plan.model import HostPlan
from provisioner.rollout import store
from provisioner.rollout.leases import Timing, leased
from provisioner.rollout.locking import without_images, write_lock
from provisioner.rollout.points import Planned, Work

FLEET = """\
hosts: [a]
servers:
  nemotron: {recipe: nemotron-3-nano, max_num_seqs: 8}  # small
"""
TWO = """\
hosts: [a, b]
servers:
  nemotron: {recipe: nemotron-3-nano, gpus: [0]}
  other: {recipe: nemotron-3-nano, gpus: [1], port: 8001}
"""
SWEEP = ("--sweep", "max-num-seqs=4,16", "--yes")
FIGURES = {8: (1000.0, 10.0), 4: (600.0, 5.0), 16: (1500.0, 20.0)}


def ready(of: HostPlan) -> Facts:
    """A host as planned and proven; the unit bears our mark."""
    return proven(converged(of), of).model_copy(update={"marked": (of.servers[0].unit_file.path,)})


class Stage:
    """A fleet file, its host, and a tuning that measures FIGURES by batch size; `fails` does not start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.path = folder, folder / "fleet.yaml"
        self.world = World({})
        self.fails: set[int] = set()
        self.works: list[Work] = []
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.setattr("sys.stdin", io.StringIO())
        monkeypatch.setattr("provisioner.rollout.survey.probe_all", self.probe_all)
        monkeypatch.setattr(module, "tune", self.tune)
        monkeypatch.setattr(module, "put_back", self.put_back)
        self.backs: list[str] = []
        self.patch, self.leases = monkeypatch, LeaseHosts(monkeypatch, folder / "leases")
        monkeypatch.setattr("provisioner.cli.looking.connect", lambda host, _: self.leases.transport(host.name))

    def probe_all(self, *given: Any) -> Iterator[ProbeResult]:
        for found in self.world.probe_all(*given):
            assert found.facts is not None
            told = self.leases.file(found.host)
            files = (*found.facts.files, *([file(FILE, told)] if told else []))
            yield ProbeResult(found.host, found.facts.model_copy(update={"files": files}), None, 0.1)

    def host(self, found: Facts | None = None, text: str = FLEET) -> Stage:
        self.path.write_text(text)
        the_plan = plan(load_fleet(self.path), facts("a"))
        self.world.hosts = {"a": found or ready(the_plan)}
        return self

    def put_back(self, work: Work, name: str, *, proof: bool) -> None:
        self.backs.append(f"{work.server} {name} {proof}")
        self.host()

    def tune(self, work: Work, points: tuple[Planned, ...]) -> Tuning:
        self.works.append(work)
        found = tuple(self.point(one) for one in points)
        tuning = Tuning(
            host="a",
            server="nemotron",
            hardware="h200",
            hardware_name="1 × NVIDIA H200",
            model="m",
            budget_s=work.budget_s,
            points=found,
            original_argv=("m",),
            changed=True,
            put_back=True,
        )
        save_tuning(work.run, tuning)
        return tuning

    def point(self, one: Planned) -> TunedPoint:
        size = int(dict(one.candidate.settings).get("max_num_seqs", 8))
        if size in self.fails:
            return TunedPoint(candidate=one.candidate, state="failed", reason="CUDA out of memory")
        output, tpot = FIGURES[size]
        made = result(output, tpot=latency(tpot), ttft=latency(40), raw={"max_concurrency": size})
        return TunedPoint(candidate=one.candidate, key=one.key, state="measured", result=made)

    def run(self, *words: str) -> int:
        return run(["tune", str(self.path), *words])


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return Stage(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--pick", "speed"), "--pick speed: expected one of throughput, latency"),
        (("--budget", "soon"), "--budget soon: expected a time such as 90s, 30m or 2h"),
        (("--concurrency", "8,x"), "--concurrency 8,x: expected numbers such as 8,32,128"),
        (("--concurrency", "0"), "--concurrency 0: expected numbers such as 8,32,128"),
        (("--host", "c"), "--host c: not in {path}"),
        (("--server", "c"), "--server c: not on any host; there: nemotron, other"),
        (("--server", "c", "--host", "a"), "--server c: not on a; there: nemotron, other"),
        ((), "4 servers could be meant\n  hint: say which one with --host and --server"),
        (("--host", "a"), "2 servers could be meant\n  hint: say which one with --server"),
    ],
)
def test_wrong_words(stage: Stage, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    stage.path.write_text(TWO)
    assert stage.run(*words) == Exit.BAD_INPUT
    assert capsys.readouterr().err == f"error: {message.format(path=stage.path)}\n"


def test_nobody_to_ask(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.host().run() == Exit.BAD_INPUT
    told = capsys.readouterr().err
    assert told.endswith(
        "a: nemotron is restarted with other settings and measured, 5 points at most within 30:00; "
        "then it is put back:\n"
        "  as it is\n  max_num_seqs 32\n  max_num_seqs 4\n  max_num_seqs 16\n  max_num_seqs 8\n"
        "error: there is no terminal to ask at\n  hint: add --yes to restart the server without asking\n"
    )
    assert not stage.works


def test_a_host_that_is_not_as_planned_is_not_tuned(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.host(facts("a")).run(*SWEEP) == Exit.CHANGES
    assert capsys.readouterr().err.endswith(
        f"a: not as planned; run `provision {stage.path}` first, or `provision plan {stage.path}` to see why\n"
    )


def test_the_points_their_plot_and_what_they_are_best_for(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.host().run(*SWEEP, "--max-tpot-ms", "12") == Exit.OK
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [" ".join(line.split()) for line in lines[:4]] == [
        "point per GPU tok/s of a user TPOT ms TTFT ms output tok/s GPUs",
        "● max_num_seqs 16 1500 50.0 20.0 40.0 1500 1",
        "● as it is 1000 100.0 10.0 40.0 1000 1",
        "● max_num_seqs 4 600.0 200.0 5.00 40.0 600.0 1",
    ]
    assert lines[-3:] == [
        "best for throughput: max_num_seqs 16",
        "best for latency: max_num_seqs 4",
        "best for TPOT at most 12 ms: as it is",
    ]
    assert "chosen: as it is; record in " in shown.err
    assert stage.path.read_text() == FLEET


def test_the_choice_is_written(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.host().run(*SWEEP, "--write", "--pick", "latency") == Exit.OK
    assert stage.path.read_text() == FLEET.replace("max_num_seqs: 8", "max_num_seqs: 4")
    assert capsys.readouterr().err.endswith(
        f"servers.nemotron in {stage.path} has max_num_seqs 4 now; `provision {stage.path}` brings it to the host\n"
    )


@pytest.mark.parametrize(
    ("limit", "code", "message"),
    [
        ("12", Exit.OK, "nothing was written to {path}: the server is best as it is"),
        ("1", Exit.GATE_FAILED, "nothing was written to {path}: no point is what was asked for"),
    ],
)
def test_what_is_not_written(
    stage: Stage, capsys: pytest.CaptureFixture[str], limit: str, code: Exit, message: str
) -> None:
    assert stage.host().run(*SWEEP, "--write", "--max-tpot-ms", limit) == code
    assert capsys.readouterr().err.endswith(message.format(path=stage.path) + "\n")
    assert stage.path.read_text() == FLEET


def test_json_and_points_that_fail(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.fails = {16}
    assert stage.host().run(*SWEEP, "--json") == Exit.OK
    data = json.loads(capsys.readouterr().out)
    assert [(one["label"], one["state"], one["reason"]) for one in data["points"]] == [
        ("as it is", "measured", ""),
        ("max_num_seqs 4", "measured", ""),
        ("max_num_seqs 16", "failed", "CUDA out of memory"),
    ]
    assert data["chosen"] == "as it is"
    stage.fails = {4, 8, 16}
    assert stage.run(*SWEEP) == Exit.HOST_FAILED


def test_what_was_measured_before_is_known_unless_told_otherwise(stage: Stage) -> None:
    stage.host().run(*SWEEP)
    stage.run(*SWEEP)
    stage.run(*SWEEP, "--fresh")
    assert [len(work.known) for work in stage.works] == [0, 3, 0]


def test_what_a_killed_tuning_left_is_put_back_first(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.host().run(*SWEEP)
    (directory,) = [one for one in runs_dir("fleet").iterdir() if not one.is_symlink()]
    before = read_tuning(directory)
    assert before is not None
    left = before.model_copy(update={"put_back": False})
    (directory / "tune.json").write_text(left.model_dump_json())
    stage.host(facts("a"))
    assert stage.run(*SWEEP) == Exit.OK
    assert stage.backs == ["nemotron owed False"]
    assert f"a: run {directory.name} ended before it had put nemotron back: that is done first" in (
        capsys.readouterr().err
    )


def test_an_error_ends_the_run_with_its_code(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Tuning:
        raise HostError("it is not healthy")

    monkeypatch.setattr(module, "tune", fails)
    assert stage.host().run(*SWEEP) == Exit.HOST_FAILED
    assert capsys.readouterr().err.endswith("error: it is not healthy\n")
    (record,) = [one / "record.json" for one in runs_dir("fleet").iterdir() if not one.is_symlink()]
    assert json.loads(record.read_text())["exit_code"] == Exit.HOST_FAILED


class TestNotifications:
    """Those whom the fleet file names know when a server is restarted for a tuning, and how that ended."""

    @pytest.fixture
    def told(self, stage: Stage) -> Callable[..., list[dict[str, Any]]]:
        hook = stage.folder / "hook"
        hook.write_text('#!/bin/sh\ncat >> "$(dirname "$0")/told"\n')
        hook.chmod(0o755)
        stage.host(text=FLEET + "notify: [{on: [started, failed, finished], command: [./hook]}]\n")

        def run(*words: str) -> list[dict[str, Any]]:
            stage.run(*SWEEP, *words)
            return [json.loads(line) for line in (stage.folder / "told").read_text().splitlines()]

        return run

    def test_one_that_ends_well(self, stage: Stage, told: Callable[..., list[dict[str, Any]]]) -> None:
        first, last = told()
        assert (first["event"], first["hosts"]) == ("started", ["a"])
        assert first["text"] == "a tuning of nemotron on a begins: 3 points at most within 30:00"
        assert (last["event"], last["hosts"]["a"]["exit_code"]) == ("finished", 0)
        assert last["text"] == (
            "a tuning of nemotron on a has ended well: 3 of 3 points measured, chosen: max_num_seqs 16"
        )
        assert first["run"] == last["run"] == stage.works[0].run.record.id

    def test_nothing_is_what_was_asked_for(self, told: Callable[..., list[dict[str, Any]]]) -> None:
        last = told("--write", "--max-tpot-ms", "1")[-1]
        assert (last["event"], last["exit_code"]) == ("failed", 3)
        assert last["text"] == (
            "a tuning of nemotron on a has failed (exit code 3): 3 of 3 points measured, chosen: no point"
        )

    def test_a_server_that_was_not_put_back(self, stage: Stage, told: Callable[..., list[dict[str, Any]]]) -> None:
        def fails(work: Work, points: tuple[Planned, ...]) -> Tuning:
            left = stage.tune(work, points).model_copy(update={"put_back": False})
            save_tuning(work.run, left)
            raise HostError("it is not healthy")

        stage.patch.setattr(module, "tune", fails)
        last = told()[-1]
        assert (last["event"], last["exit_code"]) == ("failed", 1)
        assert last["text"] == (
            "a tuning of nemotron on a has failed (exit code 1): 3 of 3 points measured\n"
            f"nemotron was not put back; `provision {stage.path}` brings the host to its plan again"
        )

    def test_one_that_ends_before_its_first_point(
        self, stage: Stage, told: Callable[..., list[dict[str, Any]]]
    ) -> None:
        def interrupted(*_: Any) -> Tuning:
            raise KeyboardInterrupt

        stage.patch.setattr(module, "tune", interrupted)
        assert [(one["event"], one["text"]) for one in told()][1:] == [
            ("failed", "a tuning of nemotron on a was interrupted")
        ]


class TestBundle:
    """Hosts that reach nothing are tuned with the bundle that they were provisioned with."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> str:
        (tmp_path / "bundle").mkdir()
        store.write_manifest(tmp_path / "bundle", Manifest(fleet="other"))
        return str(tmp_path / "bundle")

    def test_a_host_that_lacks_nothing(self, stage: Stage, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
        words = (*SWEEP, "--bundle", folder, "--write", "--pick", "latency")
        assert stage.host().run(*words) == Exit.OK
        assert [work.seen.bundle for work in stage.works] == [Path(folder)]
        assert capsys.readouterr().err.endswith(
            f" has max_num_seqs 4 now; `provision {stage.path} --bundle {folder}` brings it to the host\n"
        )

    def test_images_are_not_asked_for_by_the_digest_of_the_lock(self, stage: Stage, folder: str) -> None:
        """No archive gives Docker a digest: only with --bundle is the host as planned."""
        of = load_fleet(stage.host().path)
        write_lock(of, lock())
        the_plan = plan(of, facts("a"), without_images(lock()) or UNLOCKED)
        stage.host(ready(the_plan))
        assert stage.run(*SWEEP) == Exit.CHANGES
        assert stage.run(*SWEEP, "--bundle", folder) == Exit.OK

    def test_what_it_lacks(self, stage: Stage, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
        stage.patch.setattr(module, "_owed", lambda _: "run-1")
        assert stage.host(facts("a")).run(*SWEEP, "--bundle", folder) == Exit.BAD_INPUT
        assert (
            "1 of 1 host cannot be provisioned as they are:\n  a  the bundle has no image " in capsys.readouterr().err
        )
        assert (stage.works, stage.backs) == ([], [])

    def test_what_is_no_bundle(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        assert stage.host().run(*SWEEP, "--bundle", f"{stage.folder}/none") == Exit.BAD_INPUT
        assert capsys.readouterr().err == (
            f"error: {stage.folder}/none is no bundle: it has no manifest.json\n"
            "  hint: make one with `provision bundle`\n"
        )
        assert stage.world.requests == {}

    def test_a_host_that_is_not_as_planned(self, stage: Stage, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
        found = stage.host().world.hosts["a"]
        assert isinstance(found, Facts)
        stage.host(found.model_copy(update={"files": ()})).run(*SWEEP, "--bundle", folder)
        assert capsys.readouterr().err.endswith(
            f"a: not as planned; run `provision {stage.path} --bundle {folder}` first, "
            f"or `provision plan {stage.path} --bundle {folder}` to see why\n"
        )


class TestAlone:
    """A tuning is a run like any other: nobody else is at work on its fleet and its host meanwhile."""

    OTHER = Who(user="eve", machine="control-2", control="c2", fleet="fleet", run="run-2")

    def test_the_host_is_its_own_while_it_lasts(self, stage: Stage) -> None:
        during: list[Any] = []

        def tune(work: Work, points: tuple[Planned, ...]) -> Tuning:
            during.extend((stage.leases.holder("a"), holder("fleet"), work.run.record.id))
            return stage.tune(work, points)

        stage.patch.setattr(module, "tune", tune)
        assert stage.host().run(*SWEEP) == Exit.OK
        held, local, name = during
        assert (held["run"], held["fleet"]) == (name, "fleet")
        assert f"process {os.getpid()}" in local
        assert (stage.leases.holder("a"), holder("fleet")) == (None, None)

    def test_a_host_that_another_machine_is_at_work_on(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        lease.take(stage.leases.transport("a"), "t2", self.OTHER, 300)
        held = stage.leases.holder("a")
        assert held
        assert stage.host().run(*SWEEP) == Exit.LOCKED
        assert capsys.readouterr().err.endswith(
            "error: another run is at work on hosts of this one:\n"
            f"  a: eve on control-2, run run-2 of fleet fleet, since {held['since']}\n"
            "  hint: wait for it: --lock-wait 10m. The lease of a run that died expires within 5 minutes; "
            "`provision unlock FLEET --reason TEXT` ends it at once\n"
        )
        assert (stage.works, runs_dir("fleet").exists()) == ([], False)

    def test_a_run_on_this_machine(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        stage.host()
        with turn("fleet", "provision fleet.yaml --yes"):
            assert stage.run(*SWEEP) == Exit.LOCKED
        said = capsys.readouterr().err
        assert said.startswith("error: a run of fleet fleet is at work on this machine: ")
        assert said.endswith(": provision fleet.yaml --yes\n  hint: wait for its end: --lock-wait 10m\n")
        assert stage.world.requests == {}

    def test_it_waits_for_the_end_of_another_and_looks_again(
        self, stage: Stage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lease.take(stage.leases.transport("a"), "t2", self.OTHER, 300)
        waited: list[str] = []

        def sleep(_: float) -> None:
            waited.append("")
            lease.release(stage.leases.transport("a"), "t2")

        stage.patch.setattr("provisioner.rollout.leases.time.sleep", sleep)
        assert stage.host().run(*SWEEP, "--lock-wait", "1m") == Exit.OK
        err = capsys.readouterr().err
        assert (
            "waiting for the end of that\nanother run was at work since these hosts were looked at: looking again\n"
            in err
        )
        assert (len(waited), len(stage.works)) == (1, 1)

    def lose(self, stage: Stage) -> None:
        """The host's lease is ended by hand, and the run comes to know it."""
        lease.unlock(stage.leases.transport("a"), "unlocked by eve")
        for thread in threading.enumerate():
            if thread.name == "leases":
                thread.join(10)

    def test_a_lease_that_is_lost_stops_it(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        during: list[Any] = []

        def tune(work: Work, points: tuple[Planned, ...]) -> Tuning:
            before = work.interrupted()
            self.lose(stage)
            during.extend((before, work.interrupted(), stage.leases.holder("a")))
            with work.regained():  # nobody else is there: the server can be put back
                during.append((stage.leases.holder("a") or {}).get("run"))
            lease.take(stage.leases.transport("a"), "t2", self.OTHER, 300)
            with pytest.raises(LockedError, match="eve on control-2"), work.regained():
                raise AssertionError
            return stage.tune(work, points)

        stage.patch.setattr(module, "tune", tune)
        quick = functools.partial(leased, timing=Timing(renew_s=0.02, patience_s=0))
        stage.patch.setattr("provisioner.rollout.leases.leased", quick)
        assert stage.host().run(*SWEEP) == Exit.INTERRUPTED
        assert during == [False, True, None, stage.works[0].run.record.id]
        err = capsys.readouterr().err
        assert "a: its lease was taken from this run: unlocked by eve; stopping\n" in err
        assert err.endswith("interrupted: the same command goes on with the points that are left\ninterrupted\n")
        assert (stage.leases.holder("a") or {})["run"] == "run-2"  # what is not ours is not given back

    def test_secrets_are_there_for_the_second_look(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """References to the environment are taken from it once."""
        monkeypatch.setenv("KEY", "s3cret")
        text = FLEET.replace("max_num_seqs: 8", "max_num_seqs: 8, api_key: env:KEY")
        stage.host(facts("a"), text)
        stage.patch.setattr(module, "_owed", lambda _: "run-1")
        assert stage.run(*SWEEP) == Exit.OK
        assert stage.backs == ["nemotron owed False"]
