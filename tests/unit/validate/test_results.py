from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import GateError
from provisioner.fleet.slo import parse_objective
from provisioner.plan.model import Benchmark
from provisioner.validate.results import benchmark_gates, objective_gates, parse_block, parse_result

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


GUIDE = {
    "completed": 2048,
    "failed": 0,
    "max_concurrency": 1024,
    "duration": 132.49,
    "total_input_tokens": 2097155,
    "total_output_tokens": 2097152,
    "request_throughput": 15.46,
    "output_throughput": 15828.30,
    "max_output_tokens_per_s": 21157.00,
    "max_concurrent_requests": 1088.00,
    "total_token_throughput": 31656.63,
    "mean_ttft_ms": 4490.58,
    "median_ttft_ms": 1534.84,
    "p99_ttft_ms": 15465.31,
    "mean_tpot_ms": 59.45,
    "median_tpot_ms": 61.04,
    "p99_tpot_ms": 63.01,
    "mean_itl_ms": 59.45,
    "median_itl_ms": 52.75,
    "p99_itl_ms": 131.46,
}


def test_the_guides_sample_gives_back_its_20_figures() -> None:
    result = parse_block((RECORDED / "guide-h200-fp8.txt").read_text())
    assert result.raw == GUIDE
    assert len(result.raw) == 20
    assert (result.num_prompts, result.e2el) == (2048, None)


@pytest.mark.parametrize(
    ("version", "block", "figures"),
    [("0.12", "bench-serve-0.12.log", 23), ("0.32-percentiles", "bench-serve-0.32-percentiles.txt", 33)],
)
def test_the_printed_block_says_what_the_json_says(version: str, block: str, figures: int) -> None:
    printed = parse_block((RECORDED / block).read_text())
    exact = json.loads(recorded(version))
    assert len(printed.raw) == figures
    assert {key: round(exact[key], 2) for key in printed.raw} == printed.raw
    assert printed.e2el is not None


def test_percentiles_that_objectives_name_are_found() -> None:
    slo = [parse_objective(text) for text in ("p95_ttft_ms <= 15", "p99.9_itl_ms <= 5", "goodput >= 30")]
    gates = objective_gates(parse_result(recorded("0.32-percentiles")), slo, gpu_count=1)
    assert [gate.detail.partition(",")[0] for gate in gates] == ["14.73 ms", "7.47 ms", "37.60 requests/s"]


def test_newer_labels_and_lines_that_nobody_knows() -> None:
    block = (RECORDED / "guide-h200-fp8.txt").read_text()
    newer = block.replace("Total Token throughput", "Total token throughput").replace(
        "Mean TTFT (ms): ", "P99.9 E2EL (ms):   7\nRequest goodput (req/s): 3.50\nTokens eaten (t): 9\nMean TTFT (ms): "
    )
    assert parse_block(f"{block}\nsome log\n{newer}").raw == {
        **GUIDE,
        "p99.9_e2el_ms": 7,
        "request_goodput": 3.5,
        "Tokens eaten": 9,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'there is no block of `vllm bench serve` in it: no line "Serving Benchmark Result"'),
        ("=== Serving Benchmark Result ===\n====\n", "the benchmark's result has no 'completed'; keys: "),
        (
            "= Serving Benchmark Result =\nSuccessful requests:   3\nFailed requests:  0\n====\nMean TTFT (ms): 1\n",
            "the benchmark's result has no 'duration'; keys: completed, failed, num_prompts",
        ),
    ],
)
def test_what_is_no_block_is_refused(text: str, message: str) -> None:
    with pytest.raises(GateError) as caught:
        parse_block(text)
    assert caught.value.message == message


@given(st.text())
def test_any_text_is_a_block_or_refused(text: str) -> None:
    with pytest.raises(GateError):
        parse_block(f"= Serving Benchmark Result =\n{text}")


def objective_results(*texts: str, **changes: Any) -> list[tuple[bool, str]]:
    slo = [parse_objective(text) for text in texts]
    gates = objective_gates(parse_result(recorded("0.32", **changes)), slo, gpu_count=2)
    assert [gate.name for gate in gates] == [f"slo: {one.metric}" for one in slo]
    return [(gate.passed, gate.detail) for gate in gates]


def test_objectives_say_the_figure_the_bound_and_how_far_off() -> None:
    assert objective_results(
        "output_throughput >= 200",
        "output_throughput >= 400",
        "output_throughput_per_gpu >= 200",
        "p99_ttft_ms <= 200",
        "p99_ttft_ms <= 100",
        "goodput >= 12.638786378939487",
        "p95_ttft_ms <= 200",
    ) == [
        (True, "202.22 tok/s, asked for is at least 200 tok/s, 1.1 % above it"),
        (False, "202.22 tok/s, asked for is at least 400 tok/s, 49.4 % below it"),
        (False, "101.11 tok/s, asked for is at least 200 tok/s, 49.4 % below it"),
        (True, "144.65 ms, asked for is at most 200 ms, 27.7 % below it"),
        (False, "144.65 ms, asked for is at most 100 ms, 44.6 % above it"),
        (True, "12.64 requests/s, asked for is at least 12.638786378939487 requests/s"),
        (False, "the result does not have it; asked for is at most 200 ms"),
    ]


@pytest.mark.parametrize("value", [None, "fast", float("nan"), True])
def test_a_figure_that_is_no_number_meets_no_objective(value: Any) -> None:
    assert objective_results("goodput >= 1", request_goodput=value) == [
        (False, "the result does not have it; asked for is at least 1 requests/s")
    ]


def test_a_hair_too_low_is_told_as_such() -> None:
    assert objective_results("output_throughput >= 100", output_throughput=99.9999) == [
        (False, "100.00 tok/s, asked for is at least 100 tok/s, 0.0001 % below it")
    ]
