"""The baseline gate over a real history: what a host and its peers did before, and what becomes part of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import facts, fleet, plan, server
from samples import result, verdict

from provisioner.errors import Exit, GateError
from provisioner.fleet.models import Baseline, Fleet
from provisioner.history.store import Store, open_store
from provisioner.history.verdict import BenchmarkResult, ImageSeen
from provisioner.plan.workload import workload
from provisioner.rollout.baseline import POLICY, BaselineGate
from provisioner.rollout.outcome import HostOutcome
from provisioner.validate.validate import Judged

IMAGE = ImageSeen(reference="v", id="sha256:" + "a" * 64)
SIM = ImageSeen(reference="v", id="sha256:" + "b" * 64, engine="sim", build="lab")
HOSTS = ("gpu-01", "gpu-02", "gpu-03")
FASTER = (5081.0, 5140.0, 5030.0, 5100.0, 5055.0)


class Past:
    """A history, and a fleet with its settings."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        self.fleet: Fleet = fleet(server(baseline=Baseline(**settings)), hosts=HOSTS)
        self.count = 0

    def begin(self) -> str:
        self.count += 1
        self.store.begin_run(f"r{self.count}", self.fleet.name, "/f", ["provision"], "anna", HOSTS)
        return f"r{self.count}"

    def ran(self, host: str, *figures: float, accepted: bool = True, of: Fleet | None = None, **changes: Any) -> None:
        the_plan = plan(of or self.fleet, facts(host))
        for figure in figures:
            run = self.begin()
            told = verdict(host, output=figure, **({"image": IMAGE, "hardware": the_plan.hardware} | changes))
            self.store.add_verdict(run, told, workload=workload(the_plan.servers[0]))
            if accepted:
                self.store.accept(run, host, by=POLICY, automatic=True)

    def judge(self, host: str, *figures: float, image: ImageSeen = IMAGE) -> tuple[Judged, int]:
        """What the gate says when benchmarks give these figures, one after the other, and how many were made."""
        left: list[BenchmarkResult] = [result(figure) for figure in figures]
        the_plan = plan(self.fleet, facts(host))

        def again(why: str) -> BenchmarkResult:
            assert why == f"benchmark {len(figures) - len(left) + 1} of at most 5: is it a loss?"
            return left.pop(0)

        gate = BaselineGate(self.store, self.fleet)
        first = left.pop(0)
        judged = gate.judge(the_plan, the_plan.servers[0], image, first, again)
        self.gate = gate
        return judged, len(figures) - len(left)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "history.sqlite") as opened:
        yield opened


def said(judged: Judged) -> list[tuple[str, bool, str]]:
    return [(check.name, check.passed, check.detail.rpartition(": ")[2]) for check in judged.checks]


def test_the_first_benchmark_of_a_host_passes_and_says_so(store: Store) -> None:
    judged, made = Past(store).judge("gpu-01", 5000.0)
    assert said(judged) == [("baseline", True, "no baseline yet, nothing of this workload on this host was accepted")]
    assert (made, judged.result.output_throughput) == (1, 5000.0)


def test_noise_passes_with_one_benchmark(store: Store) -> None:
    past = Past(store)
    past.ran("gpu-01", *FASTER)
    judged, made = past.judge("gpu-01", 4990.0)
    assert said(judged) == [("baseline", True, "no loss of more than 3 %")]
    assert made == 1


def test_a_loss_is_confirmed_and_fails(store: Store) -> None:
    past = Past(store)
    past.ran("gpu-01", *FASTER)
    judged, made = past.judge("gpu-01", 4512.0, 4530.0)
    assert said(judged) == [("baseline", False, "a loss of more than 3 % at 99 % confidence")]
    assert made == 2


def test_one_bad_benchmark_is_no_loss_and_the_middle_one_counts(store: Store) -> None:
    past = Past(store)
    past.ran("gpu-01", *FASTER)
    judged, made = past.judge("gpu-01", 4700.0, 5090.0, 5070.0)
    assert said(judged) == [("baseline", True, "no loss of more than 3 %")]
    assert (made, judged.result.output_throughput) == (3, 5070.0)


def test_the_pace_of_a_host_is_what_was_accepted_there(store: Store) -> None:
    past = Past(store)

    def ran(pace: float, host: str = "gpu-01", **changes: Any) -> None:
        past.ran(host, 5000.0, **({"benchmark": result(request_throughput=pace)} | changes))

    def pace(host: str = "gpu-01", image: ImageSeen = IMAGE) -> float | None:
        the_plan = plan(past.fleet, facts(host))
        return BaselineGate(store, past.fleet).pace(the_plan, the_plan.servers[0], image)

    assert pace() is None
    for one in (3.0, 4.0, 8.0):
        ran(one)
    ran(90.0, accepted=False)
    ran(90.0, image=SIM)
    ran(90.0, "gpu-02")
    assert (pace(), pace("gpu-02"), pace("gpu-03"), pace(image=SIM)) == (4.0, 90.0, None, 90.0)


def test_only_what_was_accepted_counts(store: Store) -> None:
    past = Past(store)
    past.ran("gpu-01", 9000.0, accepted=False)
    assert said(past.judge("gpu-01", 4512.0)[0])[0][2].startswith("no baseline yet")


