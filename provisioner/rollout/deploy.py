"""What a rollout does to real hosts: the actions of its course, and the record of every step before and after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from provisioner.errors import Exit, ProvisionError
from provisioner.history.events import OnEvent
from provisioner.history.steps import OnStep, Step
from provisioner.plan.release import release_id
from provisioner.rollout import releases
from provisioner.rollout.connections import Connections
from provisioner.rollout.course import Course, Deployed, run
from provisioner.rollout.execute import MAX_WORKERS, Options, execute
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.rollback import FOLDER, roll_back
from provisioner.rollout.state import Returned
from provisioner.rollout.survey import HostSurvey, Survey
from provisioner.rollout.waves import Wave, waves_of

LOOK_EVERY_S = 0.2
"""how often a pause looks whether it was interrupted"""


@dataclass(frozen=True)
class Hands:
    """What a rollout needs of whoever starts it."""

    shown: Callable[[Sequence[str]], AbstractContextManager[OnEvent]]
    """shows and records what happens to these hosts"""
    on_step: OnStep
    approve: Callable[[Wave, Wave], str | None]
    """asks whether to go on after the first with the second; None when so, else why not"""
    hide: Callable[[Sequence[str]], None]
    """is told secrets that turn up on the way"""
    environment: Mapping[str, str] | None = None
    """where `env:` references look"""


@dataclass
class Rollout:
    """A rollout and its end."""

    survey: Survey
    connections: Connections
    run_dir: Path
    options: Options
    hands: Hands
    outcomes: dict[str, HostOutcome] = field(default_factory=dict)
    _by_name: dict[str, HostSurvey] = field(init=False)
    _waves: int = 0
    _rollbacks: int = 0

    def __post_init__(self) -> None:
        self._by_name = {seen.host.name: seen for seen in self.survey.hosts}

    def run(self) -> tuple[Course, tuple[HostOutcome, ...]]:
        """Wave after wave; how it went, and what became of every host, in the fleet's order."""
        work = [seen.host.name for seen in self.survey.work]
        self._step("started", hosts=work)
        course = run(self.survey.fleet.rollout, waves_of(self.survey), work, self, self.options.interrupted)
        if course.reason == "":
            self._step("finished")
        elif course.interrupted:
            self._step("interrupted", course.stopped_at or "", detail=course.reason)
        else:
            self._step("aborted", course.stopped_at or "", detail=course.reason)
        return course, tuple(self._final(seen.host.name, course) for seen in self.survey.hosts)

    def deploy(self, wave: Wave) -> Mapping[str, Deployed]:
        self._step("wave", wave.name, wave.hosts)
        for host in wave.hosts if self._waves else ():
            self.connections.drop(self._seen(host).host)  # it may have died of idleness while others had their turn
        self._waves += 1
        part = replace(self.survey, hosts=tuple(map(self._seen, wave.hosts)))
        with self.hands.shown(wave.hosts) as on_event:
            found = execute(
                part,
                self.connections,
                self.run_dir,
                on_event=on_event,
                options=self.options,
                part="" if self._waves == 1 else f"wave-{self._waves}",
            )
        self.outcomes |= {one.host: one for one in found}
        failed = [one.host for one in found if one.exit_code not in (Exit.OK, Exit.INTERRUPTED)]
        if failed:
            reasons = "; ".join(f"{host}: {self.outcomes[host].message.partition(chr(10))[0]}" for host in failed)
            self._step("failed", wave.name, failed, reasons)
        return {one.host: self._deployed(one) for one in found}

    def roll_back(self, hosts: Sequence[str]) -> Mapping[str, Returned]:
        self._step("rolling_back", hosts=hosts)
        self._rollbacks += 1
        before = {seen.host.name: seen.release for seen in self.survey.hosts}
        with self.hands.shown(hosts) as on_event:
            backs = roll_back(
                self.survey,
                {host: before[host] for host in hosts},
                self.connections,
                self.run_dir,
                on_event=on_event,
                options=self.options,
                environment=self.hands.environment,
                hide=self.hands.hide,
                part=FOLDER if self._rollbacks == 1 else f"{FOLDER}-{self._rollbacks}",
            )
        for back in backs:
            self.outcomes[back.host] = replace(self.outcomes[back.host], rollback=back.message)
            if back.state == "interrupted":
                self._step("interrupted", hosts=[back.host], detail=back.message)
            else:
                self._step(back.state, hosts=[back.host], detail=back.message)
        return {back.host: back.state for back in backs}

    def accept(self, wave: Wave, hosts: Sequence[str]) -> Sequence[str]:
        with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, max(1, len(hosts)))) as pool:
            unkept = [host for host, kept in zip(hosts, pool.map(self._accepted, hosts), strict=True) if not kept]
        promoted = [host for host in hosts if host not in unkept]
        if promoted:
            # Before whoever is told of the wave takes their time: what passed is not lost with a run that is killed.
            self.options.on_promoted([self.outcomes[host] for host in promoted])
            self._step("promoted", wave.name, promoted)
        return unkept

    def go_on(self, wave: Wave, following: Wave, *, ask: bool) -> str | None:
        seconds = self.survey.fleet.rollout.pause_s
        if seconds:
            self._step("paused", wave.name, detail=f"{seconds} s before {following.name}")
            end = time.monotonic() + seconds
            while time.monotonic() < end and not self.options.interrupted():
                time.sleep(LOOK_EVERY_S)
        if self.options.interrupted():
            return "interrupted"
        late = self._late(following)
        if late or not ask:
            return late
        self._step("asked", wave.name, following.hosts, f"whether {following.name} may begin")
        refused = self.hands.approve(wave, following)
        self._step("refused" if refused else "approved", wave.name, following.hosts, refused or "")
        return refused or self._late(following)  # whoever was asked may have taken their time

    def _late(self, following: Wave) -> str | None:
        late = self.options.too_late(following.hosts, tuple(self.outcomes))
        return f"{following.name} did not begin: {late}" if late else None

    def _deployed(self, one: HostOutcome) -> Deployed:
        seen = self._seen(one.host)
        # One that was mended has no other release to go back to.
        other = seen.plan is not None and seen.release != release_id(seen.plan)
        return Deployed(
            passed=one.exit_code == Exit.OK,
            touched=one.touched and other,
            returns=seen.release is not None,
            interrupted=one.exit_code == Exit.INTERRUPTED,
        )

    def _seen(self, name: str) -> HostSurvey:
        return self._by_name[name]

    def _accepted(self, name: str) -> bool:
        seen = self._seen(name)
        if seen.plan is None:
            return True
        self.connections.drop(seen.host)  # it may have waited long for the others of its wave
        try:
            releases.accept(self.connections.connect(seen.host), seen.plan, self.run_dir.name)
        except ProvisionError as error:
            message = f"it passed, but its release could not be kept: {error}"
            before = self.outcomes[name]
            self.outcomes[name] = replace(before, exit_code=Exit(error.exit_code), message=message)
            return False
        return True

    def _final(self, name: str, course: Course) -> HostOutcome:
        state = course.states[name]
        if name in self.outcomes:
            outcome = self.outcomes[name]
            # One that is lost is worse than any verdict.
            return replace(outcome, state=state, exit_code=Exit.HOST_FAILED if state == "lost" else outcome.exit_code)
        seen = self._seen(name)
        if not seen.fit:
            return HostOutcome(name, seen.exit_code, message="; ".join(seen.problems))
        return HostOutcome(name, Exit.OK, untouched=True, pending=seen.work)

    def _step(self, kind: str, wave: str = "", hosts: Sequence[str] = (), detail: str = "") -> None:
        self.hands.on_step(Step.model_validate({"kind": kind, "wave": wave, "hosts": tuple(hosts), "detail": detail}))
