"""`provision releases`, `rollback` and `resume` over hosts in memory."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from builders import converged, facts, fleet, plan, server
from leasing import LeaseHosts
from worlds import proven

from provisioner.cli.main import app, run
from provisioner.cli.words import flags_of_apply
from provisioner.errors import Exit, UnreachableError
from provisioner.hosts.fake import FakeTransport
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan
from provisioner.plan.release import Release, release_id
from provisioner.rollout import rollback
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.survey import Survey

FLEET = "hosts: [a, b]\nservers:\n  nemotron: {recipe: nemotron-3-nano}\n"
FIRST, SECOND = (plan(fleet(server(max_num_seqs=number))) for number in (4, 8))
ONE, TWO = release_id(FIRST), release_id(SECOND)


def release(of: HostPlan, hour: int) -> Release:
    return Release(id=release_id(of), accepted_at=datetime(2026, 1, 2, hour, tzinfo=UTC), run=f"r-{hour}", plan=of)


@dataclass
class Host:
    """What a host keeps, and which of it is on it."""

    kept: Sequence[Release] = (release(SECOND, 2), release(FIRST, 1))
    serving: str | None = TWO
    running: HostPlan = SECOND
    benchmarked: bool = True
    named: list[str] = field(default_factory=list)

    def answer(self, command: str, _: bytes) -> str:
        if "for file in" in command:
            named = json.dumps({"id": self.serving, "images": []}) if self.serving else ""
            return "\n".join([named, *(one.model_dump_json() for one in self.kept), ""])
        if read := re.search(r"cat /var/lib/vllm/releases/(\w+).json", command):
            return next(one for one in self.kept if one.id == read.group(1)).model_dump_json()
        if named_now := re.search(r'{"id":"(\w+)"', command):
            self.named.append(named_now.group(1))
        return ""

    def seen(self, name: str) -> Facts:
        of = self.running.model_copy(update={"host": name})
        there = converged(of, facts(name))
        return proven(there, of) if self.benchmarked else there


class Stage:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.path = folder / "fleet.yaml"
        self.path.write_text(FLEET)
        self.hosts: dict[str, Host | UnreachableError] = {"a": Host(), "b": Host()}
        self.executed: list[str] = []
        self.leases = LeaseHosts(monkeypatch, folder / "leases")
        self.passes = True
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.setattr("provisioner.cli.looking.connect", self.connect)
        monkeypatch.setattr(rollback, "probe", lambda transport, _: self.host(transport.host).seen(transport.host))
        monkeypatch.setattr(rollback, "execute", self.execute)

    def host(self, name: str) -> Host:
        found = self.hosts[name]
        assert isinstance(found, Host)
        return found

    def connect(self, host: Any, _: Any) -> FakeTransport:
        found = self.hosts[host.name]
        if isinstance(found, UnreachableError):
            raise found
        leased = lambda _, stdin: self.leases.answer(host.name, stdin)  # noqa: E731
        return FakeTransport(host.name, [("python3", leased), ("", found.answer)])

    def execute(self, seen: Survey, *_: Any, **__: Any) -> tuple[HostOutcome, ...]:
        self.executed += [f"{one.host.name} {release_id(one.plan)}" for one in seen.hosts if one.plan]
        code = Exit.OK if self.passes else Exit.GATE_FAILED
        return tuple(HostOutcome(one.host.name, code, message="slo: too slow") for one in seen.hosts)

    def run(self, *words: str) -> int:
        return run([words[0], str(self.path), *words[1:]])


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return Stage(monkeypatch, tmp_path)


def test_releases(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.hosts["b"] = Host(kept=(), serving=None)
    assert stage.run("releases") == Exit.OK
    assert capsys.readouterr().out == (
        "host  release       accepted          run  serves  servers\n"
        f"a     {TWO}  2026-01-02 02:00  r-2  yes     nemotron: vllm/vllm-openai:v0.12.0\n"
        f"a     {ONE}  2026-01-02 01:00  r-1          nemotron: vllm/vllm-openai:v0.12.0\n"
    )
    assert stage.run("releases", "--json") == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["a"]["serving"], [one["id"] for one in told["a"]["releases"]]) == (TWO, [TWO, ONE])
    assert told["b"] == {"serving": None, "releases": []}


def test_releases_where_a_host_is_gone(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.hosts |= {"a": UnreachableError("a: no way"), "b": Host(kept=(), serving=None)}
    assert stage.run("releases") == Exit.UNREACHABLE
    assert capsys.readouterr() == ("no release yet\n", "a: no way\n")


def test_back_to_the_release_before(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.run("rollback", "--yes", "--hosts", "a") == Exit.OK
    assert stage.executed == [f"a {ONE}"]
    assert stage.host("a").named == [ONE]
    out, err = capsys.readouterr()
    assert f"a: back to release {ONE} of 2026-01-02 01:00\n  ~ vllm_server: " in err
    assert f"a: serves its release {ONE} of 2026-01-02 01:00 again\n" in out
    assert err.endswith(
        f"{stage.path} may ask for another release still: change it before the next `provision {stage.path}`\n"
    )


def test_a_release_that_passed_with_requests_alone_is_one(stage: Stage) -> None:
    stage.host("a").benchmarked = False
    assert stage.run("rollback", "--yes", "--hosts", "a") == Exit.OK
    assert stage.executed == [f"a {ONE}"]


def test_what_never_passed_goes_first(stage: Stage) -> None:
    stage.host("a").running = FIRST  # by hand, or left by a rollout that does not go back
    assert stage.run("rollback", "--yes", "--hosts", "a") == Exit.OK
    assert stage.executed == [f"a {TWO}"]


def test_to_a_release_by_a_part_of_its_id(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.run("rollback", "--yes", "--to", ONE[:5]) == Exit.OK
    assert sorted(stage.executed) == [f"a {ONE}", f"b {ONE}"]
    assert stage.run("rollback", "--yes", "--to", "zzz") == Exit.HOST_FAILED
    assert capsys.readouterr().err.endswith(
        f"a: has no release zzz; it keeps: {TWO}, {ONE}\nb: has no release zzz; it keeps: {TWO}, {ONE}\n"
        "nothing was changed; name the other hosts with --hosts to roll them back alone\n"
    )


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (Host(kept=(), serving=None), "a: has no release\n  hint: it was never provisioned to the end"),
        (Host(kept=(release(SECOND, 2),)), f"a: has no release before {TWO}, which it serves"),
        (UnreachableError("a: no way"), "a: no way"),
    ],
    ids=["nothing", "the first", "gone"],
)
def test_no_way_back(
    stage: Stage, capsys: pytest.CaptureFixture[str], host: Host | UnreachableError, said: str
) -> None:
    stage.hosts["a"] = host
    assert stage.run("rollback", "--yes") in (Exit.HOST_FAILED, Exit.UNREACHABLE)
    assert capsys.readouterr().err == (
        f"{said}\nnothing was changed; name the other hosts with --hosts to roll them back alone\n"
    )
    assert stage.executed == []


def test_a_release_that_does_not_pass_any_more(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.passes = False
    assert stage.run("rollback", "--yes", "--hosts", "a") == Exit.HOST_FAILED
    assert f"a: COULD NOT be brought back to release {ONE}: slo: too slow\n" in capsys.readouterr().out
    assert stage.host("a").named == []


def test_nobody_to_ask(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.run("rollback") == Exit.BAD_INPUT
    assert capsys.readouterr().err.endswith(
        "error: there is no terminal to ask at\n  hint: add --yes to change hosts without asking\n"
    )
    assert stage.executed == []


def test_resume_goes_on_with_the_flags_of_the_last_rollout(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from provisioner.cli import resume
    from provisioner.history.rundir import create_run

    given: list[Any] = []
    monkeypatch.setattr(resume, "apply", lambda path, flags: given.append((path, flags)) or Exit.OK)
    words = f"provision {stage.path} --yes --smoke --hosts a"
    create_run("fleet", command=shlex.split(words), fleet_path=stage.path).finish(Exit.INTERRUPTED)
    assert stage.run("resume") == Exit.OK
    ((path, flags),) = given
    assert (path, flags.yes, flags.smoke, flags.hosts, flags.keep_going) == (stage.path, True, True, ("a",), False)
    assert re.search(r"going on with run \S+ \(interrupted\): provision \S+ --yes --smoke", capsys.readouterr().err)


def test_what_was_resumed_can_be_resumed_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the flags of the run that it was first; its lock is not moved once more."""
    from provisioner.cli import resume
    from provisioner.history.rundir import create_run

    given: list[Any] = []
    monkeypatch.setattr(resume, "apply", lambda _, flags: given.append(flags) or Exit.OK)
    words = f"provision {stage.path} --yes --update-lock --lock-wait 10m"
    create_run("fleet", command=shlex.split(words), fleet_path=stage.path).finish(Exit.HOST_FAILED)
    again = create_run("fleet", command=["provision", "resume", str(stage.path)], fleet_path=stage.path)
    again.finish(Exit.INTERRUPTED)
    assert stage.run("resume") == stage.run("resume", "--lock-wait", "1m") == Exit.OK
    assert [(one.yes, one.update_lock, one.lock_wait_s) for one in given] == [(True, False, 600.0), (True, False, 60.0)]
    assert f"going on with run {again.record.id} (interrupted): {words}\n" in capsys.readouterr().err


