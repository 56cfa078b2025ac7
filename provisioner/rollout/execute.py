"""Doing what the survey found to do: apply, look again, validate. Phases are plain functions, called in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from provisioner.apply.places import Place
from provisioner.apply.runner import HostResult, Strategy, apply
from provisioner.errors import Exit, HostError, ProvisionError, UnreachableError
from provisioner.history.events import Event, OnEvent
from provisioner.history.verdict import ServerVerdict
from provisioner.hosts.probe import probe
from provisioner.plan.bundle import bundle_variables
from provisioner.plan.diff import server_fingerprint
from provisioner.plan.model import HostPlan, Server
from provisioner.plan.proof import Proof
from provisioner.plan.release import release_id
from provisioner.plan.roles import roles_to_run
from provisioner.rollout.connections import Connections
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.proofs import remove_proof, write_proof
from provisioner.rollout.sending import bring, clear
from provisioner.rollout.sharing import sharing
from provisioner.rollout.survey import HostSurvey, Survey, look_again, request_for
from provisioner.validate.validate import Depth, Pace, SpeedGate, ungated, validate_host

MAX_WORKERS = 32
"""validations side by side on the control machine; each only waits on its host"""


@dataclass(frozen=True)
class Options:
    """How a run is carried out."""

    strategy: Strategy = "mitogen_free"
    depth: Depth = "benchmark"
    interrupted: Callable[[], bool] = lambda: False
    on_verdict: Callable[[HostSurvey, Server, ServerVerdict], None] = lambda _seen, _server, _verdict: None
    """told as soon as a server has one, from the thread of its host"""
    speed_gate: SpeedGate = ungated
    """compares each benchmark with others"""
    on_promoted: Callable[[Sequence[HostOutcome]], None] = lambda _outcomes: None
    """told of the hosts whose wave has passed, as soon as their release is kept"""
    too_late: Callable[[Sequence[str], Sequence[str]], str | None] = lambda _hosts, _changed: None
    """why a wave of these hosts must not begin any more, after those that the run has changed; None where it may"""
    pace: Pace = lambda _plan, _server, _image: None
    """how fast a host is known to be: sizes benchmarks that have a time budget"""
    results: str = "benchmarks"
    """folder of the run for what benchmarks tell"""
    place: Place | None = None
    """where Ansible runs; on this machine where it is None"""


def execute(
    survey: Survey,
    connections: Connections,
    run_dir: Path,
    *,
    on_event: OnEvent,
    options: Options,
    part: str = "",
) -> tuple[HostOutcome, ...]:
    """Applies and validates every fit host that needs it. Unfit hosts are not touched. Outcomes in the fleet's order.

    A host is validated as soon as it is applied, while others are still at work: none waits for another. What Ansible
    leaves lies in the folder `part` of the run, which is fresh.
    """
    with _Validations(survey, connections, run_dir, on_event, options) as validations:
        lost, results = _apply(survey, connections, run_dir / part, on_event, options, validations.start)
        outcomes = {seen.host.name: _outcome_before(seen, lost, results) for seen in survey.hosts}
        for seen in survey.work:
            if outcomes[seen.host.name].exit_code == Exit.OK:
                validations.start(seen.host.name)
        for name, found in validations.results():
            outcomes[name] = replace(found, changed=outcomes[name].changed, touched=outcomes[name].touched)
    for outcome in outcomes.values():
        # Validation says itself how it ended, and an interrupted host stands where it stood.
        if not outcome.verdicts and outcome.exit_code != Exit.INTERRUPTED:
            on_event(_final_event(outcome))
    return tuple(outcomes[seen.host.name] for seen in survey.hosts)


class _Validations:
    """Hosts being validated, each once and side by side."""

    def __init__(
        self, survey: Survey, connections: Connections, run_dir: Path, on_event: OnEvent, options: Options
    ) -> None:
        self._seen = {seen.host.name: seen for seen in survey.work}
        self._survey, self._connections, self._run_dir = survey, connections, run_dir
        self._on_event, self._options = on_event, options
        self._pool = ThreadPoolExecutor(max_workers=min(MAX_WORKERS, max(1, len(self._seen))))
        self._futures: dict[str, Future[HostOutcome]] = {}

    def __enter__(self) -> _Validations:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, name: str) -> None:
        """Validates the host, unless it is being validated or the run was interrupted."""
        if name not in self._futures:
            self._futures[name] = self._pool.submit(self._validate, self._seen[name])

    def results(self) -> Iterator[tuple[str, HostOutcome]]:
        """Every host that was started, as it ends."""
        names = {future: name for name, future in self._futures.items()}
        for future in as_completed(names):
            yield names[future], future.result()

    def _validate(self, seen: HostSurvey) -> HostOutcome:
        before = HostOutcome(seen.host.name, Exit.OK)
        if self._options.interrupted():
            return replace(before, exit_code=Exit.INTERRUPTED, message="interrupted before validation")
        try:
            return _validate(
                self._survey, seen, self._connections, self._run_dir, self._on_event, self._options, before
            )
        except ProvisionError as error:
            return replace(before, exit_code=Exit(error.exit_code), message=_words(error))


def _apply(
    survey: Survey,
    connections: Connections,
    folder: Path,
    on_event: OnEvent,
    options: Options,
    on_applied: Callable[[str], None],
) -> tuple[dict[str, HostResult], dict[str, HostResult]]:
    """Hosts that were gone before anything was changed, and what Ansible made of the others."""
    lost = _send_all(survey, connections, on_event)
    todo = [seen for seen in survey.work if seen.plan and seen.changes and seen.host.name not in lost]
    lost |= _remove_proofs(todo, connections)
    plans: list[HostPlan] = [seen.plan for seen in todo if seen.plan and seen.host.name not in lost]
    if not plans:
        return lost, {}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with sharing(survey, connections, on_event) as shared:
        results = apply(
            folder,
            survey.fleet,
            plans,
            survey.secrets,
            on_event=shared.watched(on_event),
            interrupted=options.interrupted,
            strategy=options.strategy,
            more=shared.variables()
            | {
                seen.plan.host: bundle_variables(seen.plan, seen.bundled)
                for seen in survey.work
                if seen.plan and seen.bundled
            },
            roles=roles_to_run(seen.changes for seen in survey.work if seen.changes),
            on_applied=on_applied,
            place=options.place,
        )
    return lost, {result.host: result for result in results}


def _remove_proofs(todo: Sequence[HostSurvey], connections: Connections) -> dict[str, HostResult]:
    """From the first change on the old proofs say nothing about what runs. The hosts that are gone since the survey:
    no reason to hold up the others.
    """

    def remove_one(seen: HostSurvey) -> HostResult | None:
        try:
            for server in seen.plan.servers if seen.plan else ():
                remove_proof(connections.connect(seen.host), server.name)
        except ProvisionError as error:
            return _lost(seen.host.name, error)
        return None

    if not todo:
        return {}
    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, len(todo))) as pool:
        return {result.host: result for result in pool.map(remove_one, todo) if result}


def _send_all(survey: Survey, connections: Connections, on_event: OnEvent) -> dict[str, HostResult]:
    """Brings each host what it gets from the bundle; the hosts that could not be brought it."""
    folder = survey.bundle
    todo = [seen for seen in survey.work if seen.changes and seen.bundled]
    if folder is None or not todo:
        return {}

    def send_one(seen: HostSurvey) -> HostResult | None:
        def say(words: str) -> None:
            on_event(Event(host=seen.host.name, phase="apply", task=f"bundle: {words}", status="running"))

        try:
            if seen.bundled:
                bring(connections.connect(seen.host), folder, seen.bundled, say)
        except ProvisionError as error:
            return _lost(seen.host.name, error)
        return None

    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, len(todo))) as pool:
        return {result.host: result for result in pool.map(send_one, todo) if result}


def _lost(host: str, error: ProvisionError) -> HostResult:
    state: Literal["unreachable", "failed"] = "unreachable" if isinstance(error, UnreachableError) else "failed"
    return HostResult(host=host, state=state, changed=0, message=_words(error))


def _words(error: ProvisionError) -> str:
    return "\n".join(filter(None, [str(error), getattr(error, "log", "")]))


def _outcome_before(seen: HostSurvey, lost: Mapping[str, HostResult], results: Mapping[str, HostResult]) -> HostOutcome:
    name = seen.host.name
    if not seen.fit:
        return HostOutcome(name, seen.exit_code, message="; ".join(seen.problems))
    if name in lost:
        return outcome_of(lost[name])
    if name in results:
        return replace(outcome_of(results[name]), touched=True)
    # One that a run left between Ansible and the gate is as planned, and still not its release.
    cut_off = seen.work and seen.plan is not None and seen.release != release_id(seen.plan)
    return HostOutcome(name, Exit.OK, untouched=not seen.work, touched=cut_off)


def outcome_of(result: HostResult) -> HostOutcome:
    """What Ansible made of a host, as an outcome."""
    codes = {
        "ok": Exit.OK,
        "failed": Exit.HOST_FAILED,
        "unreachable": Exit.UNREACHABLE,
        "interrupted": Exit.INTERRUPTED,
    }
    return HostOutcome(result.host, codes[result.state], changed=result.changed, message=result.message)


def _validate(
    survey: Survey,
    seen: HostSurvey,
    connections: Connections,
    run_dir: Path,
    on_event: OnEvent,
    options: Options,
    outcome: HostOutcome,
) -> HostOutcome:
    plan = seen.plan
    if plan is None or seen.facts is None:
        return outcome
    if not seen.changes and not seen.unproven:
        return outcome
    facts = seen.facts
    connections.drop(seen.host)  # it may have died of idleness while Ansible worked
    transport = connections.connect(seen.host)
    if seen.changes:
        facts = probe(transport, request_for(survey.fleet, seen.host, plan))
        left = look_again(seen, facts, survey.secrets).changes
        # A server that is crashing by now is the validation's to explain, with its log.
        wrong = [change for change in (left.changes if left else ()) if change.role != "vllm_server"]
        if seen.bundled and seen.bundled.blobs():
            clear(transport)
        if wrong:
            text = "; ".join(f"{change.subject}: {change.reason}" for change in wrong)
            raise HostError(f"{plan.host}: still not as planned after Ansible succeeded: {text}")
    verdicts = validate_host(
        transport,
        plan,
        survey.secrets,
        on_event=on_event,
        results_dir=run_dir / options.results / plan.host,
        depth=options.depth,
        interrupted=options.interrupted,
        speed_gate=options.speed_gate,
        pace=options.pace,
    )
    for server, verdict in zip(plan.servers, verdicts, strict=True):
        options.on_verdict(seen, server, verdict)
        if verdict.passed and options.depth == "benchmark":
            proof = Proof(
                fingerprint=server_fingerprint(plan, server),
                driver=facts.driver_version,
                image_id=verdict.image.id if verdict.image else None,
            )
            write_proof(transport, server.name, proof, run_dir.name)
    worst = next((verdict for verdict in verdicts if not verdict.passed), None)
    if worst is None:
        return replace(outcome, verdicts=verdicts)
    reasons = [reason for verdict in verdicts for reason in verdict.reasons]
    message = "\n".join(filter(None, [*reasons, *_exchanges(worst), worst.log]))
    return replace(outcome, verdicts=verdicts, exit_code=Exit(worst.exit_code), message=message)


def _exchanges(verdict: ServerVerdict) -> list[str]:
    """What was asked and what came back, of every check that failed."""
    failed = [check for check in verdict.checks if not check.passed and check.request]
    return [line for check in failed for line in (f"{check.name}: asked {check.request}", f"  answer: {check.answer}")]


def _final_event(outcome: HostOutcome) -> Event:
    if outcome.exit_code != Exit.OK:
        return Event(host=outcome.host, phase="failed", status="failed", detail=outcome.message)
    task = "nothing to do" if outcome.untouched else "served and validated"
    return Event(host=outcome.host, phase="done", status="ok", task=task)
