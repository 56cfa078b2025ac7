"""Benchmarks with one workload fingerprint can be compared; others cannot."""

from __future__ import annotations

from typing import Any

import pytest
from builders import facts, fleet, plan, server

from provisioner.fleet.models import Benchmark, Goodput, Image
from provisioner.plan.model import Server
from provisioner.plan.workload import workload


def of(seen: Any = None, **settings: Any) -> str:
    return workload(planned(seen, **settings))


def planned(seen: Any = None, **settings: Any) -> Server:
    return plan(fleet(server(**settings)), seen or facts()).servers[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 8001},
        {"host": "0.0.0.0"},
        {"image": {"default": Image(pull="vllm/vllm-openai:v0.12.1")}},
        {"served_model_name": "other"},
        {"gpu_memory_utilization": 0.5},
        {"trust_remote_code": False},
        {
            "benchmark": Benchmark(
                ready_check_timeout_s=0, percentile_metrics=("ttft",), metric_percentiles=(50.0, 99.0)
            )
        },
        {"benchmark": Benchmark(goodput=Goodput(ttft=100.0, tpot=20.0))},
        {"benchmark": Benchmark(extra_args=("--save-detailed", "--metadata", "a=b", "c=d", "--label=x"))},
        {"benchmark": Benchmark(extra_args=("--tokenizer", "/root/.cache/huggingface/snapshots/c0ffee"))},
    ],
)
def test_what_does_not_change_the_load(settings: dict[str, Any]) -> None:
    assert of(**settings) == of()


@pytest.mark.parametrize(
    "settings",
    [
        {"variant": "default"},
        {"max_num_seqs": 8},  # the benchmark's concurrency follows it
        {"benchmark": Benchmark(random_output_len=128)},
        {"benchmark": Benchmark(num_warmups=0)},
        {"benchmark": Benchmark(seed=1)},
        {"benchmark": Benchmark(request_rate=2.0)},
        {"benchmark": Benchmark(time_budget_s=60)},
        {"benchmark": Benchmark(extra_args=("--temperature", "0"))},
    ],
)
def test_what_changes_the_load(settings: dict[str, Any]) -> None:
    assert of(**settings) != of()


def test_other_gpus_with_the_same_load_are_comparable_but_not_more_of_them() -> None:
    assert of(facts(gpus=("NVIDIA H100 80GB HBM3",))) == of()
    assert of(facts(gpus=("NVIDIA H200",) * 2)) != of()
    assert len(of()) == 12


def test_what_stands_behind_a_flag_that_is_left_out_is_kept() -> None:
    one = planned()
    argv = (*one.benchmark.argv, "--goodput", "ttft:1", "--seed", "7")
    seeded = one.model_copy(update={"benchmark": one.benchmark.model_copy(update={"argv": argv})})
    assert workload(seeded) != workload(one)