def test_nothing_to_resume(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    from provisioner.history.rundir import create_run

    assert stage.run("resume") == Exit.BAD_INPUT
    assert capsys.readouterr().err == "error: there is no run yet of fleet fleet\n"
    create_run("fleet", command=["provision", "validate", str(stage.path)], fleet_path=stage.path).finish(3)
    assert stage.run("resume") == Exit.BAD_INPUT
    assert capsys.readouterr().err == (
        f"error: the last run of fleet was no rollout: provision validate {stage.path}\n"
        "  hint: run it again to finish it\n"
    )
    running = create_run("fleet", command=["provision", str(stage.path)], fleet_path=stage.path)
    assert stage.run("resume") == Exit.BAD_INPUT
    assert capsys.readouterr().err == f"error: run {running.record.id} is still going on\n"
    running.finish(Exit.OK)
    assert stage.run("resume") == Exit.OK
    assert capsys.readouterr().err == f"run {running.record.id} ended well: nothing to resume\n"


def test_flags_of_a_recorded_command() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a click group
    told = flags_of_apply(["--hosts", "a", "fleet.yaml", "--yes"], commands)
    assert told is not None
    assert (told["hosts"], told["yes"], told["smoke"]) == (["a"], True, False)
    assert flags_of_apply(["destroy", "fleet.yaml"], commands) is None
    nightly = flags_of_apply(["schedule", "run", "fleet.yaml", "--started-by", "timer"], commands)
    assert nightly is not None
    assert str(nightly["fleet"]) == "fleet.yaml"
    assert (nightly["yes"], nightly["keep_going"], nightly["hosts"]) == (True, True, [])
