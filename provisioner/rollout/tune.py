"""The course of a tuning: every point is served and measured in turn, and whatever happens the server is put back.

Servers come and go the ordinary way: a point is the host's plan with other settings, which the roles bring about. So
what is measured is what the settings would serve, unit and container and all.
"""

from __future__ import annotations

from provisioner.apply.runner import apply
from provisioner.errors import Exit, GateError, ProvisionError, UnreachableError, UsageError
from provisioner.history.events import Phase, Status
from provisioner.history.redact import redact
from provisioner.history.tuning import TunedPoint, Tuning, save_tuning
from provisioner.history.verdict import ImageSeen, engine_of
from provisioner.hosts.transport import Transport
from provisioner.plan.tuning import Candidate, gpus_used
from provisioner.rollout.points import Planned, Work, event, fresh, server_of, teller
from provisioner.rollout.proofs import remove_proof
from provisioner.rollout.put_back import SERVER_ROLES, applied, put_back
from provisioner.validate.answers import check_answers
from provisioner.validate.health import wait_healthy
from provisioner.validate.interrupt import stop_if
from provisioner.validate.measure import measure
from provisioner.validate.remote import image_seen
from provisioner.validate.results import benchmark_gates

TIME_OVER = "the time was over"
INTERRUPTED = "interrupted"
LOG = 4000
"""characters that a point keeps of a failed server's log"""


def tune(work: Work, points: tuple[Planned, ...]) -> Tuning:
    """Measures every point that is not known, as long as there is time. The server runs as before when this returns or
    raises; where that could not be done, the error says so, and the record of the run too."""
    return _Tuning(work, points).course()


