"""A rollout over hosts in memory: what they keep, what they serve, and what is told of every step."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import converged, facts, file, fleet, plan, server

from provisioner.errors import Exit, ProvisionError, UnreachableError
from provisioner.fleet.models import Fleet, Host
from provisioner.fleet.rollout import Rollout as Settings
from provisioner.history.events import Event, OnEvent
from provisioner.history.steps import Step
from provisioner.hosts.fake import FakeTransport
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan
from provisioner.plan.release import CURRENT, Release, release_id
from provisioner.rollout import deploy, rollback
from provisioner.rollout.connections import Connections
from provisioner.rollout.course import Course
from provisioner.rollout.deploy import Hands, Rollout
from provisioner.rollout.execute import Options
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.survey import HostSurvey, Survey
from provisioner.rollout.waves import Wave

OLD, NEW = plan(fleet(server(max_num_seqs=4))), plan(fleet(server(max_num_seqs=8)))
AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


class KilledError(Exception):
    """The end of the program, in the midst of whatever it does."""


GONE = UnreachableError("cannot connect to 10.0.0.9:22: Connection refused")


@dataclass
class MemoryHost:
    """A host of which only that is there which a rollout has to do with."""

    name: str
    serves: str | None = None
    """id of the release that is on it; None: nothing, or stopped"""
    current: str | None = None
    kept: dict[str, str] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    """releases that do not pass validation here"""
    gone_after: int | None = None
    """after so many changes it cannot be reached"""
    changes: int = 0
    commands: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    """called before every command, and after it"""

    @property
    def gone(self) -> bool:
        return self.gone_after is not None and self.changes >= self.gone_after

    def transport(self) -> FakeTransport:
        if self.gone:
            raise UnreachableError(f"{self.name}: {GONE}")
        return FakeTransport(self.name, [("", self.answer)])

    def answer(self, command: str, stdin: bytes) -> str:
        self.before()
        answer = self._answer(command, stdin)
        self.before()
        return answer

    def _answer(self, command: str, stdin: bytes) -> str:
        self.commands.append(command)
        if stdin:
            release = Release.model_validate_json(stdin)
            self.kept[release.id], self.current = stdin.decode(), release.id
        elif "systemctl disable" in command:
            self.serves = None
            return "vllm-nemotron.service\n"
        elif named := re.search(r'{"id":"(\w+)"', command):
            self.current = named.group(1)
        elif read := re.search(r"cat /var/lib/vllm/releases/(\w+).json", command):
            return self.kept[read.group(1)]
        return ""

    def keep(self, of: HostPlan) -> None:
        release = Release(id=release_id(of), accepted_at=AT, run="r-0", plan=of)
        self.kept[release.id], self.current, self.serves = release.model_dump_json(), release.id, release.id

    def seen(self, of: HostPlan) -> Facts:
        """The probe's facts when it serves `of`."""
        was = converged(of, facts(self.name))
        named = json.dumps({"id": self.current, "images": []})
        return was.model_copy(update={"files": (*was.files, *([file(CURRENT, named)] if self.current else []))})


