from __future__ import annotations

from typing import Any

import pytest

from provisioner.fleet.models import Benchmark as Settings
from provisioner.fleet.models import Goodput
from provisioner.fleet.slo import parse_objective
from provisioner.fleet.taxonomy import profile_of
from provisioner.plan import flags
from provisioner.plan.bench import benchmark, default_max_num_seqs
from provisioner.plan.gates import check_arguments
from provisioner.plan.model import Benchmark


def bench(settings: Settings | None = None, **changes: Any) -> Benchmark:
    values: dict[str, Any] = {
        "model_id": "nvidia/Nano",
        "served_model_name": "nvidia/Nano",
        "connect_to": "127.0.0.1",
        "port": 8000,
        "trust_remote_code": True,
        "max_num_seqs": 1024,
        "max_model_len": None,
    }
    return benchmark(settings or Settings(), **(values | changes))


def figures(made: Benchmark) -> dict[str, str | None]:
    names = ("random-input-len", "random-output-len", "num-warmups", "max-concurrency", "num-prompts")
    return {name: flags.value_of(made.argv, f"--{name}") for name in names}


def figure(made: Benchmark, name: str) -> int:
    return int(figures(made)[name] or -1)


def test_the_guides_command_on_a_data_centre_gpu() -> None:
    # fmt: off
    assert bench().argv == (
        "bench", "serve", "--host", "127.0.0.1", "--port", "8000", "--model", "nvidia/Nano", "--trust-remote-code",
        "--dataset-name", "random", "--random-input-len", "1024", "--random-output-len", "1024",
        "--num-warmups", "20", "--ignore-eos", "--max-concurrency", "1024", "--num-prompts", "2048",
        "--ready-check-timeout-sec", "600", "--percentile-metrics", "ttft,tpot,itl,e2el",
        "--save-result", "--result-dir", "/results", "--result-filename", "vllm_benchmark_serving_results.json",
    )
    # fmt: on
    assert bench().num_prompts == 2048
    assert bench().output_len == 1024
    assert bench().timeout_s == 3600


def test_the_guides_spark() -> None:
    made = bench(max_num_seqs=8, max_model_len=262144)
    assert figures(made) == {
        "random-input-len": "1024",
        "random-output-len": "1024",
        "num-warmups": "20",
        "max-concurrency": "8",
        "num-prompts": "40",
    }
    assert made.num_prompts == 40


def test_fewer_prompts_than_warmups() -> None:
    assert figures(bench(max_num_seqs=1))["num-warmups"] == "5"


@pytest.mark.parametrize(("length", "each"), [(2048, 512), (4096, 1024), (8192, 1024), (100, 25), (1, 1)])
def test_prompt_and_answer_fit_the_servers_length(length: int, each: int) -> None:
    made = bench(max_model_len=length)
    assert (figure(made, "random-input-len"), figure(made, "random-output-len")) == (each, each)
    assert made.output_len == each


@pytest.mark.parametrize("seqs", [1, 8, 256, 1023, 1024, 4096])
def test_no_more_streams_than_sequences_and_five_prompts_each(seqs: int) -> None:
    made = bench(max_num_seqs=seqs)
    assert figure(made, "max-concurrency") == min(seqs, 1024)
    assert made.num_prompts == (2048 if seqs >= 1024 else 5 * seqs)


def test_every_figure_can_be_set() -> None:
    settings = Settings(
        random_input_len=7, random_output_len=9, num_warmups=0, max_concurrency=3, num_prompts=11, timeout_s=60
    )
    made = bench(settings, max_num_seqs=8, max_model_len=2048)
    assert figures(made) == {
        "random-input-len": "7",
        "random-output-len": "9",
        "num-warmups": "0",
        "max-concurrency": "3",
        "num-prompts": "11",
    }
    assert (made.num_prompts, made.output_len, made.timeout_s) == (11, 9, 60)


def test_another_served_name_and_no_remote_code() -> None:
    made = bench(served_model_name="nano", trust_remote_code=False, connect_to="::1", port=9000)
    assert made.argv[:10] == (
        *("bench", "serve", "--host", "::1", "--port", "9000"),
        *("--model", "nvidia/Nano", "--served-model-name", "nano"),
    )
    assert "--trust-remote-code" not in made.argv


def test_every_flag_can_be_set() -> None:
    settings = Settings(
        dataset_name="random",
        random_range_ratio=0.25,
        random_prefix_len=16,
        request_rate=2.5,
        burstiness=0.5,
        seed=7,
        ignore_eos=False,
        percentile_metrics=("ttft", "e2el"),
        metric_percentiles=(50, 99.9),
        goodput=Goodput(ttft=500, tpot=20.5),
        ready_check_timeout_s=0,
        extra_args=("--num-warmups", "3"),
    )
    made = bench(settings)
    wanted = {
        "--random-range-ratio": "0.25",
        "--random-prefix-len": "16",
        "--request-rate": "2.5",
        "--burstiness": "0.5",
        "--seed": "7",
        "--ignore-eos": None,
        "--percentile-metrics": "ttft,tpot,itl,e2el",
        "--metric-percentiles": "50,99,99.9",
        "--goodput": "ttft:500",
        "--ready-check-timeout-sec": "0",
        "--num-warmups": "3",
    }
    assert {flag: flags.value_of(made.argv, flag) for flag in wanted} == wanted
    assert made.argv[made.argv.index("--goodput") + 2] == "tpot:20.5"


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({}, 1024),
        ({"random_range_ratio": 0}, 1024),
        ({"random_range_ratio": 0.5}, None),
        ({"ignore_eos": False}, None),
        ({"dataset_name": "sharegpt", "dataset_path": "/data/sharegpt.json"}, None),
    ],
)
def test_how_long_answers_will_be(settings: dict[str, Any], length: int | None) -> None:
    assert bench(Settings(**settings)).output_len == length


