"""Proving what was applied: every server of a host is healthy, answers, and does what it should under load."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from provisioner.errors import Exit, GateError, ProvisionError, UsageError
from provisioner.history.events import Event, OnEvent, Phase, Status
from provisioner.history.redact import redact
from provisioner.history.verdict import BenchmarkResult, CheckResult, ImageSeen, ServerVerdict
from provisioner.hosts.transport import Transport
from provisioner.plan.model import Benchmark, HostPlan, Server
from provisioner.validate.answers import Answers, check_answers
from provisioner.validate.api import url
from provisioner.validate.health import wait_healthy
from provisioner.validate.interrupt import Interrupted, stop_if
from provisioner.validate.measure import Measured, measure
from provisioner.validate.remote import image_seen, last_log
from provisioner.validate.results import benchmark_gates, objective_gates

Depth = Literal["smoke", "benchmark"]
Again = Callable[[str], BenchmarkResult]
"""measures once more; the text says why, for people who watch"""
PROGRESS_EVERY_S = 1.0
"""between two events that only say how far something is"""


class Judged(NamedTuple):
    """What a gate says of a benchmark."""

    result: BenchmarkResult
    """the one that stands for the server, where several were made"""
    checks: tuple[CheckResult, ...]


SpeedGate = Callable[[HostPlan, Server, ImageSeen | None, BenchmarkResult, Again], Judged]
"""compares a benchmark with others"""
Pace = Callable[[HostPlan, Server, ImageSeen | None], float | None]
"""requests/s that the benchmark of a server has had on its host; None where nobody knows"""


def ungated(
    _plan: HostPlan, _server: Server, _image: ImageSeen | None, result: BenchmarkResult, _again: Again
) -> Judged:
    """Where there is nothing to compare with."""
    return Judged(result, ())


def validate_host(
    transport: Transport,
    plan: HostPlan,
    secrets: Mapping[str, str],
    *,
    on_event: OnEvent,
    results_dir: Path,
    depth: Depth = "benchmark",
    interrupted: Interrupted = lambda: False,
    speed_gate: SpeedGate = ungated,
    pace: Pace = lambda _plan, _server, _image: None,
) -> tuple[ServerVerdict, ...]:
    """A verdict for every server of the host, one after the other: they may share its GPUs.

    `secrets` are the resolved values by reference. Benchmark JSONs go to `results_dir`/<host>_<server>.json. What
    goes wrong with a server is in its verdict, never raised. Ends with an event of phase `done` or `failed`, unless
    it was interrupted: then the host stands where it stood.
    """
    verdicts = tuple(
        _Validation(transport, plan, server, secrets, on_event, results_dir, interrupted, speed_gate, pace).run(depth)
        for server in plan.servers
    )
    failed = [verdict.server for verdict in verdicts if not verdict.passed]
    if any(verdict.exit_code == Exit.INTERRUPTED for verdict in verdicts):
        return verdicts
    if failed:
        on_event(Event(host=plan.host, phase="failed", task=f"not validated: {', '.join(failed)}", status="failed"))
    else:
        on_event(Event(host=plan.host, phase="done", task=_summary(verdicts), status="ok"))
    return verdicts


class _Validation:
    """The validation of one server; what is known so far goes into the verdict, however it ends."""

    def __init__(
        self,
        transport: Transport,
        plan: HostPlan,
        server: Server,
        secrets: Mapping[str, str],
        on_event: OnEvent,
        results_dir: Path,
        interrupted: Interrupted,
        speed_gate: SpeedGate,
        pace: Pace,
    ) -> None:
        self._transport = transport
        self._plan = plan
        self._server = server
        self._secrets = secrets
        self._on_event = on_event
        self._results_dir = results_dir
        self._interrupted = interrupted
        self._speed_gate = speed_gate
        self._pace = pace
        self._measured: list[Measured] = []
        self._known: dict[str, Any] = {}
        self._checks: list[CheckResult] = []
        self._phase: Phase = "health"
        self._told_at = 0.0

    def run(self, depth: Depth) -> ServerVerdict:
        try:
            self._health()
            self._answers()
            if depth == "benchmark":
                self._benchmark()
        except ProvisionError as error:
            reason = redact(str(error), self._secrets.values())
            interrupted = error.exit_code == Exit.INTERRUPTED
            self._event("skipped" if interrupted else "failed", "", detail=reason)
            return self._verdict((reason,), error.exit_code, log=self._log(error))
        return self._verdict((), Exit.OK)

    def _health(self) -> None:
        self._start("health", "waiting for /health")
        healthy = wait_healthy(
            self._transport,
            self._server,
            on_progress=self._progress,
            secrets=self._secrets.values(),
            interrupted=self._interrupted,
        )
        self._known["health_s"] = healthy.seconds
        self._known["image"] = image_seen(self._transport, self._server.container, self._server.image)
        self._event("ok", f"healthy after {healthy.seconds:.1f} s")

    def _answers(self) -> None:
        self._start("answers", "asking")
        answers = check_answers(
            self._transport,
            self._server,
            api_key=self._api_key(),
            secrets=self._secrets.values(),
            on_progress=self._progress,
        )
        self._known["chat_answer"] = answers.chat
        self._known["version"] = answers.version
        self._judge(answers.checks)
        self._event("ok", _counted(answers))

    def _benchmark(self) -> None:
        self._start("benchmark", _size(self._server.benchmark))
        start = time.monotonic()
        judged = self._speed_gate(
            self._plan, self._server, self._known["image"], self._measure("the benchmark"), self._measure
        )
        chosen = next(one for one in self._measured if one.result is judged.result)
        self._known |= {"benchmark": chosen.result, "evidence": chosen.evidence}
        objectives = objective_gates(chosen.result, self._server.slo, self._server.gpu_count)
        self._judge((*objectives, *judged.checks))
        said = "; ".join(check.detail for check in judged.checks)
        self._event("ok", f"{_speed(chosen.result)} in {time.monotonic() - start:.0f} s", detail=said)

    def _measure(self, why: str) -> BenchmarkResult:
        """One benchmark, kept and found to be sound. Every one after the first is as long as the first."""
        stop_if(self._interrupted)
        number = len(self._measured) + 1
        more, server = "", self._server
        if number > 1:
            self._event("running", why)
            more, server = f".{number}", server.model_copy(update={"benchmark": self._measured[0].benchmark})
        measured = measure(
            self._transport,
            server,
            cache_dir=self._plan.cache_dir,
            image=self._known["image"],
            save_to=self._results_dir / f"{self._plan.host}_{self._server.name}{more}.json",
            api_key=self._api_key(),
            secrets=self._secrets.values(),
            on_progress=self._progress,
            interrupted=self._interrupted,
            pace=self._pace(self._plan, self._server, self._known["image"]),
        )
        self._measured.append(measured)
        self._known |= {"benchmark": measured.result, "evidence": measured.evidence}
        sound = benchmark_gates(measured.result, measured.benchmark)
        self._judge(sound if number == 1 else tuple(check for check in sound if not check.passed))
        return measured.result

    def _judge(self, checks: tuple[CheckResult, ...]) -> None:
        self._checks += checks
        failed = [check for check in checks if not check.passed]
        if failed:
            raise GateError("; ".join(f"{check.name}: {check.detail}" for check in failed))

    def _log(self, error: ProvisionError) -> str:
        """The error's own log; of a gate that failed without one, the server's."""
        log: str = getattr(error, "log", "")
        if log or not isinstance(error, GateError):
            return log
        try:
            return last_log(self._transport, self._server.unit, self._secrets.values())
        except ProvisionError as lost:
            return f"the server's log cannot be read: {lost.message}"

    def _api_key(self) -> str | None:
        reference = self._server.api_key
        if reference is None:
            return None
        if reference not in self._secrets:
            raise UsageError(f"{self._server.name}: the API key {reference} was not resolved")
        return self._secrets[reference]

    def _start(self, phase: Phase, task: str) -> None:
        stop_if(self._interrupted)
        self._phase = phase
        self._event("started", task)

    def _progress(self, text: str) -> None:
        now = time.monotonic()
        if now - self._told_at < PROGRESS_EVERY_S:
            return
        self._told_at = now
        self._event("running", text)

    def _event(self, status: Status, task: str, detail: str = "") -> None:
        self._on_event(
            Event(
                host=self._plan.host,
                server=self._server.name,
                phase=self._phase,
                task=task,
                status=status,
                detail=detail,
            )
        )

    def _verdict(self, reasons: tuple[str, ...], exit_code: Exit, log: str = "") -> ServerVerdict:
        server, plan = self._server, self._plan
        known = {"image": None, **self._known}
        return ServerVerdict(
            host=plan.host,
            server=server.name,
            platform=plan.platform,
            hardware=plan.hardware,
            hardware_name=plan.hardware_name,
            gpu_count=server.gpu_count,
            simulated=plan.simulated,
            variant=server.variant,
            precision=server.precision,
            model=server.model_id,
            endpoint=url(server),
            checks=tuple(self._checks),
            passed=not reasons,
            reasons=reasons,
            exit_code=int(exit_code),
            log=log,
            **known,
        )


def _counted(answers: Answers) -> str:
    skipped = [f"{check.name} skipped: {check.detail}" for check in answers.checks if check.skipped]
    return "; ".join([f"{len(answers.checks) - len(skipped)} checks passed", *skipped])


def _size(benchmark: Benchmark) -> str:
    fewer = f" at most, within {benchmark.calibration.budget_s} s" if benchmark.calibration else ""
    return f"{benchmark.num_prompts} requests{fewer}"


def _speed(result: BenchmarkResult) -> str:
    return f"{result.output_throughput:.1f} output tok/s"


def _summary(verdicts: tuple[ServerVerdict, ...]) -> str:
    speeds = [f"{verdict.server} {_speed(verdict.benchmark)}" for verdict in verdicts if verdict.benchmark]
    return "; ".join(speeds) or "validated"