class World:
    """Hosts, and a rollout of NEW over them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hosts: Sequence[MemoryHost], **rollout: Any) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.fleet: Fleet = fleet(hosts=tuple(self.hosts), rollout=Settings.model_validate({"canary": 1, **rollout}))
        self.steps: list[Step] = []
        self.events: list[Event] = []
        self.answer: str | None = None
        self.interrupted = False
        self.lives_for: int | None = None
        """so many moments; None: for ever"""
        for host in hosts:
            host.before = self.lives
        monkeypatch.setattr(deploy, "execute", self.execute)
        monkeypatch.setattr(rollback, "execute", self.execute)
        monkeypatch.setattr(rollback, "probe", self.probe)
        monkeypatch.setattr(rollback, "COMES_BACK_S", 0.0)

    def survey(self) -> Survey:
        """What is NEW already is not touched again."""
        return Survey(self.fleet, tuple(map(self._seen, self.fleet.hosts)), {})

    def run(self) -> tuple[Course, dict[str, HostOutcome]]:
        course, outcomes = Rollout(
            self.survey(), self.connections(), Path("/runs/r-1"), self.options(), self.hands()
        ).run()
        assert [one.host for one in outcomes] == list(self.hosts)
        return course, {one.host: one for one in outcomes}

    def options(self) -> Options:
        return Options(interrupted=lambda: self.interrupted)

    def hands(self) -> Hands:
        return Hands(self.shown, self.told_of, self.approve, lambda _: None)

    def told_of(self, step: Step) -> None:
        self.lives()
        self.steps.append(step)
        self.lives()

    def lives(self) -> None:
        """Ends the program when its time has come."""
        if self.lives_for is not None:
            self.lives_for -= 1
            if self.lives_for < 0:
                raise KilledError

    def approve(self, wave: Wave, following: Wave) -> str | None:
        return self.answer

    @contextmanager
    def shown(self, _: Sequence[str]) -> Iterator[OnEvent]:
        yield self.events.append

    def connections(self) -> Connections:
        return Connections(lambda host: self.hosts[host.name].transport())

    def probe(self, transport: FakeTransport, _: Any) -> Facts:
        host = self.hosts[transport.host]
        return host.seen(NEW if host.serves == release_id(NEW) else OLD)

    def execute(self, seen: Survey, *_: Any, **__: Any) -> tuple[HostOutcome, ...]:
        return tuple(self._executed(one) for one in seen.hosts)

    def _seen(self, host: Host) -> HostSurvey:
        of = self.hosts[host.name]
        new = NEW.model_copy(update={"host": host.name})
        there = of.seen(NEW)
        done = of.serves == release_id(NEW)
        return HostSurvey(
            host,
            facts=there,
            plan=new,
            unproven={} if done else {"nemotron": "differs"},
            unaccepted=done and of.current != release_id(NEW),
        )

    def _executed(self, seen: HostSurvey) -> HostOutcome:
        host = self.hosts[seen.host.name]
        assert seen.plan is not None
        if not seen.work:
            return HostOutcome(host.name, Exit.OK, untouched=True)
        if host.gone:
            return HostOutcome(host.name, Exit.UNREACHABLE, message=str(GONE))
        self.lives()
        host.changes += 1
        host.serves = release_id(seen.plan)
        self.lives()
        if host.gone:
            return HostOutcome(host.name, Exit.UNREACHABLE, message="lost during “Start”", touched=True)
        if host.serves in host.refuses:
            return HostOutcome(host.name, Exit.GATE_FAILED, message="slo: too slow", touched=True)
        return HostOutcome(host.name, Exit.OK, touched=True)

    def told(self) -> list[str]:
        return [": ".join(filter(None, (one.kind, one.wave, " ".join(one.hosts), one.detail))) for one in self.steps]


def served(name: str, **changes: Any) -> MemoryHost:
    """A host that serves OLD, accepted."""
    host = MemoryHost(name, **changes)
    host.keep(OLD.model_copy(update={"host": name}))
    return host


O, N = release_id(OLD), release_id(NEW)  # noqa: E741 - old and new
Hosts = Callable[..., World]


def test_a_good_release_reaches_all(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [served("a"), served("b"), served("c")])
    course, outcomes = world.run()
    assert {(host.serves, host.current) for host in world.hosts.values()} == {(N, N)}
    assert all(set(host.kept) == {O, N} for host in world.hosts.values())
    assert course.reason == ""
    assert {(one.state, one.exit_code) for one in outcomes.values()} == {("promoted", Exit.OK)}
    assert world.told() == [
        "started: a b c",
        "wave: canary: a",
        "promoted: canary: a",
        "wave: batch 1: b c",
        "promoted: batch 1: b c",
        "finished",
    ]


def test_who_passed_is_told_of_before_those_who_may_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [served("a"), served("b", refuses={N})])
    told: list[tuple[list[str], str]] = []

    def on_promoted(outcomes: Sequence[HostOutcome]) -> None:
        told.append(([one.host for one in outcomes], world.told()[-1]))

    options = replace(world.options(), on_promoted=on_promoted)
    Rollout(world.survey(), world.connections(), Path("/runs/r-1"), options, world.hands()).run()
    assert told == [(["a"], "wave: canary: a")]


def test_a_bad_release_stops_at_the_canary_which_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [served("a", refuses={N}), served("b")])
    _, outcomes = world.run()
    a, b = world.hosts.values()
    assert (a.serves, a.current, b.serves, b.changes, b.commands) == (O, O, O, 0, [])
    assert outcomes["a"] == HostOutcome(
        "a",
        Exit.GATE_FAILED,
        message="slo: too slow",
        touched=True,
        state="rolled_back",
        rollback=f"serves its release {O} of 2026-01-02 03:04 again",
    )
    assert outcomes["b"] == HostOutcome("b", Exit.OK, untouched=True, pending=True)
    assert world.told() == [
        "started: a b",
        "wave: canary: a",
        "failed: canary: a: a: slo: too slow",
        "rolling_back: a",
        f"rolled_back: a: serves its release {O} of 2026-01-02 03:04 again",
        "aborted: canary: its gate failed: a",
    ]
    assert [(one.phase, one.status, one.task) for one in world.events] == [
        ("rollback", "started", f"back to {O}"),
        ("rollback", "ok", "rolled back"),
    ]


def test_what_has_no_previous_release_is_stopped_and_left_to_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [MemoryHost("a", refuses={N})])
    _, outcomes = world.run()
    assert outcomes["a"].state == "stopped"
    assert outcomes["a"].rollback == (
        "has no previous release: vllm-nemotron.service stopped; look with `journalctl -u vllm-nemotron.service`"
    )
    (stop,) = world.hosts["a"].commands
    assert "systemctl disable --now vllm-nemotron.service" in stop


def test_a_first_installation_is_not_undone_by_one_bad_host(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [MemoryHost("a"), MemoryHost("b", refuses={N})], canary=0)
    _, outcomes = world.run()
    assert (outcomes["a"].state, outcomes["b"].state) == ("promoted", "stopped")
    assert world.hosts["a"].current == N


def test_a_host_that_is_gone_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [served("a", gone_after=1), served("b")])
    _, outcomes = world.run()
    assert (outcomes["a"].state, outcomes["a"].exit_code) == ("lost", Exit.HOST_FAILED)
    assert outcomes["a"].rollback == (
        f"COULD NOT be brought back to release {O}: a: cannot connect to 10.0.0.9:22: Connection refused\n"
        "once it can be reached, `provision rollback FLEET --hosts a`, or `provision FLEET` for the new release"
    )


def test_a_release_that_fails_again_is_told_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [served("a", refuses={O, N})])
    _, outcomes = world.run()
    assert outcomes["a"].state == "lost"
    assert outcomes["a"].rollback.startswith(f"COULD NOT be brought back to release {O}: slo: too slow\n")


def test_all_go_back_also_those_of_earlier_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [served("a"), served("b", refuses={N}), served("c")], batches=[1], rollback="all")
    _, outcomes = world.run()
    assert [one.state for one in outcomes.values()] == ["rolled_back", "rolled_back", "unchanged"]
    assert {(host.serves, host.current) for host in world.hosts.values()} == {(O, O)}


def test_a_mended_host_has_nothing_else_to_go_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    host = MemoryHost("a", refuses={N})
    host.keep(NEW)
    host.serves = None  # stopped by hand
    world = World(monkeypatch, [host])
    _, outcomes = world.run()
    assert (outcomes["a"].state, outcomes["a"].rollback, host.commands) == ("failed", "", [])


def test_a_run_that_was_cut_off_before_the_gate_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    done, cut = served("a"), served("b")
    done.keep(NEW)
    cut.serves = N  # applied and proven, not accepted
    world = World(monkeypatch, [done, cut, served("c")], batches=[1])
    world.run()
    assert world.told() == [
        "started: b c",
        "wave: batch 1: b",
        "promoted: batch 1: b",
        "wave: batch 2: c",
        "promoted: batch 2: c",
        "finished",
    ]
    assert done.changes == 0
    assert {host.current for host in world.hosts.values()} == {N}


def test_a_release_that_cannot_be_kept_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise ProvisionError("no space left")

    monkeypatch.setattr(deploy.releases, "accept", full)
    course, outcomes = World(monkeypatch, [served("a"), served("b")]).run()
    assert course.reason == "its gate failed: a"
    assert outcomes["a"].message == "it passed, but its release could not be kept: no space left"
    assert (outcomes["a"].state, outcomes["a"].exit_code) == ("failed", Exit.HOST_FAILED)


def test_a_pause_and_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "LOOK_EVERY_S", 0.01)
    world = World(monkeypatch, [served("a"), served("b")], approve="canary", pause_s=1)
    world.answer = "not approved"
    course, outcomes = world.run()
    assert world.told()[3:] == [
        "paused: canary: 1 s before batch 1",
        "asked: canary: b: whether batch 1 may begin",
        "refused: canary: b: not approved",
        "aborted: canary: not approved",
    ]
    assert (course.reason, outcomes["b"].pending, world.hosts["a"].current) == ("not approved", True, N)


def test_a_wave_that_would_not_be_over_in_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not begin, and nobody is asked whether it may."""
    world = World(monkeypatch, [served("a"), served("b")], approve="canary")
    asked: list[tuple[Sequence[str], Sequence[str]]] = []

    def too_late(hosts: Sequence[str], changed: Sequence[str]) -> str | None:
        asked.append((hosts, changed))
        return "too late"

    options = replace(world.options(), too_late=too_late)
    rollout = Rollout(world.survey(), world.connections(), Path("/runs/r-1"), options, world.hands())
    course, outcomes = rollout.run()
    assert (course.reason, asked) == ("batch 1 did not begin: too late", [(("b",), ("a",))])
    assert world.told()[-1] == "aborted: canary: batch 1 did not begin: too late"
    assert (world.hosts["a"].current, {one.host: one.pending for one in outcomes}["b"]) == (N, True)