def test_another_dataset_has_its_own_lengths() -> None:
    made = bench(Settings(dataset_name="sharegpt", dataset_path="/data/sharegpt.json"))
    assert flags.value_of(made.argv, "--dataset-path") == "/data/sharegpt.json"
    assert not flags.any_flag(made.argv, "--random-input-len", "--random-output-len")


@pytest.mark.parametrize("version", ["0.11.2", "0.12.0", "0.20.0", "0.33.0", None])
def test_every_version_takes_all_of_it(version: str | None) -> None:
    settings = Settings(
        random_range_ratio=0.25,
        random_prefix_len=16,
        request_rate=2.5,
        burstiness=0.5,
        seed=7,
        metric_percentiles=(50,),
        goodput=Goodput(ttft=500),
    )
    found = check_arguments("bench serve", bench(settings).argv[2:], version)
    assert (found.errors, found.warnings) == ((), ())


def test_what_objectives_name_is_measured() -> None:
    slo = tuple(map(parse_objective, ("p95_e2el_ms <= 9000", "p99.9_ttft_ms <= 500", "output_throughput >= 1")))
    made = bench(Settings(percentile_metrics=("ttft",), metric_percentiles=(50,)), slo=slo)
    assert flags.value_of(made.argv, "--percentile-metrics") == "ttft,tpot,itl,e2el"
    assert flags.value_of(made.argv, "--metric-percentiles") == "50,95,99,99.9"


def test_without_objectives_the_99th_percentile_is_vllms_own() -> None:
    made = bench(Settings(percentile_metrics=("ttft",)))
    assert flags.value_of(made.argv, "--percentile-metrics") == "ttft,tpot,itl"
    assert not flags.any_flag(made.argv, "--metric-percentiles")


@pytest.mark.parametrize(
    ("hardware", "seqs"), [("h100", 1024), ("h200", 1024), ("dgx_spark_gb10", 1024), ("rtx_pro_5000", 256)]
)
def test_vllms_own_number_of_sequences(hardware: str, seqs: int) -> None:
    profile = profile_of(hardware)
    assert default_max_num_seqs(profile.display_name, profile.gpu_memory_gb) == seqs


def test_an_a100_is_no_large_gpu_to_vllm() -> None:
    assert default_max_num_seqs("NVIDIA A100-SXM4-80GB", 80) == 256


@pytest.mark.parametrize(
    ("settings", "seqs", "budget"),
    [
        ({}, 1024, None),  # the guide's command is what it is
        ({}, 8, 600),
        ({"num_prompts": 40}, 8, None),
        ({"num_prompts": 40, "time_budget_s": 60}, 8, 60),
        ({"time_budget_s": 60}, 1024, 60),
        ({"num_prompts": 8, "time_budget_s": 60}, 8, None),  # no fewer than are in flight at once
    ],
)
def test_when_a_calibration_decides(settings: dict[str, Any], seqs: int, budget: int | None) -> None:
    calibration = bench(Settings(**settings), max_num_seqs=seqs).calibration
    assert (calibration.budget_s if calibration else None) == budget


def test_the_calibration_is_one_short_round() -> None:
    made = bench(max_num_seqs=8)
    assert made.calibration is not None
    assert (made.calibration.concurrency, made.calibration.output_len) == (8, 64)
    changed = {
        flag: flags.value_of(made.calibration.argv, flag)
        for flag in ("--num-prompts", "--num-warmups", "--random-output-len", "--max-concurrency", "--seed")
    }
    assert changed == {
        "--num-prompts": "8",
        "--num-warmups": "8",
        "--random-output-len": "64",
        "--max-concurrency": "8",
        "--seed": "1",  # other prompts: the server may keep those it has seen
    }
    same = made.argv
    for flag, value in changed.items():
        same = flags.set_flag(same, flag, str(value))
    assert made.calibration.argv == same


def test_other_datasets_are_calibrated_with_whole_answers() -> None:
    made = bench(Settings(dataset_name="sharegpt", dataset_path="/data/s.json"), max_num_seqs=8)
    assert made.calibration is not None
    assert made.calibration.output_len is None
    assert not flags.any_flag(made.calibration.argv, "--random-output-len")


def test_the_servers_mounts_are_the_clients() -> None:
    assert bench(mounts=("/srv:/srv:ro",)).mounts == ("/srv:/srv:ro",)
