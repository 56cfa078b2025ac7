from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import GateError
from provisioner.plan.model import Benchmark
from provisioner.validate.results import benchmark_gates, parse_result

RECORDED = Path(__file__).parents[2] / "recorded" / "bench"
PLAN = Benchmark(argv=("bench", "serve"), num_prompts=20, output_len=16, timeout_s=60)


def recorded(version: str, **changes: Any) -> str:
    return json.dumps({**json.loads((RECORDED / f"bench-serve-{version}.json").read_text()), **changes})


def failed_gates(text: str) -> list[str]:
    return [f"{gate.name}: {gate.detail}" for gate in benchmark_gates(parse_result(text), PLAN) if not gate.passed]


@pytest.mark.parametrize(
    ("version", "keys", "output", "median_ttft", "p99_itl"),
    [
        ("0.12", 37, 1364.9153474813409, 18.41966149993368, 9.10403019993282),
        ("0.32", 42, 202.2205820630318, 78.0300615001579, 47.597696300358606),
    ],
)
def test_recorded_results_are_read_whole(
    version: str, keys: int, output: float, median_ttft: float, p99_itl: float
) -> None:
    result = parse_result(recorded(version))
    assert len(result.raw) == keys
    assert result.output_throughput == output
    assert result.ttft.median_ms == median_ttft
    assert result.itl.p99_ms == p99_itl
    assert result.e2el is not None
    assert (result.completed, result.failed, result.total_output_tokens) == (20, 0, 320)


@pytest.mark.parametrize("version", ["0.12", "0.32"])
def test_recorded_results_pass_the_gates(version: str) -> None:
    assert failed_gates(recorded(version)) == []


def test_failed_requests_fail_although_the_exit_code_was_0() -> None:
    text = recorded("0.32", failed=20, completed=0, total_output_tokens=0, output_throughput=0.0)
    assert failed_gates(text) == [
        "no request failed: 20 of 20 failed",
        "every request completed: 0 of 20 completed",
        "every token generated: 0 of 320 output tokens (20 × 16)",
        "figures are numbers: 0.00 output tok/s",
    ]


def test_a_dead_engine_that_counts_successes_without_tokens_fails() -> None:
    assert failed_gates(recorded("0.32", total_output_tokens=0)) == [
        "every token generated: 0 of 320 output tokens (20 × 16)"
    ]


@pytest.mark.parametrize(("tokens", "passes"), [(317, True), (316, False), (323, True), (324, False)])
def test_one_percent_of_the_tokens_may_differ(tokens: int, passes: bool) -> None:
    assert (failed_gates(recorded("0.32", total_output_tokens=tokens)) == []) is passes


def test_a_result_of_another_benchmark_fails() -> None:
    assert failed_gates(recorded("0.12", completed=10))[0] == "every request completed: 10 of 20 completed"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Traceback", "the benchmark's result is not JSON"),
        ("[]", "the benchmark's result is not a JSON object: '[]'"),
        ("{}", "the benchmark's result has no 'num_prompts'; keys: "),
        ('{"num_prompts": "20"}', "the benchmark's result says num_prompts = '20', expected a number"),
        ('{"num_prompts": NaN}', "the benchmark's result says num_prompts = nan, expected a whole number"),
    ],
)
def test_what_is_no_result_is_refused(text: str, message: str) -> None:
    with pytest.raises(GateError) as caught:
        parse_result(text)
    assert caught.value.message.startswith(message)


def test_e2el_is_optional() -> None:
    data = json.loads(recorded("0.12"))
    assert parse_result(json.dumps({key: data[key] for key in data if "e2el" not in key})).e2el is None


@pytest.mark.parametrize(("tokens", "fails"), [(320, []), (20, []), (19, ["every token generated"])])
def test_answers_of_any_length_have_a_token_each(tokens: int, fails: list[str]) -> None:
    plan = PLAN.model_copy(update={"output_len": None})
    gates = benchmark_gates(parse_result(recorded("0.32", total_output_tokens=tokens)), plan)
    assert [gate.name for gate in gates if not gate.passed] == fails
