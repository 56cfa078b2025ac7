"""Calibration, the number of requests that comes of it, and what is seen meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import GateError, HostError, UnreachableError
from provisioner.fleet.models import Benchmark as Settings
from provisioner.history.verdict import BenchmarkResult, GpuReading, ImageSeen, Spread
from provisioner.hosts.transport import Result
from provisioner.plan import flags
from provisioner.plan.bench import benchmark
from provisioner.plan.model import Benchmark
from provisioner.validate import watch as watching
from provisioner.validate.measure import Measured, measure, round_s, sized
from provisioner.validate.results import parse_result
from provisioner.validate.watch import Watch, load_of

from .fakes import FakeHost, server
from .test_bench import COMMANDS
from .test_validate import HOST

RECORDED = json.loads((Path(__file__).parents[2] / "recorded" / "bench" / "bench-serve-0.32.json").read_text())
IMAGE = ImageSeen(reference="vllm/vllm-openai:v0.32.0", id="sha256:" + "a" * 64)
CAT = next(command for command in COMMANDS if command.startswith("cat"))
RUN = "bash -o pipefail -c 'timeout --signal=INT --kill-after=30 3600 docker run"

INSPECT = next(command for command in HOST if ".Id" in command)
LOOK = "sh -c 'timeout 20 nvidia-smi"


def planned(**settings: Any) -> Benchmark:
    return benchmark(
        Settings(**settings),
        model_id="nvidia/Tiny",
        served_model_name="tiny",
        connect_to="127.0.0.1",
        port=8000,
        trust_remote_code=False,
        max_num_seqs=4,
        max_model_len=None,
    )


def result(**changes: Any) -> BenchmarkResult:
    return parse_result(json.dumps({**RECORDED, **changes}))


def short(ttft_ms: float = 500.0, tpot_ms: float = 20.0, **changes: Any) -> BenchmarkResult:
    figures = {"num_prompts": 4, "completed": 4, "p99_ttft_ms": ttft_ms, "mean_tpot_ms": tpot_ms}
    return result(**{**figures, **changes})


def run(host: FakeHost, tmp_path: Path, pace: float | None = None, **settings: Any) -> Measured:
    return measure(
        host,
        server(benchmark=planned(**settings)),
        cache_dir="/cache",
        image=IMAGE,
        save_to=tmp_path / "gpu-01_nemotron.json",
        pace=pace,
    )


def test_a_round_is_the_last_first_token_and_the_rest_at_its_pace() -> None:
    assert round_s(planned(), short()) == 0.5 + 1023 * 0.02


def test_a_round_of_another_dataset_takes_what_it_took() -> None:
    made = planned(dataset_name="sharegpt", dataset_path="/data/s.json")
    assert round_s(made, short(duration=12.5)) == 12.5


@pytest.mark.parametrize(
    ("budget", "prompts"),
    [(600, 20), (105, 20), (104, 16), (60, 8), (41, 4), (1, 4)],  # a round takes 20.96 s
)
def test_as_many_whole_rounds_as_fit(budget: int, prompts: int) -> None:
    made = planned(time_budget_s=budget)
    assert made.calibration is not None
    chosen = sized(made, made.calibration, short())
    assert chosen.num_prompts == prompts
    assert flags.value_of(chosen.argv, "--num-prompts") == str(chosen.num_prompts)
    assert chosen.calibration is None


@given(st.integers(1, 3600), st.floats(0, 1e6), st.floats(0, 1e5))
def test_never_less_than_a_round_and_never_more_than_planned(budget: int, ttft_ms: float, tpot_ms: float) -> None:
    made = planned(time_budget_s=budget)
    assert made.calibration is not None
    chosen = sized(made, made.calibration, short(ttft_ms, tpot_ms))
    assert 4 <= chosen.num_prompts <= 20
    assert chosen.num_prompts % 4 == 0
    estimate = chosen.num_prompts / 4 * round_s(made, short(ttft_ms, tpot_ms))
    assert chosen.num_prompts == 4 or estimate <= budget * 1.000001


def test_a_calibration_that_fails_is_told() -> None:
    made = planned()
    assert made.calibration is not None
    with pytest.raises(GateError, match=r"^calibration: 3 of 4 requests completed$"):
        sized(made, made.calibration, short(completed=3, failed=1))


def test_the_calibration_comes_first_and_both_results_are_kept(tmp_path: Path) -> None:
    answers = [json.dumps(short(tpot_ms=100.0).raw), json.dumps(RECORDED)]
    host = FakeHost({**HOST, RUN: "", CAT: answers})
    measured = run(host, tmp_path, time_budget_s=250)
    assert [name.name for name in sorted(tmp_path.iterdir())] == [
        "gpu-01_nemotron.json",
        "gpu-01_nemotron_calibration.json",
    ]
    first, second = [command for command in host.ran if command.startswith(RUN)]
    assert "--random-output-len 64" in first
    assert "--num-prompts 4 " in first
    assert "--random-output-len 1024" in second
    assert "--num-prompts 8 " in second
    assert measured.benchmark.num_prompts == 8
    assert measured.evidence.bench_argv == measured.benchmark.argv


@pytest.mark.parametrize(("pace", "prompts"), [(0.1, 12), (0.05, 4), (100.0, 20), (0.0001, 4)])  # rounds of 4
def test_a_host_that_is_known_needs_no_calibration(tmp_path: Path, pace: float, prompts: int) -> None:
    host = FakeHost({**HOST, RUN: ""})
    assert run(host, tmp_path, pace, time_budget_s=125).benchmark.num_prompts == prompts
    (only,) = [command for command in host.ran if command.startswith(RUN)]
    assert f"--num-prompts {prompts} " in only


def test_what_is_fixed_stays_whatever_is_known(tmp_path: Path) -> None:
    assert run(FakeHost({**HOST, RUN: ""}), tmp_path, 0.1, num_prompts=20).benchmark.num_prompts == 20


def test_without_a_budget_nothing_is_calibrated(tmp_path: Path) -> None:
    host = FakeHost({**HOST, RUN: ""})
    assert run(host, tmp_path, num_prompts=20).benchmark.num_prompts == 20
    assert sum(command.startswith(RUN) for command in host.ran) == 1


def test_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_S", 0.01)
    host = FakeHost(HOST)
    with Watch(host, server()) as watch:
        for _ in range(500):
            if watch._readings:
                break
            watch._thread.join(0.01)
    evidence = watch.evidence(server(), planned(), IMAGE)
    (gpu,) = evidence.gpus
    assert gpu.name == "NVIDIA H100 80GB HBM3"
    assert gpu.before == gpu.after
    assert gpu.under_load is not None
    assert gpu.under_load.readings >= 1
    assert gpu.under_load.temperature_c == Spread(lowest=69, mean=69, highest=69)
    assert (evidence.load_before, evidence.load_after, evidence.cpus) == (0.22, 0.22, 16)
    assert evidence.image_digest == "sha256:" + "a" * 64
    assert evidence.other_gpu_processes == ()
    assert evidence.notes == ()


def test_what_was_seen_before_the_measurement_does_not_count() -> None:
    watch = Watch(FakeHost(HOST), server())
    watch._readings = {0: [GpuReading(power_w=100)]}
    watch.measuring()
    assert watch._readings == {}


def test_a_host_without_gpus_is_not_asked_again(tmp_path: Path) -> None:
    nothing = "=== gpus\nnvidia-smi ended with 127\n=== load\n0.10 0.1 0.1 1/2 3\n4\n"
    host = FakeHost({**HOST, "sh -c 'echo": nothing, INSPECT: Result(1, "", "No such container")})
    with Watch(host, server()) as watch:
        assert not watch._thread.is_alive()
    evidence = watch.evidence(server(), planned(), None)
    assert (evidence.gpus, evidence.driver, evidence.image_digest) == ((), None, None)
    assert evidence.notes == (
        "nvidia-smi ended with 127",
        "the server's container could not be looked at: No such container",
    )


@pytest.mark.parametrize("error", [HostError("did not end within 80 s"), UnreachableError("gone")])
def test_evidence_is_never_a_reason_to_fail(error: Exception) -> None:
    host = FakeHost({**HOST, "sh -c 'echo": error, INSPECT: error})
    with Watch(host, server()) as watch:
        pass
    notes = watch.evidence(server(), planned(), IMAGE).notes
    assert notes == (
        f"the server's container could not be looked at: {error}",
        f"the host's load could not be looked at: {error}",
    )


def test_a_look_that_fails_is_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_S", 0.01)
    host = FakeHost({**HOST, LOOK: Result(1, "", "sudo: a password is required")})
    with Watch(host, server()) as watch:
        watch._thread.join(5)
        assert not watch._thread.is_alive()
    assert watch.evidence(server(), planned(), IMAGE).notes == (
        "the GPUs under load could not be looked at: sudo: a password is required",
    )


def test_figures_over_several_readings() -> None:
    load = load_of([GpuReading(power_w=100, temperature_c=50), GpuReading(power_w=300)])
    assert load.readings == 2
    assert load.power_w == Spread(lowest=100, mean=200, highest=300)
    assert load.temperature_c == Spread(lowest=50, mean=50, highest=50)
    assert load.memory_used_mib is None
