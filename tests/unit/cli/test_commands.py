"""Commands from words to exit codes, over hosts whose facts are given: nothing is changed, and nobody is reached."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import converged, facts, plan
from leasing import LeaseHosts
from samples import verdict
from worlds import World, proven

from provisioner.apply.outcome import TaskChange
from provisioner.apply.runner import HostResult
from provisioner.apply.workers import Workers
from provisioner.cli.main import run
from provisioner.errors import Exit, UnreachableError, UsageError
from provisioner.fleet.load import load_fleet
from provisioner.history.events import Event
from provisioner.history.store import open_store
from provisioner.plan.facts import Facts
from provisioner.plan.workload import workload
from provisioner.rollout import deploy
from provisioner.rollout.outcome import HostOutcome

FLEET = "hosts: [{hosts}]\nservers:\n  nemotron: {{recipe: nemotron-3-nano}}\n"
ASKED = "error: there is no terminal to ask at\n  hint: add --yes to change hosts without asking\n"


class Stage:
    """A fleet file, a world of hosts, and a state directory of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.patch, self.folder, self.path = monkeypatch, folder, folder / "fleet.yaml"
        self.world = World({})
        self.executed: list[dict[str, Any]] = []
        self.outcomes: list[HostOutcome] | BaseException = []
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.setattr("sys.stdin", io.StringIO())
        monkeypatch.setattr("provisioner.rollout.survey.probe_all", lambda *given: self.world.probe_all(*given))
        monkeypatch.setattr("provisioner.cli.validate.execute", self.execute)
        monkeypatch.setattr(deploy, "execute", self.execute)
        self.leases = LeaseHosts(monkeypatch, folder / "leases")
        monkeypatch.setattr("provisioner.cli.looking.connect", lambda host, _: self.leases.transport(host.name))

    def hosts(self, text: str | None = None, **found: Facts | Exception) -> str:
        self.path.write_text(text or FLEET.format(hosts=", ".join(found)))
        self.world = World(found)  # type: ignore[arg-type]  # tests give errors of the right kind
        return str(self.path)

    def execute(self, seen: Any, connections: Any, run_dir: Path, **given: Any) -> tuple[HostOutcome, ...]:
        self.executed.append({"hosts": [host.host.name for host in seen.work], "run_dir": run_dir, **given})
        if isinstance(self.outcomes, BaseException):
            raise self.outcomes
        return tuple(self.outcomes) or tuple(HostOutcome(host.host.name, Exit.OK, changed=1) for host in seen.hosts)

    @property
    def runs(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("state/provision/runs/*/*") if not path.is_symlink())

    def ready(self, host: str) -> Facts:
        """A host as planned and proven."""
        of = load_fleet(self.path)
        the_plan = plan(of, facts(host))
        return proven(converged(the_plan), the_plan)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return Stage(monkeypatch, tmp_path)


