"""The course of a rollout in a world of numbers: what is touched, what goes back, where it stops."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import pytest

from provisioner.fleet.rollout import Order, Rollout
from provisioner.rollout.course import Course, Deployed, run
from provisioner.rollout.waves import Member, Wave, plan_waves

Back = Literal["rolled_back", "stopped", "lost"]


class World:
    """Hosts that fail as told, and a record of what was done to them."""

    def __init__(self, bad: Mapping[str, Deployed] | None = None, back: Mapping[str, Back] | None = None) -> None:
        self.bad = bad or {}
        self.back = back or {}
        self.done: list[str] = []
        self.answer: str | None = None
        self.accepted: list[str] = []
        self.unkept: set[str] = set()

    def deploy(self, wave: Wave) -> dict[str, Deployed]:
        self.done.append(f"deploy {wave.name}: {' '.join(wave.hosts)}")
        return {host: self.bad.get(host, Deployed(passed=True)) for host in wave.hosts}

    def roll_back(self, hosts: Sequence[str]) -> dict[str, Back]:
        self.done.append(f"roll back: {' '.join(hosts)}")
        return {host: self.back.get(host, "rolled_back") for host in hosts}

    def accept(self, wave: Wave, hosts: Sequence[str]) -> list[str]:
        self.accepted += hosts
        return [host for host in hosts if host in self.unkept]

    def go_on(self, wave: Wave, following: Wave, *, ask: bool) -> str | None:
        self.done.append(f"{'ask' if ask else 'go on'} before {following.name}")
        return self.answer


HOSTS = tuple(f"h{number}" for number in range(1, 7))
FAILED = Deployed(passed=False)


def rolled(world: World, work: Sequence[str] = HOSTS, interrupted: bool = False, **settings: object) -> Course:
    rollout = Rollout.model_validate({"canary": 1, "batches": [2], **settings})
    waves = plan_waves(rollout, [Member(host, "k") for host in HOSTS])
    return run(rollout, waves, work, world, lambda: interrupted)


def test_a_good_release_reaches_all() -> None:
    world = World()
    course = rolled(world)
    assert course.states == dict.fromkeys(HOSTS, "promoted")
    assert (course.stopped_at, course.reason) == (None, "")
    assert world.done == [
        "deploy canary: h1",
        "go on before batch 1",
        "deploy batch 1: h2 h3",
        "go on before batch 2",
        "deploy batch 2: h4 h5",
        "go on before batch 3",
        "deploy batch 3: h6",
    ]


def test_a_bad_release_stops_at_the_canary_which_goes_back() -> None:
    world = World(bad=dict.fromkeys(HOSTS, FAILED))
    course = rolled(world)
    assert world.done == ["deploy canary: h1", "roll back: h1"]
    assert course.states == {"h1": "rolled_back"} | dict.fromkeys(HOSTS[1:], "unchanged")
    assert (course.stopped_at, course.reason) == ("canary", "its gate failed: h1")


@pytest.mark.parametrize(
    ("rollback", "back"), [("wave", "h2 h3"), ("all", "h1 h2 h3"), ("never", None)], ids=["wave", "all", "never"]
)
def test_what_goes_back(rollback: str, back: str | None) -> None:
    world = World(bad={"h3": FAILED})
    course = rolled(world, rollback=rollback)
    assert ([f"roll back: {back}"] if back else []) == [done for done in world.done if done.startswith("roll")]
    assert course.states["h3"] == ("failed" if back is None else "rolled_back")
    assert course.states["h1"] == ("rolled_back" if rollback == "all" else "promoted")
    assert {course.states[host] for host in ("h4", "h5", "h6")} == {"unchanged"}


def test_failures_that_are_allowed_go_back_alone() -> None:
    world = World(bad={"h3": FAILED, "h6": FAILED})
    course = rolled(world, max_failures=1)
    assert [done for done in world.done if done.startswith("roll")] == ["roll back: h3", "roll back: h6"]
    assert course.states["h2"] == "promoted"
    assert course.reason == "its gate failed: h6; 2 failures, 1 allowed"


def test_a_host_that_failed_untouched_does_not_go_back() -> None:
    world = World(bad={"h3": Deployed(passed=False, touched=False)})
    course = rolled(world)
    assert [done for done in world.done if done.startswith("roll")] == ["roll back: h2"]
    assert course.states["h3"] == "failed"


def test_without_a_previous_release_a_host_is_stopped_and_one_that_is_gone_is_lost() -> None:
    course = rolled(World(bad={"h2": FAILED, "h3": FAILED}, back={"h2": "stopped", "h3": "lost"}))
    assert (course.states["h2"], course.states["h3"]) == ("stopped", "lost")


def test_who_passed_with_its_wave_is_accepted_and_nobody_else() -> None:
    world = World(bad={"h3": FAILED})
    rolled(world)
    assert world.accepted == ["h1"]
    never = World(bad={"h3": FAILED})
    rolled(never, rollback="never")
    assert never.accepted == ["h1", "h2"]


def test_who_passed_and_has_nothing_to_go_back_to_goes_on_serving() -> None:
    world = World(bad={"h2": Deployed(passed=True, returns=False), "h3": FAILED})
    course = rolled(world)
    assert [done for done in world.done if done.startswith("roll")] == ["roll back: h3"]
    assert (course.states["h2"], world.accepted) == ("promoted", ["h1", "h2"])


def test_a_release_that_a_host_cannot_keep_counts_as_a_failure() -> None:
    world = World()
    world.unkept = {"h2"}
    course = rolled(world)
    assert (course.states["h2"], course.states["h3"], course.states["h4"]) == ("failed", "promoted", "unchanged")
    assert course.reason == "its gate failed: h2"


def test_interrupted_hosts_are_left_as_they_are() -> None:
    world = World(bad={"h2": Deployed(passed=False, interrupted=True)})
    course = rolled(world)
    assert not [done for done in world.done if done.startswith("roll")]
    assert (course.states["h2"], course.states["h3"], course.states["h4"]) == ("interrupted", "promoted", "unchanged")
    assert rolled(World(), interrupted=True).states == dict.fromkeys(HOSTS, "unchanged")


def test_hosts_without_work_are_not_touched_and_a_rollout_goes_on_where_it_was() -> None:
    world = World()
    rolled(world, work=("h3", "h5"))
    assert world.done == ["deploy batch 1: h3", "go on before batch 2", "deploy batch 2: h5"]


def test_asking_for_approval_and_being_refused() -> None:
    world = World()
    world.answer = "not approved"
    course = rolled(world, approve="canary")
    assert world.done == ["deploy canary: h1", "ask before batch 1"]
    assert (course.stopped_at, course.reason) == ("canary", "not approved")
    assert course.states["h1"] == "promoted"


def test_a_thousand_hosts_through_waves_with_random_failures() -> None:
    """Never more hosts touched after the failure too many than the rest of its wave."""
    for seed in range(int(os.environ.get("PROVISION_ROLLOUT_SEEDS", "200"))):
        _check(random.Random(seed))  # noqa: S311  repeatable, not secret


def _check(chance: random.Random) -> None:
    hosts = [f"h{number}" for number in range(1000)]
    rollout = Rollout(
        canary=chance.choice(["auto", 0, 1, 5]),
        batches=chance.choice([("100%",), ("1%", "10%", "50%"), (7,), (50, 200)]),
        max_failures=chance.choice([0, 0, 1, 5]),
        rollback=chance.choice(["wave", "all", "never"]),
        order=chance.choice(get_args(Order)),
    )
    rate = chance.choice([0.0, 0.0005, 0.005, 0.1])
    bad = {host: Deployed(passed=False, touched=chance.random() < 0.8) for host in hosts if chance.random() < rate}
    world = World(bad, {host: chance.choice(["rolled_back", "stopped", "lost"]) for host in bad})
    waves = plan_waves(rollout, [Member(host, chance.choice("abc")) for host in hosts])
    work = [host for host in hosts if chance.random() < 0.9]
    course = run(rollout, waves, work, world, lambda: False)

    assert sorted(course.states) == sorted(hosts)
    assert len(set(course.deployed)) == len(course.deployed)
    failed = [number for number, host in enumerate(course.deployed) if host in bad]
    largest = max(len(wave.hosts) for wave in waves)
    if len(failed) > rollout.max_failures:
        assert course.stopped_at is not None
        assert len(course.deployed) - failed[rollout.max_failures] <= largest
    else:
        assert course.stopped_at is None
        assert course.deployed == [host for wave in waves for host in wave.hosts if host in set(work)]
    never_reached = set(hosts) - set(course.deployed)
    assert all(course.states[host] == "unchanged" for host in never_reached)
    for host in course.deployed:
        if host in bad and rollout.rollback != "never" and bad[host].touched:
            assert course.states[host] == world.back[host]
        elif host in bad:
            assert course.states[host] == "failed"
        else:
            assert course.states[host] in ("promoted", "rolled_back")
    promoted = {host for host in hosts if course.states[host] == "promoted"}
    assert promoted <= set(world.accepted) <= set(course.deployed) - set(bad)
    assert rollout.rollback == "all" or promoted == set(world.accepted)
