"""Reading the result of `vllm bench serve`, and the gates on it. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from provisioner.errors import GateError
from provisioner.history.verdict import BenchmarkResult, CheckResult, Latency
from provisioner.plan.model import Benchmark

TOKEN_TOLERANCE = 0.01
"""share of the planned output tokens that may be missing or too many (with --ignore-eos there are none)"""


def parse_result(text: str) -> BenchmarkResult:
    """The result JSON of vLLM 0.12 … 0.32, every key kept in `raw`; GateError when it is not one."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise GateError(f"the benchmark's result is not JSON ({error}): {text[:200]!r}") from error
    if not isinstance(data, dict):
        raise GateError(f"the benchmark's result is not a JSON object: {text[:200]!r}")
    return BenchmarkResult(
        num_prompts=_integer(data, "num_prompts"),
        completed=_integer(data, "completed"),
        failed=_integer(data, "failed"),
        duration_s=_number(data, "duration"),
        total_input_tokens=_integer(data, "total_input_tokens"),
        total_output_tokens=_integer(data, "total_output_tokens"),
        request_throughput=_number(data, "request_throughput"),
        output_throughput=_number(data, "output_throughput"),
        total_token_throughput=_number(data, "total_token_throughput"),
        ttft=_latency(data, "ttft"),
        tpot=_latency(data, "tpot"),
        itl=_latency(data, "itl"),
        e2el=_latency(data, "e2el") if "median_e2el_ms" in data else None,
        raw=data,
    )


def benchmark_gates(result: BenchmarkResult, plan: Benchmark) -> tuple[CheckResult, ...]:
    """Whether the figures can be believed. The exit code of `vllm bench serve` is 0 even when every request
    failed, and a dead engine can count requests as completed without a single token."""
    return (
        _gate("no request failed", result.failed == 0, f"{result.failed} of {plan.num_prompts} failed"),
        _gate(
            "every request completed",
            result.completed == plan.num_prompts,
            f"{result.completed} of {plan.num_prompts} completed",
        ),
        _tokens(result, plan),
        _gate(
            "figures are numbers",
            result.output_throughput > 0 and math.isfinite(result.output_throughput),
            f"{result.output_throughput:.2f} output tok/s",
        ),
    )


def _tokens(result: BenchmarkResult, plan: Benchmark) -> CheckResult:
    name, got = "every token generated", result.total_output_tokens
    if plan.output_len is None:
        # Answers may be of any length, but each one has a token at least.
        return _gate(name, got >= plan.num_prompts, f"{got} output tokens of {plan.num_prompts} requests")
    expected = plan.num_prompts * plan.output_len
    detail = f"{got} of {expected} output tokens ({plan.num_prompts} × {plan.output_len})"
    return _gate(name, abs(got - expected) <= TOKEN_TOLERANCE * expected, detail)


def _gate(name: str, passed: bool, detail: str) -> CheckResult:
    return CheckResult(name=name, passed=passed, detail=detail, seconds=0.0)


def _latency(data: dict[str, Any], name: str) -> Latency:
    return Latency(
        mean_ms=_number(data, f"mean_{name}_ms"),
        median_ms=_number(data, f"median_{name}_ms"),
        p99_ms=_number(data, f"p99_{name}_ms"),
    )


def _integer(data: dict[str, Any], key: str) -> int:
    value = _number(data, key)
    if not value.is_integer():
        raise GateError(f"the benchmark's result says {key} = {data[key]!r}, expected a whole number")
    return int(value)


def _number(data: dict[str, Any], key: str) -> float:
    if key not in data:
        raise GateError(f"the benchmark's result has no {key!r}; keys: {', '.join(sorted(data))}")
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GateError(f"the benchmark's result says {key} = {value!r}, expected a number")
    return float(value)
