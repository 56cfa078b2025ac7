"""The figures of `vllm bench serve` from single outcomes: the printed block and the JSON, keys and order of 0.12."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bench import Outcome

_TITLES = {
    "ttft": ("TTFT", "Time to First Token"),
    "tpot": ("TPOT", "Time per Output Token (excl. 1st token)"),
    "itl": ("ITL", "Inter-token Latency"),
    "e2el": ("E2EL", "End-to-end Latency"),
}


def result_of(options: argparse.Namespace, outcomes: list[Outcome], duration: float) -> dict[str, Any]:
    """Compute, print the block, and return the result's JSON object (times in ms, `duration` in s)."""
    good = [outcome for outcome in outcomes if outcome.ok]
    inputs, outputs = sum(o.prompt_tokens for o in good), sum(o.output_tokens for o in good)
    peak, concurrent = _peaks(good)
    figures: dict[str, Any] = {
        "duration": duration,
        "completed": len(good),
        "failed": len(outcomes) - len(good),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": len(good) / duration,
        "request_goodput": _goodput(options, good, duration),
        "output_throughput": outputs / duration,
        "total_token_throughput": (inputs + outputs) / duration,
        "max_output_tokens_per_s": peak,
        "max_concurrent_requests": concurrent,
    }
    lines = _head(options, figures)
    percentiles = [float(text) for text in (options.metric_percentiles or "99").split(",")]
    for name in (options.percentile_metrics or "ttft,tpot,itl").split(","):
        values = [1000 * value for value in _values(name, good)]
        short, title = _TITLES[name]
        lines.append(f"{title:-^50}")
        for word, value in _summary(values, percentiles).items():
            figures[f"{word}_{name}_ms"] = value
            if word != "std":
                lines.append(f"{f'{word.capitalize()} {short} (ms):':<40} {value:<10.2f}")
    lines.append("=" * 50)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    return {**_header(options), **figures}


def write_result(options: argparse.Namespace, result: dict[str, Any], outcomes: list[Outcome]) -> Path:
    """Write (or append) the JSON file where vLLM writes it."""
    if options.save_detailed:
        result = result | {
            "input_lens": [o.prompt_tokens for o in outcomes],
            "output_lens": [o.output_tokens for o in outcomes],
            "ttfts": [o.ttft for o in outcomes],
            "itls": [o.itl for o in outcomes],
            "generated_texts": [o.text for o in outcomes],
            "errors": [o.error for o in outcomes],
        }
    label = options.label or options.backend or "openai"
    base = (options.model or "").split("/")[-1]
    file = Path(options.result_filename or f"{label}-{result['request_rate']}qps-{base}-{result['date']}.json")
    if options.result_dir:
        Path(options.result_dir).mkdir(parents=True, exist_ok=True)
        file = Path(options.result_dir) / file
    with file.open("a" if options.append_result else "w") as out:
        out.write(("\n" if options.append_result and file.stat().st_size else "") + json.dumps(result))
    return file


def _header(options: argparse.Namespace) -> dict[str, Any]:
    backend = options.backend or "openai"
    rate = options.request_rate
    extra = dict(item.split("=", 1) for item in options.metadata or [])
    return {
        "date": time.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": backend,
        "backend": backend,
        "label": options.label,
        "model_id": options.model,
        "tokenizer_id": options.tokenizer or options.model,
        "num_prompts": options.num_prompts or 1000,
        **extra,
        "request_rate": "inf" if rate is None or rate == math.inf else rate,
        "burstiness": options.burstiness or 1.0,
        "max_concurrency": options.max_concurrency,
    }


def _head(options: argparse.Namespace, figures: dict[str, Any]) -> list[str]:
    rows: list[tuple[str, Any]] = [
        ("Successful requests:", figures["completed"]),
        ("Failed requests:", figures["failed"]),
    ]
    if options.max_concurrency:
        rows.append(("Maximum request concurrency:", options.max_concurrency))
    rows += [
        ("Benchmark duration (s):", figures["duration"]),
        ("Total input tokens:", figures["total_input_tokens"]),
        ("Total generated tokens:", figures["total_output_tokens"]),
        ("Request throughput (req/s):", figures["request_throughput"]),
        ("Output token throughput (tok/s):", figures["output_throughput"]),
        ("Peak output token throughput (tok/s):", float(figures["max_output_tokens_per_s"])),
        ("Peak concurrent requests:", float(figures["max_concurrent_requests"])),
        ("Total Token throughput (tok/s):", figures["total_token_throughput"]),
    ]
    shown = [f"{name:<40} {f'{value:.2f}' if isinstance(value, float) else value:<10}" for name, value in rows]
    return [f"{' Serving Benchmark Result ':=^50}", *shown]


def _goodput(options: argparse.Namespace, good: list[Outcome], duration: float) -> float | None:
    """Answers a second that kept every limit of --goodput (METRIC:MILLISECONDS …); None without limits, as in vLLM."""
    if not options.goodput:
        return None
    limits = dict(word.split(":", 1) for word in options.goodput)

    def kept(outcome: Outcome) -> bool:
        return all(1000 * value <= float(limit) for name, limit in limits.items() for value in _values(name, [outcome]))

    return sum(kept(outcome) for outcome in good) / duration


def _values(name: str, good: list[Outcome]) -> list[float]:
    if name == "ttft":
        return [o.ttft for o in good]
    if name == "tpot":
        return [(o.latency - o.ttft) / (o.output_tokens - 1) for o in good if o.output_tokens > 1]
    if name == "itl":
        return [gap for o in good for gap in o.itl]
    return [o.latency for o in good]


def _summary(values: list[float], percentiles: list[float]) -> dict[str, float]:
    values = sorted(values) or [0.0]
    summary = {
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "std": statistics.pstdev(values),
    }
    for percentile in percentiles:
        word = str(int(percentile)) if percentile == int(percentile) else str(percentile)
        summary[f"p{word}"] = _percentile(values, percentile)
    return summary


def _percentile(ordered: list[float], percentile: float) -> float:
    """Linear interpolation between the neighbours, as numpy does."""
    place = (len(ordered) - 1) * percentile / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _peaks(good: list[Outcome]) -> tuple[float, int]:
    """Most tokens, and most requests touched, within one second of the run."""
    if not good:
        return 0.0, 0
    start = min(o.started for o in good)
    tokens: dict[int, int] = {}
    requests: dict[int, int] = {}
    for o in good:
        moment = o.started - start + o.ttft
        for gap in [0.0, *o.itl]:
            moment += gap
            tokens[int(moment)] = tokens.get(int(moment), 0) + 1
        for second in range(int(o.started - start), int(o.started - start + o.latency) + 1):
            requests[second] = requests.get(second, 0) + 1
    return float(max(tokens.values())), max(requests.values())
