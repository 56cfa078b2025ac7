"""Reading the result of `vllm bench serve`, as JSON or as the block that it prints, and the gates on it. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from provisioner.errors import GateError
from provisioner.fleet.metrics import LATENCIES, metrics
from provisioner.fleet.slo import Objective, number
from provisioner.history.verdict import BenchmarkResult, CheckResult, Latency
from provisioner.plan.model import Benchmark

TOKEN_TOLERANCE = 0.01
"""share of the planned output tokens that may be missing or too many (with --ignore-eos there are none)"""


_TITLE = "Serving Benchmark Result"
_ROW = re.compile(r"([A-Z][^:]*?)\s*(?:\([^():]*\))?:\s+(-?[\d.]+(?:e[+-]?\d+)?|nan|inf)", re.IGNORECASE)
"""`Mean TTFT (ms):   4490.58`"""
_LABELS = {metric.label.casefold(): metric.name for metric in metrics()}
_LATENCY = re.compile(rf"(mean|median|p\d+(?:\.\d+)?) ({'|'.join(LATENCIES)})")


def parse_result(text: str) -> BenchmarkResult:
    """The result JSON of vLLM 0.11.2 to 0.33, every key kept in `raw`; GateError when it is not one."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise GateError(f"the benchmark's result is not JSON ({error}): {text[:200]!r}") from error
    if not isinstance(data, dict):
        raise GateError(f"the benchmark's result is not a JSON object: {text[:200]!r}")
    return _result(data)


def parse_block(text: str) -> BenchmarkResult:
    """The block that `vllm bench serve` prints, wherever it stands in a log; the last one of several. `raw` has the
    printed figures under the names of the JSON, and lines that no version known here prints under their own words.
    GateError when there is no block, or not a whole one."""
    _, title, block = text.rpartition(_TITLE)
    if not title:
        raise GateError(f'there is no block of `vllm bench serve` in it: no line "{_TITLE}"')
    data: dict[str, Any] = {}
    for line in block.splitlines()[1:]:
        if re.fullmatch(r"\s*=+\s*", line):
            break
        if found := _ROW.fullmatch(line.strip()):
            data[_key(found[1])] = float(found[2]) if not found[2].isdecimal() else int(found[2])
    # It does not say how many requests there were, but every one has ended somehow.
    prompts = _integer(data, "completed") + _integer(data, "failed")
    return _result({"num_prompts": prompts} | data, raw=data)


def _key(label: str) -> str:
    """The JSON's name for what the block calls `label`; the case of letters differs between versions."""
    folded = " ".join(label.casefold().split())
    if latency := _LATENCY.fullmatch(folded):
        return f"{latency[1]}_{latency[2]}_ms"
    return _LABELS.get(folded, label)


def _result(data: dict[str, Any], raw: dict[str, Any] | None = None) -> BenchmarkResult:
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
        raw=data if raw is None else raw,
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


def objective_gates(result: BenchmarkResult, slo: Sequence[Objective], gpu_count: int) -> tuple[CheckResult, ...]:
    """Whether the figures are what they must be; each with the figure, the bound and how far off it is."""
    return tuple(_objective(result, one, gpu_count) for one in slo)


def figure(result: BenchmarkResult, name: str, gpu_count: int) -> float | None:
    """A figure by its name in `fleet.metrics`; None when the result does not have it."""
    whole = name.removesuffix("_per_gpu")
    value = result.raw.get(whole)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if whole == name else value / max(gpu_count, 1)


def _objective(result: BenchmarkResult, one: Objective, gpu_count: int) -> CheckResult:
    name, value = f"slo: {one.metric}", figure(result, one.metric, gpu_count)
    words = f"{'at least' if one.sense == '>=' else 'at most'} {number(one.bound)} {one.unit}"
    if value is None:
        return _gate(name, False, f"the result does not have it; asked for is {words}")
    passed = value >= one.bound if one.sense == ">=" else value <= one.bound
    off = abs(value - one.bound) / one.bound
    side = "" if value == one.bound else f", {_percent(off)} {'above' if value > one.bound else 'below'} it"
    return _gate(name, passed, f"{value:.2f} {one.unit}, asked for is {words}{side}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else f"{100 * share:.2g} %"


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