def test_a_wrong_fleet_file(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    path = stage.hosts("hosts: [a]\nservers:\n  nemotron: {recipe: nemotron-3-nano, varient: fp8}\n")
    assert run([path]) == Exit.BAD_INPUT
    assert capsys.readouterr().err == (f'{path}:3:39: servers.nemotron.varient: unknown key; did you mean "variant"?\n')
    assert stage.world.requests == {}


class TestApply:
    def test_without_a_terminal_and_yes_nothing_happens(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        assert run([stage.hosts(a=facts("a"))]) == Exit.BAD_INPUT
        assert capsys.readouterr().err.endswith(ASKED)
        assert (stage.executed, stage.runs) == ([], [])

    @pytest.mark.parametrize(("typed", "code", "executed"), [("y\n", Exit.OK, 1), ("n\n", Exit.CHANGES, 0)])
    def test_somebody_is_asked(
        self, stage: Stage, capsys: pytest.CaptureFixture[str], typed: str, code: Exit, executed: int
    ) -> None:
        stage.patch.setattr("provisioner.cli.console.at_terminal", lambda: True)
        stage.patch.setattr("sys.stdin", io.StringIO(typed))
        assert run([stage.hosts(a=facts("a"), b=facts("b"))]) == code
        said = capsys.readouterr().err
        assert "Change 2 of 2 hosts? [y/N] " in said
        assert said.endswith("nothing was changed\n") is (executed == 0)
        assert (len(stage.executed), len(stage.runs)) == (executed, executed)

    def test_a_run_and_its_record(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        assert run([stage.hosts(a=facts("a")), "--yes", "--smoke", "--strategy", "linear"]) == Exit.OK
        (run_dir,) = stage.runs
        (did,) = stage.executed
        assert (did["hosts"], did["run_dir"]) == (["a"], run_dir)
        assert (did["options"].depth, did["options"].strategy) == ("smoke", "linear")
        assert json.loads((run_dir / "plans" / "a.json").read_text())["hardware"] == "h200"
        assert json.loads((run_dir / "report.json").read_text())["hosts"]["a"]["exit_code"] == 0
        out, err = capsys.readouterr()
        assert out == f"\n1 of 1 host served and validated (0 untouched)\nrecord: {run_dir}\n"
        assert "  ~ docker_engine: docker: Docker is not installed\n" in err

    def test_json_alone_is_on_stdout(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        assert run([stage.hosts(a=facts("a")), "--yes", "--json"]) == Exit.OK
        out, err = capsys.readouterr()
        assert json.loads(out)["hosts"]["a"]["changed"] == 1
        assert "1 of 1 host served and validated" in err

    def test_a_converged_fleet_is_left_alone(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(a=facts("a"), b=facts("b"))
        stage.hosts(a=stage.ready("a"), b=stage.ready("b"))
        assert run([path]) == Exit.OK
        assert capsys.readouterr().out == "\nnothing changed: 2 hosts are as planned and validated\n"
        assert (stage.executed, stage.runs) == ([], [])

    def test_an_unfit_host_stops_all(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(a=facts("a"), b=UnreachableError("b: refused"))
        assert run([path, "--yes"]) == Exit.UNREACHABLE
        assert capsys.readouterr().err.endswith(
            "1 of 2 hosts cannot be provisioned as they are:\n  b  refused\n"
            "nothing was changed; mend them, or provision the other 1 with --keep-going\n"
        )
        assert (stage.executed, stage.runs) == ([], [])

    def test_keep_going(self, stage: Stage) -> None:
        path = stage.hosts(a=facts("a"), b=facts("b", sudo=False))
        stage.outcomes = [HostOutcome("a", Exit.OK), HostOutcome("b", Exit.HOST_FAILED, message="no sudo")]
        assert run([path, "--yes", "--keep-going"]) == Exit.HOST_FAILED
        assert stage.executed[0]["hosts"] == ["a"]

    def test_keep_going_with_no_fit_host(self, stage: Stage) -> None:
        assert run([stage.hosts(b=facts("b", sudo=False)), "--yes", "--keep-going"]) == Exit.HOST_FAILED
        assert stage.executed == []

    def test_some_hosts_only(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(a=facts("a"), b=facts("b"), c=facts("c"))
        assert run([path, "--yes", "--hosts", "c", "--hosts", "a"]) == Exit.OK
        assert stage.executed[0]["hosts"] == ["a", "c"]
        assert run([path, "--yes", "--hosts", "d"]) == Exit.BAD_INPUT
        assert capsys.readouterr().err.endswith(f"error: --hosts: not in {path}: d\n")

    def test_a_secret_that_is_missing(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(FLEET.format(hosts="a") + "hub: {token: env:NO_SUCH_TOKEN}\n", a=facts("a"))
        assert run([path, "--yes"]) == Exit.BAD_INPUT
        assert capsys.readouterr().err.endswith(
            "error: the secret env:NO_SUCH_TOKEN is not set\n  hint: export NO_SUCH_TOKEN=… before running this\n"
        )
        assert stage.runs == []

    @pytest.mark.parametrize(
        ("error", "code"), [(KeyboardInterrupt(), Exit.INTERRUPTED), (UsageError("x"), Exit.BAD_INPUT)]
    )
    def test_a_run_that_ends_early_is_recorded(self, stage: Stage, error: BaseException, code: Exit) -> None:
        stage.outcomes = error
        assert run([stage.hosts(a=facts("a")), "--yes"]) == code
        (run_dir,) = stage.runs
        record = json.loads((run_dir / "record.json").read_text())
        assert record["exit_code"] == code
        assert record["finished"]
        with open_store() as history:
            row = history.run("latest")
        assert (row.id, row.exit_code, row.hosts) == (run_dir.name, code, ("a",))
        assert row.command[1:] == tuple(sys.argv[1:])

    def test_what_a_run_finds_out_is_in_the_history_at_once(self, stage: Stage) -> None:
        """Verdicts while the run goes on, what it accepts when the wave has passed."""
        path = stage.hosts(a=facts("a"), b=facts("b"))

        def execute(seen: Any, *_: Any, on_event: Any, options: Any, **__: Any) -> tuple[HostOutcome, ...]:
            good, bad = verdict("a"), verdict("b", output=1.0, passed=False, exit_code=3)
            for host, told in zip(seen.work, (good, bad), strict=True):
                on_event(Event(host=told.host, phase="benchmark", status="ok"))
                options.on_verdict(host, host.plan.servers[0], told)
            with open_store(read_only=True) as history:
                assert [one.accepted for one in history.measurements()] == [False, False]
                assert history.run("latest").ended_at is None
            return HostOutcome("a", Exit.OK, verdicts=(good,)), HostOutcome("b", Exit.GATE_FAILED, verdicts=(bad,))

        stage.patch.setattr(deploy, "execute", execute)
        assert run([path, "--yes"]) == Exit.GATE_FAILED
        with open_store(read_only=True) as history:
            found = history.measurements()
            last = history.run("latest")
            assert [event.host for event in history.events(last.id)] == ["a", "b"]
        assert [(one.host, one.accepted, one.driver) for one in found] == [
            ("a", True, "580.95.05"),
            ("b", False, "580.95.05"),
        ]
        assert {one.workload for one in found} == {workload(plan(load_fleet(stage.path), facts("a")).servers[0])}
        assert last.exit_code == Exit.GATE_FAILED

    def test_secrets_are_not_in_the_run_directory(self, stage: Stage) -> None:
        stage.patch.setenv("PLANTED", "planted-s3cret")
        path = stage.hosts(FLEET.format(hosts="a") + "hub: {token: env:PLANTED}\n", a=facts("a"))
        stage.outcomes = [HostOutcome("a", Exit.HOST_FAILED, message="hub said planted-s3cret")]
        assert run([path, "--yes"]) == Exit.HOST_FAILED
        (run_dir,) = stage.runs
        texts = {path.name: path.read_text() for path in run_dir.rglob("*") if path.is_file()}
        assert "report.json" in texts
        assert not [name for name, text in texts.items() if "planted-s3cret" in text]

    def test_where_ansible_runs_must_be_somewhere(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(a=facts("a"))
        assert run([path, "--yes", "--executor", "dask://control"]) == Exit.BAD_INPUT
        expected = "error: --executor dask://control: expected local, dask://HOST:PORT or dask+tls://HOST:PORT\n"
        assert capsys.readouterr().err == expected
        assert run([path, "--check", "--executor", "dask://127.0.0.1:1"]) == Exit.BAD_INPUT
        assert capsys.readouterr().err == "error: --check asks the roles on this machine: leave --executor out\n"
        assert stage.executed == []

    def test_without_workers_nothing_is_changed(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        path = stage.hosts(a=facts("a"))
        asked = []

        def check(_: Workers) -> None:
            asked.append(stage.executed[:])
            raise UsageError("no worker is there")

        monkeypatch.setattr(Workers, "check", check)
        assert run([path, "--yes", "--executor", "dask://127.0.0.1:1"]) == Exit.BAD_INPUT
        assert (asked, stage.executed, stage.runs) == ([[]], [], [])

    def test_a_converged_fleet_asks_no_workers(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        path = stage.hosts(a=facts("a"))
        stage.world = World({"a": stage.ready("a")})
        monkeypatch.setattr(Workers, "check", lambda _: pytest.fail("asked"))
        assert run([path, "--yes", "--executor", "dask://127.0.0.1:1"]) == Exit.OK

    def test_workers_get_the_run(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        path = stage.hosts(a=facts("a"))
        monkeypatch.setattr(Workers, "check", lambda _: None)
        assert run([path, "--yes", "--executor", "dask://127.0.0.1:1"]) == Exit.OK
        assert isinstance(stage.executed[0]["options"].place, Workers)

    def test_a_dry_run_is_a_plan(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        assert run([stage.hosts(a=facts("a")), "--dry-run"]) == Exit.CHANGES
        assert "1 host: 1 to change" in capsys.readouterr().out
        assert stage.executed == []


class TestRollout:
    WAVES = FLEET + "rollout: {{canary: 1, {more}}}\n"

    def test_wave_after_wave(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(self.WAVES.format(hosts="a, b", more="analysis: smoke"), a=facts("a"), b=facts("b"))
        assert run([path, "--yes"]) == Exit.OK
        assert [did["hosts"] for did in stage.executed] == [["a"], ["b"]]
        assert [did["part"] for did in stage.executed] == ["", "wave-2"]
        assert {did["options"].depth for did in stage.executed} == {"smoke"}
        with open_store(read_only=True) as store:
            kinds = [step.kind for step in store.steps(store.run("latest").id)]
        assert kinds == ["started", "wave", "promoted", "wave", "promoted", "finished"]

    def test_what_a_wave_has_shown_is_a_baseline_before_the_next_begins(self, stage: Stage) -> None:
        """A run that is killed later does not take it away; it is accepted once."""
        path = stage.hosts(self.WAVES.format(hosts="a, b", more="batches: [1]"), a=facts("a"), b=facts("b"))
        before: list[list[tuple[str, bool]]] = []

        def execute(seen: Any, *_: Any, options: Any, **__: Any) -> tuple[HostOutcome, ...]:
            (host,) = seen.work
            told = verdict(host.host.name)
            with open_store(read_only=True) as history:
                before.append([(one.host, one.accepted) for one in history.measurements()])
            options.on_verdict(host, host.plan.servers[0], told)
            return (HostOutcome(host.host.name, Exit.OK, verdicts=(told,)),)

        stage.patch.setattr(deploy, "execute", execute)
        assert run([path, "--yes"]) == Exit.OK
        assert before == [[], [("a", True)]]
        with open_store(read_only=True) as history:
            assert [one.host for one in history.accepted()] == ["a", "b"]

    def test_somebody_must_approve_and_there_is_nobody(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(self.WAVES.format(hosts="a, b", more="approve: canary"), a=facts("a"), b=facts("b"))
        said = (
            "error: rollout.approve: there is no terminal to ask at after canary\n"
            "  hint: give rollout.approve_command, or approve: never\n"
        )
        assert run([path, "--yes"]) == Exit.BAD_INPUT
        assert capsys.readouterr().err.endswith(said)
        never = stage.hosts(self.WAVES.format(hosts="a, b", more="approve: never"), a=facts("a"), b=facts("b"))
        assert run([never, "--yes", "--approve"]) == Exit.BAD_INPUT
        assert capsys.readouterr().err.endswith(said)
        assert (stage.executed, stage.runs) == ([], [])

    @pytest.mark.parametrize(
        ("typed", "code", "waves"),
        [("y\ny\ny\n", Exit.OK, 3), ("y\ny\nn\n", Exit.CHANGES, 2), ("y\n", Exit.CHANGES, 1)],
    )
    def test_somebody_at_a_terminal_is_asked_after_every_wave(
        self, stage: Stage, capsys: pytest.CaptureFixture[str], typed: str, code: Exit, waves: int
    ) -> None:
        path = stage.hosts(
            self.WAVES.format(hosts="a, b, c", more="batches: [1]"), a=facts("a"), b=facts("b"), c=facts("c")
        )
        stage.patch.setattr("provisioner.cli.console.at_terminal", lambda: True)
        stage.patch.setattr("provisioner.cli.rolling.at_terminal", lambda: True)
        stage.patch.setattr("sys.stdin", io.StringIO(typed))
        assert run([path, "--approve"]) == code
        assert [did["hosts"] for did in stage.executed] == [["a"], ["b"], ["c"]][:waves]
        said = capsys.readouterr()
        assert "canary passed. Go on with batch 1 (b)? [y/N] " in said.err
        assert ("batch 1 passed. Go on with batch 2 (c)? [y/N] " in said.err) is (waves > 1)
        assert ("not approved" in said.out) is (code != Exit.OK)

    @pytest.mark.parametrize(("command", "code", "waves"), [("true", Exit.OK, 2), ("false", Exit.CHANGES, 1)])
    def test_a_command_is_asked(
        self, stage: Stage, capsys: pytest.CaptureFixture[str], command: str, code: Exit, waves: int
    ) -> None:
        more = f"approve: every_wave, approve_command: '{command}'"
        path = stage.hosts(self.WAVES.format(hosts="a, b", more=more), a=facts("a"), b=facts("b"))
        assert run([path, "--yes"]) == code
        assert len(stage.executed) == waves
        refused = "rollout stopped at canary: not approved: `false` ended with 1\n"
        assert (refused in capsys.readouterr().out) is (waves == 1)


class TestCheck:
    @pytest.fixture
    def asked(self, stage: Stage) -> list[dict[str, Any]]:
        """What Ansible was given; it fails on hosts whose name ends in x."""
        found: list[dict[str, Any]] = []

        def ansible(folder: Path, _: Any, plans: Any, *__: Any, **given: Any) -> tuple[HostResult, ...]:
            assert folder.stat().st_mode & 0o777 == 0o700
            found.append({"hosts": [one.host for one in plans], "folder": folder, **given})
            given["on_event"](Event(host=plans[0].host, phase="apply", task="r: t", status="changed"))
            return tuple(
                HostResult(host=one.host, state="failed", changed=0, message="r: t: no space\nline 2")
                if one.host.endswith("x")
                else HostResult(host=one.host, state="ok", changed=1, would=(TaskChange(task="r: t", diff="+new"),))
                for one in plans
            )

        stage.patch.setattr("provisioner.rollout.check.apply", ansible)
        return found

    def test_ansible_is_asked_about_hosts_with_changes(
        self, stage: Stage, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = stage.hosts(a=facts("a"), b=facts("b"))
        stage.hosts(a=facts("a"), b=stage.ready("b"))
        assert run([path, "--check", "--diff", "--strategy", "linear"]) == Exit.CHANGES
        (one,) = asked
        assert (one["hosts"], one["check"], one["strategy"]) == (["a"], True, "linear")
        assert not one["folder"].exists()
        assert (stage.executed, stage.runs) == ([], [])
        out, err = capsys.readouterr()
        assert out.endswith("\n\nAnsible in check mode:\n  a  ~ r: t\n         +new\n")
        assert "      +[Service]\n" in out
        assert "  a  check  r: t [changed]\n" in err
        assert not [command for host in stage.world.transports.values() for command in host.commands]

    def test_a_converged_fleet(self, stage: Stage, asked: list[dict[str, Any]]) -> None:
        path = stage.hosts(a=facts("a"))
        stage.hosts(a=stage.ready("a"))
        assert (run([path, "--check"]), asked) == (Exit.OK, [])

    def test_a_host_to_validate_is_told(self, stage: Stage, asked: list[dict[str, Any]]) -> None:
        path = stage.hosts(a=facts("a"))
        stage.hosts(a=stage.ready("a").model_copy(update={"driver_version": "590.44.01"}))
        assert (run([path, "--check"]), asked) == (Exit.CHANGES, [])

    def test_roles_that_fail(
        self, stage: Stage, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run([stage.hosts(a=facts("a"), bx=facts("bx")), "--check"]) == Exit.HOST_FAILED
        assert capsys.readouterr().err.endswith("\nbx: failed: r: t: no space\n    line 2\n")

    def test_an_unfit_host(self, stage: Stage, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(a=facts("a"), b=UnreachableError("b: refused"))
        assert run([path, "--check", "--json"]) == Exit.UNREACHABLE
        out, err = capsys.readouterr()
        assert json.loads(out)["hosts"]["a"]["ansible"]["would"] == [{"task": "r: t", "diff": "+new"}]
        assert err.endswith("1 of 2 hosts cannot be provisioned as they are:\n  b  refused\n")

    def test_a_strategy_that_there_is_not(self, stage: Stage, asked: list[dict[str, Any]]) -> None:
        assert run([stage.hosts(a=facts("a")), "--check", "--strategy", "sideways"]) == Exit.BAD_INPUT
        assert stage.world.requests == {}


class TestPlan:
    def test_exit_codes(self, stage: Stage) -> None:
        path = stage.hosts(a=facts("a"))
        assert run(["plan", path]) == Exit.CHANGES
        stage.hosts(a=converged(plan(load_fleet(stage.path), facts("a"))))
        assert run(["plan", path]) == Exit.CHANGES  # not validated yet
        stage.hosts(a=stage.ready("a"))
        assert run(["plan", path]) == Exit.OK
        stage.hosts(a=facts("a"), b=facts("b", systemd=False))
        assert run(["plan", path]) == Exit.HOST_FAILED

    def test_a_changed_driver(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(a=facts("a"))
        stage.hosts(a=stage.ready("a").model_copy(update={"driver_version": "590.44.01"}))
        assert run(["plan", path]) == Exit.CHANGES
        assert capsys.readouterr().out.endswith(
            "  ? nemotron: validate again: it was proven with driver 580.95.05, now it is 590.44.01\n"
            "\n1 host: 0 to change, 1 to validate, 0 as planned\n"
        )

    def test_json(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["plan", stage.hosts(a=facts("a")), "--json"]) == Exit.CHANGES
        assert json.loads(capsys.readouterr().out)["hosts"]["a"]["changes"]

    def test_diff(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["plan", stage.hosts(a=facts("a")), "--diff"]) == Exit.CHANGES
        assert "      +[Service]\n" in capsys.readouterr().out


class TestProbe:
    def test_a_host_that_is_down(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(a=facts("a"), b=UnreachableError("b: refused"))
        assert run(["probe", path, "--json"]) == Exit.UNREACHABLE
        out, err = capsys.readouterr()
        assert json.loads(out)["b"] is None
        assert err.endswith("\nb: refused\n")

    def test_an_unfit_host_can_be_looked_at(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["probe", stage.hosts(a=facts("a", sudo=False))]) == Exit.OK
        assert capsys.readouterr().out.startswith("a: Ubuntu 24.04.3 LTS, x86_64, kernel 6.8.0\n")


@pytest.mark.parametrize("words", ["probe {path}", "render {path} -o {out}"])
def test_looking_needs_no_secrets(stage: Stage, words: str) -> None:
    path = stage.hosts(FLEET.format(hosts="a") + "hub: {token: env:NO_SUCH_TOKEN}\n", a=facts("a"))
    assert run(words.format(path=path, out=stage.folder / "out").split()) == Exit.OK


class TestValidate:
    def test_what_runs_as_planned_is_proven_again(self, stage: Stage) -> None:
        path = stage.hosts(a=facts("a"))
        stage.hosts(a=stage.ready("a"))
        assert run(["validate", path, "--smoke"]) == Exit.OK
        (did,) = stage.executed
        assert (did["hosts"], did["options"].depth) == (["a"], "smoke")
        assert len(stage.runs) == 1

    def test_a_host_with_changes_proves_nothing(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        path = stage.hosts(a=facts("a"))
        assert run(["validate", path]) == Exit.CHANGES
        assert capsys.readouterr().err.endswith(f"a: not as planned; run `provision plan {path}` to see why\n")
        assert (stage.executed, stage.runs) == ([], [])

    def test_an_unfit_host(self, stage: Stage) -> None:
        assert run(["validate", stage.hosts(a=UnreachableError("a: x"))]) == Exit.UNREACHABLE
        assert stage.executed == []

    def test_an_interrupted_validation_is_recorded(self, stage: Stage) -> None:
        path = stage.hosts(a=facts("a"))
        stage.hosts(a=stage.ready("a"))
        stage.outcomes = KeyboardInterrupt()
        assert run(["validate", path]) == Exit.INTERRUPTED
        assert json.loads((stage.runs[0] / "record.json").read_text())["exit_code"] == Exit.INTERRUPTED


class TestRender:
    def test_an_inventory_for_use_without_us(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        out = stage.folder / "deep" / "out"
        assert run(["render", stage.hosts(a=facts("a"), b=facts("b")), "-o", str(out)]) == Exit.OK
        assert list(yaml.safe_load((out / "inventory/hosts.yml").read_text())["all"]["hosts"]) == ["a", "b"]
        assert sorted(path.name for path in (out / "inventory/host_vars").iterdir()) == ["a.yml", "b.yml"]
        assert capsys.readouterr().err.endswith(
            f"inventory of 2 hosts in {out}/inventory, 2 files in {out}/files\n"
            "secrets are looked up when Ansible runs: their files here are stand-ins\n"
        )

    def test_from_recorded_facts_no_host_is_reached(
        self, stage: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        path = stage.hosts(a=facts("a"))
        assert run(["probe", path, "--json"]) == Exit.OK
        recorded = tmp_path / "facts.json"
        recorded.write_text(capsys.readouterr().out, encoding="utf-8")
        probed = tmp_path / "probed"
        assert run(["render", path, "-o", str(probed)]) == Exit.OK
        stage.world.requests.clear()
        assert run(["render", path, "-o", str(tmp_path / "out"), "--facts", str(recorded)]) == Exit.OK
        assert stage.world.requests == {}
        files = [file.relative_to(probed) for file in probed.rglob("*") if file.is_file()]
        assert len(files) == 4
        assert all((probed / file).read_bytes() == (tmp_path / "out" / file).read_bytes() for file in files)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{}", "a  no facts of it are recorded"),
            ("[]", "facts.json: holds no recorded facts: top: Input should be an object"),
            ('{"a": {"host": "a"}}', "facts.json: holds no recorded facts: a.hostname: Field required"),
        ],
    )
    def test_facts_that_are_none(
        self, stage: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str
    ) -> None:
        path, recorded = stage.hosts(a=facts("a")), tmp_path / "facts.json"
        recorded.write_text(text, encoding="utf-8")
        assert run(["render", path, "-o", str(tmp_path / "out"), "--facts", str(recorded)]) == Exit.BAD_INPUT
        assert message in capsys.readouterr().err

    def test_an_unfit_host(self, stage: Stage) -> None:
        out = stage.folder / "out"
        assert run(["render", stage.hosts(a=facts("a", systemd=False)), "-o", str(out)]) == Exit.HOST_FAILED
        assert not out.exists()
