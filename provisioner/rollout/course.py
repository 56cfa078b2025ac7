"""The course of a rollout: wave after wave, each behind a gate; on a failed gate back to the previous releases.

It decides and nothing else: what deploying, going back, asking and waiting mean is in the `Actions` it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from provisioner.fleet.rollout import Rollout
from provisioner.rollout.state import Returned, State
from provisioner.rollout.waves import CANARY, Wave


@dataclass(frozen=True)
class Deployed:
    """What became of a host that was given the new release."""

    passed: bool
    touched: bool = True
    """False: it failed before anything was changed on it, or what it has is its release already"""
    returns: bool = True
    """it has a previous release to go back to"""
    interrupted: bool = False


class Actions(Protocol):
    """What a rollout does to the world."""

    def deploy(self, wave: Wave) -> Mapping[str, Deployed]:
        """Gives every host of the wave the new release and validates it; an answer for each of them."""

    def roll_back(self, hosts: Sequence[str]) -> Mapping[str, Returned]:
        """Brings hosts back to their previous releases; an answer for each of them."""

    def accept(self, wave: Wave, hosts: Sequence[str]) -> Sequence[str]:
        """Makes the plans of hosts that passed with their wave their releases; those that could not keep it."""

    def go_on(self, wave: Wave, following: Wave, *, ask: bool) -> str | None:
        """Waits out the pause before `following` and asks for approval where `ask`; None to go on, else why not."""


@dataclass
class Course:
    """How a rollout went."""

    states: dict[str, State]
    """every host of the rollout, in exactly one state"""
    stopped_at: str | None = None
    """the wave whose gate failed, or after which it was stopped"""
    reason: str = ""
    """why it was stopped; empty when it was not"""
    interrupted: bool = False
    """it was stopped because whoever started it wanted so"""
    deployed: list[str] = field(default_factory=list)
    """hosts in the order of their waves, as far as their turn came"""


def run(
    rollout: Rollout, waves: Sequence[Wave], work: Sequence[str], actions: Actions, interrupted: Callable[[], bool]
) -> Course:
    """Takes every host of `work` through its wave. Hosts without work count as promoted already and are not touched."""
    todo = set(work)
    course = Course({host: "unchanged" for wave in waves for host in wave.hosts})
    turns = [Wave(wave.name, tuple(host for host in wave.hosts if host in todo)) for wave in waves]
    turns = [wave for wave in turns if wave.hosts]
    failures, seen = 0, dict[str, Deployed]()
    for number, wave in enumerate(turns):
        if interrupted():
            return _stop(course, wave, "interrupted before it began", interrupted=True)
        results = actions.deploy(wave)
        course.deployed += wave.hosts
        for host in wave.hosts:
            course.states[host] = _state(results[host])
        if any(result.interrupted for result in results.values()):
            return _stop(course, wave, "interrupted", interrupted=True)
        failed = [host for host in wave.hosts if not results[host].passed]
        failures += len(failed)
        aborted = failures > rollout.max_failures
        seen |= results
        _roll_back(course, actions, _going_back(rollout, course, wave, failed, seen, aborted))
        unkept = actions.accept(wave, [host for host in wave.hosts if course.states[host] == "promoted"])
        course.states |= dict.fromkeys(unkept, "failed")
        if aborted or failures + len(unkept) > rollout.max_failures:
            return _stop(course, wave, _reason([*failed, *unkept], failures + len(unkept), rollout.max_failures))
        failures += len(unkept)
        following = turns[number + 1] if number + 1 < len(turns) else None
        if following is not None:
            refused = actions.go_on(wave, following, ask=asks(rollout, wave))
            if refused is not None:
                return _stop(course, wave, refused, interrupted=interrupted())
    return course


def _state(result: Deployed) -> State:
    if result.interrupted:
        return "interrupted"
    return "promoted" if result.passed else "failed"


def _going_back(
    rollout: Rollout,
    course: Course,
    wave: Wave,
    failed: Sequence[str],
    seen: Mapping[str, Deployed],
    aborted: bool,
) -> list[str]:
    """Touched hosts that get their previous release: the failed ones, and with a failed gate more of them.

    One that passed and has nothing to go back to goes on serving: the first installation of a fleet is not undone
    because one of its hosts failed.
    """
    if rollout.rollback == "never":
        return []
    if not aborted:
        candidates: Sequence[str] = failed
    elif rollout.rollback == "wave":
        candidates = wave.hosts
    else:
        # The failed ones of earlier waves have their previous release already.
        candidates = [host for host in course.deployed if course.states[host] == "promoted" or host in failed]
    return [host for host in candidates if seen[host].touched and (host in failed or seen[host].returns)]


def _roll_back(course: Course, actions: Actions, hosts: Sequence[str]) -> None:
    if not hosts:
        return
    for host, state in actions.roll_back(hosts).items():
        course.states[host] = state


def asks(rollout: Rollout, wave: Wave) -> bool:
    """Whether somebody must say yes after this wave."""
    return rollout.approve == "every_wave" or (rollout.approve == "canary" and wave.name == CANARY)


def _reason(failed: Sequence[str], failures: int, allowed: int) -> str:
    names = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
    beyond = f"; {failures} failures, {allowed} allowed" if allowed else ""
    return f"its gate failed: {names}{beyond}"


def _stop(course: Course, wave: Wave, reason: str, *, interrupted: bool = False) -> Course:
    course.stopped_at, course.reason, course.interrupted = wave.name, reason, interrupted
    return course