class _Tuning:
    """One tuning; what is known goes to the run's directory after every point."""

    def __init__(self, work: Work, points: tuple[Planned, ...]) -> None:
        plan = work.host.plan
        original = server_of(plan, work.server)
        if plan is None:
            raise UsageError(f"{work.host.host.name}: no plan")
        self._work = work
        self._points = points
        self._ends = work.clock() + work.budget_s
        self._longest = 0.0
        self._running = original.unit_file.content
        self._image: ImageSeen | None = None
        self._done: dict[Candidate, TunedPoint] = {}
        self._record = Tuning(
            host=plan.host,
            server=work.server,
            hardware=plan.hardware,
            hardware_name=plan.hardware_name,
            model=original.model_id,
            simulated=plan.simulated,
            budget_s=work.budget_s,
            points=tuple(self._start(one) for one in points),
            original_argv=original.argv,
        )

    def course(self) -> Tuning:
        self._save()
        try:
            for group in self._groups():
                if self._out_of_time():
                    self._leave(group, TIME_OVER)
                elif self._work.interrupted():
                    self._leave(group, INTERRUPTED)
                else:
                    began = self._work.clock()
                    self._measure_group(group)
                    self._longest = max(self._longest, self._work.clock() - began)
        finally:
            self._back()
        return self._record

    def _start(self, one: Planned) -> TunedPoint:
        known = self._work.known.get(one.key)
        if known is not None:
            return known.model_copy(update={"candidate": one.candidate})
        if one.plan is None:
            return TunedPoint(candidate=one.candidate, state="failed", reason=one.problem)
        server = one.server(self._work.server)
        return TunedPoint(candidate=one.candidate, key=one.key, gpus=gpus_used(server))

    def _groups(self) -> list[list[Planned]]:
        """Points that one start of the server serves, those that are left to measure."""
        groups: dict[str, list[Planned]] = {}
        for one, point in zip(self._points, self._record.points, strict=True):
            if one.plan is not None and point.result is None:
                groups.setdefault(one.server(self._work.server).unit_file.content, []).append(one)
        return list(groups.values())

    def _out_of_time(self) -> bool:
        # One more that takes as long as the longest so far must still fit.
        return self._work.clock() + self._longest > self._ends

    def _measure_group(self, group: list[Planned]) -> None:
        try:
            transport, seconds = self._serve(group[0])
        except ProvisionError as error:
            for one in group:
                self._failed(one, error)
            return
        for position, one in enumerate(group):
            try:
                self._measure(transport, one, seconds if position == 0 else None)
            except ProvisionError as error:
                self._failed(one, error)

    def _serve(self, one: Planned) -> tuple[Transport, float | None]:
        """Brings the server about and finds that it answers rightly. Seconds until then, where it was restarted."""
        work, server = self._work, one.server(self._work.server)
        host, began = work.host.host, work.clock()
        restarted = server.unit_file.content != self._running
        if restarted and one.plan is not None:
            self._update(changed=True)  # before the first change: whoever comes after knows what is owed
            remove_proof(fresh(work, host), server.name)
            self._running = ""
            self._tell("apply", f"trying {one.candidate.label}", "started")
            (result,) = apply(
                work.run.directory(f"tune/{self._position(one)}"),
                one.fleet,
                [one.plan],
                work.seen.secrets,
                on_event=work.on_event,
                interrupted=work.interrupted,
                roles=SERVER_ROLES,
            )
            stop_if(work.interrupted)
            if result.state != "ok":
                raise applied(result)
            self._running = server.unit_file.content
        transport = fresh(work, host)
        secrets = tuple(work.seen.secrets.values())
        wait_healthy(
            transport,
            server,
            on_progress=teller(work, server, "health"),
            secrets=secrets,
            interrupted=work.interrupted,
        )
        taken = round(work.clock() - began, 1) if restarted else None
        self._image = image_seen(transport, server.container, server.image)
        self._record = self._record.model_copy(update={"engine": engine_of(self._image)})
        api_key = work.seen.secrets.get(server.api_key) if server.api_key else None
        self._tell("answers", "asking", "started")
        answers = check_answers(transport, server, api_key=api_key, secrets=secrets)
        wrong = [f"{check.name}: {check.detail}" for check in answers.checks if not check.passed]
        if wrong:
            raise GateError("; ".join(wrong))
        return transport, taken

    def _measure(self, transport: Transport, one: Planned, start_s: float | None) -> None:
        work, server = self._work, one.server(self._work.server)
        stop_if(work.interrupted)
        self._tell("benchmark", one.candidate.label, "started")
        secrets = work.seen.secrets
        name = f"{self._record.host}_{server.name}_{self._position(one)}.json"
        measured = measure(
            transport,
            server,
            cache_dir=one.plan.cache_dir if one.plan else "",
            image=self._image,
            save_to=work.run.directory("benchmarks") / name,
            api_key=secrets.get(server.api_key) if server.api_key else None,
            secrets=secrets.values(),
            on_progress=teller(work, server, "benchmark"),
            interrupted=work.interrupted,
        )
        wrong = [check for check in benchmark_gates(measured.result, measured.benchmark) if not check.passed]
        if wrong:
            raise GateError("; ".join(f"{check.name}: {check.detail}" for check in wrong))
        self._set(one, state="measured", result=measured.result, start_s=start_s, bench_argv=measured.benchmark.argv)
        speed = f"{measured.result.output_throughput:.1f} output tok/s, TPOT {measured.result.tpot.median_ms:.2f} ms"
        self._tell("benchmark", f"{one.candidate.label}: {speed}", "ok")

    def _failed(self, one: Planned, error: ProvisionError) -> None:
        if error.exit_code == Exit.INTERRUPTED:
            self._set(one, state="left", reason=INTERRUPTED)
            return
        if isinstance(error, UnreachableError):
            raise error  # nothing about the point, and no other one will fare better
        secrets = self._work.seen.secrets.values()
        first, _, rest = redact(error.message, secrets).partition("\n")
        log = redact("\n".join(filter(None, [rest, getattr(error, "log", "")])), secrets)
        self._set(one, state="failed", reason=first, log=log[-LOG:])
        self._tell("benchmark", f"{one.candidate.label}: {first}", "failed")

    def _leave(self, group: list[Planned], reason: str) -> None:
        for one in group:
            self._set(one, state="left", reason=reason)

    def _back(self) -> None:
        if not self._record.owed:
            self._tell("done", f"{len(self._record.measured)} points", "ok")
            return
        try:
            with self._work.regained():
                put_back(self._work, "back")
        except ProvisionError as error:
            again = self._work.seen.command
            error.hint = f"{self._work.server} was not put back; `{again}` brings the host to its plan again"
            raise
        self._update(put_back=True)
        self._tell("done", f"{len(self._record.measured)} points; the server is as it was", "ok")

    def _position(self, one: Planned) -> int:
        return self._points.index(one) + 1

    def _set(self, one: Planned, **update: object) -> None:
        position = self._points.index(one)
        points = list(self._record.points)
        points[position] = points[position].model_copy(update=update)
        self._update(points=tuple(points))

    def _update(self, **update: object) -> None:
        self._record = self._record.model_copy(update=update)
        self._save()

    def _save(self) -> None:
        save_tuning(self._work.run, self._record)

    def _tell(self, phase: Phase, task: str, status: Status) -> None:
        server = "" if phase == "done" else self._work.server
        self._work.on_event(event(self._record.host, phase, task, status, server))