@pytest.mark.parametrize(
    ("changes", "image"),
    [
        ({"image": SIM}, IMAGE),
        ({"image": IMAGE}, SIM),
        ({"simulated": True}, IMAGE),
        ({"hardware": "h100"}, IMAGE),
    ],
)
def test_what_cannot_be_compared_is_not(store: Store, changes: dict[str, Any], image: ImageSeen) -> None:
    past = Past(store)
    past.ran("gpu-01", *FASTER, **changes)
    assert said(past.judge("gpu-01", 1000.0, image=image)[0])[0][2].startswith("no baseline yet")


def test_another_load_is_another_baseline(store: Store) -> None:
    past = Past(store)
    past.ran("gpu-01", *FASTER, of=fleet(server(max_num_seqs=8), hosts=HOSTS))
    assert said(past.judge("gpu-01", 1000.0)[0])[0][2].startswith("no baseline yet")


def test_a_new_host_is_compared_with_its_peers(store: Store) -> None:
    past = Past(store)
    past.ran("gpu-02", *FASTER)
    past.ran("gpu-03", *FASTER)
    judged, _ = past.judge("gpu-01", 3000.0, 3010.0)
    assert said(judged) == [
        ("baseline", True, "no baseline yet, nothing of this workload on this host was accepted"),
        ("peers", False, "a loss of more than 3 % at 99 % confidence"),
    ]


@pytest.mark.parametrize(("against", "names"), [("host", ["baseline"]), ("peers", ["peers"]), ("nothing", [])])
def test_what_it_is_compared_with_can_be_said(store: Store, against: str, names: list[str]) -> None:
    past = Past(store, against=against)
    past.ran("gpu-01", *FASTER)
    past.ran("gpu-02", *FASTER)
    judged, _ = past.judge("gpu-01", 5000.0)
    assert [check.name for check in judged.checks] == names


def test_a_baseline_that_was_replaced_by_hand(store: Store) -> None:
    past = Past(store)
    past.ran("gpu-01", *FASTER)
    past.ran("gpu-01", 4512.0, accepted=False)
    store.accept("r6", by="anna", replaces=True)
    judged, made = past.judge("gpu-01", 4500.0)
    assert "below this host's baseline 4,512 (1 accepted," in judged.checks[0].detail
    assert (made, judged.checks[0].passed) == (1, True)
    past.ran("gpu-01", 4540.0)
    assert "baseline 4,526 (2 accepted," in past.judge("gpu-01", 4500.0)[0].checks[0].detail
    store.accept("r2", by="anna", replaces=True)  # back to an older one
    assert "baseline 5,140 (1 accepted," in past.judge("gpu-01", 5000.0)[0].checks[0].detail


def test_a_benchmark_that_fails_in_between_is_the_end(store: Store) -> None:
    past = Past(store)
    past.ran("gpu-01", *FASTER)
    the_plan = plan(past.fleet, facts("gpu-01"))

    def again(_why: str) -> BenchmarkResult:
        raise GateError("no request failed: 3 of 32 failed")

    with pytest.raises(GateError, match="3 of 32 failed"):
        BaselineGate(store, past.fleet).judge(the_plan, the_plan.servers[0], IMAGE, result(4000.0), again)


class TestAccepting:
    def accepted(
        self, past: Past, *, exit_code: Exit = Exit.OK, passed: bool = True, figures: tuple[float, ...]
    ) -> int:
        past.judge("gpu-01", *figures)
        run = past.begin()
        told = verdict("gpu-01", output=figures[0], passed=passed)
        past.store.add_verdict(run, told, workload="w")
        past.gate.accept(run, [HostOutcome("gpu-01", exit_code, verdicts=(told,)), HostOutcome("gpu-02", Exit.OK)])
        return sum(one.run_id == run for one in past.store.accepted())

    def test_what_passed_all_gates(self, store: Store) -> None:
        assert self.accepted(Past(store), figures=(5000.0,)) == 1
        (taken,) = store.accepted()
        assert (taken.by, taken.automatic, taken.replaces) == ("policy: passed", True, False)
        assert [row.action for row in store.audit()] == ["began"]  # no entry of its own: the run's end says it

    def test_not_what_failed(self, store: Store) -> None:
        assert self.accepted(Past(store), exit_code=Exit.GATE_FAILED, passed=False, figures=(5000.0,)) == 0

    def test_not_what_could_not_be_decided(self, store: Store) -> None:
        past = Past(store)
        past.ran("gpu-01", *FASTER)
        assert self.accepted(past, figures=(4900.0, 4880.0, 4890.0, 4885.0, 4895.0)) == 0

    def test_nothing_by_itself_where_acceptance_is_manual(self, store: Store) -> None:
        assert self.accepted(Past(store, accept="manual"), figures=(5000.0,)) == 0

    def test_nothing_where_there_is_no_gate(self, store: Store) -> None:
        assert self.accepted(Past(store, against="nothing"), figures=(5000.0,)) == 0

    def test_no_server_without_a_benchmark(self, store: Store) -> None:
        past = Past(store)
        run = past.begin()
        told = verdict("gpu-01", output=None)
        store.add_verdict(run, told)
        BaselineGate(store, past.fleet).accept(run, [HostOutcome("gpu-01", Exit.OK, verdicts=(told,))])
        assert store.accepted() == ()
