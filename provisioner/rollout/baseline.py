"""The baseline gate of a run: what a host and its peers have shown, out of the history, against what it does now."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Hashable, Sequence

from provisioner.errors import Exit
from provisioner.fleet.models import Baseline, Figure, Fleet
from provisioner.history.store import Store
from provisioner.history.verdict import BenchmarkResult, ImageSeen, ServerVerdict, engine_of
from provisioner.plan.model import HostPlan, Server
from provisioner.plan.workload import workload
from provisioner.rollout.outcome import HostOutcome
from provisioner.validate.baseline import (
    Comparison,
    against_host,
    against_peers,
    check,
    decided,
    required,
)
from provisioner.validate.levels import Kind, Levels, Place, kind_of, levels_of, since_replaced
from provisioner.validate.validate import Again, Judged

POLICY = "policy: passed"


class BaselineGate:
    """Judges the benchmarks of one run, from the threads of all hosts, and accepts those that passed."""

    def __init__(self, store: Store, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet
        self._lock = threading.Lock()
        self._known: dict[tuple[Hashable, ...], Levels] = {}
        self._undecided: set[tuple[str, str]] = set()

    def judge(
        self, plan: HostPlan, server: Server, image: ImageSeen | None, result: BenchmarkResult, again: Again
    ) -> Judged:
        """Checks of `result`; where it looks like a loss, it is measured `again` until that is decided. Of several
        benchmarks the middle one is the server's."""
        settings = self._settings(plan.host, server.name)
        if settings.against == "nothing":
            return Judged(result, ())
        place = Place(self._fleet.name, plan.host, server.name)
        levels = self._levels(plan, server, engine_of(image), settings)
        results = [result]
        while True:
            compared = compare(results, place, levels, settings)
            if decided(compared) != "again":
                break
            results.append(again(f"benchmark {len(results) + 1} of at most {settings.benchmarks}: is it a loss?"))
        if decided(compared) == "undecided":
            with self._lock:
                self._undecided.add((plan.host, server.name))
        return Judged(_middle(results, settings.figures[0]), tuple(check(one, settings) for one in compared))

    def pace(self, plan: HostPlan, server: Server, image: ImageSeen | None) -> float | None:
        """Requests/s of the host's accepted benchmarks with this load, their median; None before there is one."""
        kind = Kind(workload(server), plan.hardware, plan.simulated, engine_of(image))
        found = self._store.measurements(
            fleet=self._fleet.name, host=plan.host, server=server.name, workload=workload(server)
        )
        accepted = since_replaced([one for one in found if one.accepted and kind_of(one) == kind])
        return statistics.median([one.result.request_throughput for one in accepted]) if accepted else None

    def accept(self, run_id: str, outcomes: Sequence[HostOutcome]) -> None:
        """Takes the benchmarks of every host that ended well into its baseline, where the fleet file lets it: not
        those that the gate could not decide about. Told once of each: when its wave has passed, or its run ends."""
        for outcome in outcomes:
            if outcome.exit_code != Exit.OK or outcome.state not in ("promoted", "unchanged"):
                continue
            for verdict in outcome.verdicts:
                if self._acceptable(verdict):
                    self._store.accept(run_id, verdict.host, verdict.server, by=POLICY, automatic=True)

    def _acceptable(self, verdict: ServerVerdict) -> bool:
        with self._lock:
            undecided = (verdict.host, verdict.server) in self._undecided
        settings = self._settings(verdict.host, verdict.server)
        wanted = settings.accept == "passed" and settings.against != "nothing"
        return wanted and verdict.passed and verdict.benchmark is not None and not undecided

    def _settings(self, host: str, server: str) -> Baseline:
        found = (one.baseline for one in self._fleet.servers_on(host) if one.name == server)
        return next(found, Baseline())

    def _levels(self, plan: HostPlan, server: Server, engine: str, settings: Baseline) -> Levels:
        key = (plan.hardware, workload(server), plan.simulated, engine, settings)
        with self._lock:  # hosts alike ask for the same
            if key not in self._known:
                found = self._store.measurements(hardware=plan.hardware, workload=workload(server))
                kind = Kind(workload(server), plan.hardware, plan.simulated, engine)
                alike = [one for one in found if kind_of(one) == kind]
                self._known[key] = {figure: levels_of(alike, figure, settings) for figure in settings.figures}
            return self._known[key]


def compare(
    results: Sequence[BenchmarkResult], place: Place, levels: Levels, settings: Baseline
) -> tuple[Comparison, ...]:
    """Every figure of `settings` against the level of `place` and those of its peers, all others."""
    compared: list[Comparison] = []
    for figure in settings.figures:
        measured = [required(result, figure) for result in results]
        own = levels[figure].get(place, ())
        peers = [values for other, values in levels[figure].items() if other != place and values]
        if settings.against in ("both", "host"):
            compared.append(against_host(figure, measured, own, peers, settings))
        if settings.against == "peers" or (settings.against == "both" and peers):
            compared.append(against_peers(figure, measured, peers, settings))
    return tuple(compared)


def _middle(results: Sequence[BenchmarkResult], figure: Figure) -> BenchmarkResult:
    ranked = sorted(results, key=lambda result: required(result, figure))
    return ranked[len(ranked) // 2]