def test_an_approval_that_comes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked may take longer than the window is open."""
    world = World(monkeypatch, [served("a"), served("b")], approve="canary")
    answers = iter([None, "too late"])
    options = replace(world.options(), too_late=lambda *_: next(answers))
    course, _ = Rollout(world.survey(), world.connections(), Path("/runs/r-1"), options, world.hands()).run()
    assert course.reason == "batch 1 did not begin: too late"
    assert world.told()[-2:] == ["approved: canary: b", "aborted: canary: batch 1 did not begin: too late"]
    assert world.hosts["b"].current == O


def test_an_interruption_in_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, [served("a"), served("b")], pause_s=3600)
    steps = world.steps

    class Stops(list[Step]):
        def append(self, step: Step) -> None:
            steps.append(step)
            world.interrupted = step.kind == "paused"

    hands = replace(world.hands(), on_step=Stops().append)
    course, _ = Rollout(world.survey(), world.connections(), Path("/runs/r-1"), world.options(), hands).run()
    assert course.interrupted
    assert world.told()[-1] == "interrupted: canary: interrupted"


@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_killed_at_every_moment_and_run_again(monkeypatch: pytest.MonkeyPatch, bad: bool) -> None:
    """The end is that of a rollout that nobody disturbed, wherever it was killed, and then killed again."""

    def hosts() -> list[MemoryHost]:
        return [served("a", refuses={N} if bad else set()), served("b"), MemoryHost("c"), served("d")]

    undisturbed = World(monkeypatch, hosts(), batches=[2])
    undisturbed.run()
    expected = [(host.serves, host.current) for host in undisturbed.hosts.values()]
    assert expected == ([(O, O), (O, O), (None, None), (O, O)] if bad else [(N, N)] * 4)
    moments = 0
    for first in range(1000):
        world = World(monkeypatch, hosts(), batches=[2])
        died = _until_killed(world, first)
        moments += died
        _until_killed(world, first % 7)
        world.lives_for = None
        world.run()
        assert [(host.serves, host.current) for host in world.hosts.values()] == expected, (first, world.told())
        if not died:
            break
    assert moments > (10 if bad else 30)


def _until_killed(world: World, moments: int) -> bool:
    """Whether it was killed before its end."""
    world.lives_for = moments
    try:
        world.run()
    except KilledError:
        return True
    return False


def test_hosts_in_memory_with_random_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails where: who is promoted serves the new release and keeps it, who went back the old one, and
    running again until nothing fails brings all to one plan."""
    for seed in range(int(os.environ.get("PROVISION_ROLLOUT_SEEDS", "200")) // 10):
        _check(monkeypatch, random.Random(seed))  # noqa: S311  repeatable, not secret


def _check(monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
    count, rate = chance.choice([3, 20, 100]), chance.choice([0.0, 0.01, 0.2])
    hosts = [served(f"h{number}") if chance.random() < 0.9 else MemoryHost(f"h{number}") for number in range(count)]
    for host in hosts:
        host.refuses = {N} if chance.random() < rate else set()
        host.gone_after = 1 if chance.random() < rate / 2 else None
    world = World(
        monkeypatch,
        hosts,
        canary=chance.choice(["auto", 0, 1, 3]),
        batches=chance.choice([["100%"], [1, 5], ["10%", "50%"]]),
        max_failures=chance.choice([0, 1, 5]),
        rollback=chance.choice(["wave", "all", "never"]),
    )
    _, outcomes = world.run()
    for host in hosts:
        state = outcomes[host.name].state
        expected = {
            "promoted": (N, N),
            "unchanged": (host.current, host.current),
            "rolled_back": (O, O),
            "stopped": (None, None),
        }
        if state in expected:
            assert (host.serves, host.current) == expected[state], (host, state)
        else:
            assert host.refuses or host.gone_after is not None, (host, state)
        assert host.changes == 0 or state != "unchanged"
    touched = [host for host in hosts if host.changes]
    for host in hosts:
        host.refuses, host.gone_after = set(), None
    assert [one.state for one in world.run()[1].values()].count("promoted") >= len(hosts) - len(touched)
    assert {(host.serves, host.current) for host in hosts} == {(N, N)}
