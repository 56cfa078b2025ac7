"""The last verdicts and benchmark figures as text for node_exporter's textfile collector. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from provisioner.history.verdict import BenchmarkResult, Latency
from provisioner.report.monitoring.served import LastVerdict
from provisioner.report.words import engine_label

TEXTFILE = "textfile/provision.prom"
_FIGURES: tuple[tuple[str, str, Callable[[BenchmarkResult], float]], ...] = (
    ("output_tokens_per_second", "Generated tokens a second", lambda result: result.output_throughput),
    ("tokens_per_second", "Prompt and generated tokens a second", lambda result: result.total_token_throughput),
    ("requests_per_second", "Requests a second", lambda result: result.request_throughput),
)
_LATENCIES: tuple[tuple[str, str, Callable[[BenchmarkResult], Latency | None]], ...] = (
    ("ttft", "Time to first token", lambda result: result.ttft),
    ("tpot", "Time per output token after the first", lambda result: result.tpot),
    ("itl", "Inter-token latency", lambda result: result.itl),
    ("e2el", "End-to-end latency", lambda result: result.e2el),
)
Sample = tuple[dict[str, str], float]


def textfile(verdicts: Sequence[LastVerdict]) -> str:
    """Prometheus' text format; what is not known has no series."""
    measured = [(one, one.verdict.benchmark) for one in verdicts if one.verdict.benchmark]
    lines = [
        *metric("server_passed", "Whether the server passed its last validation.", _each(verdicts, _passed)),
        *metric(
            "server_validated_timestamp_seconds",
            "When the run of its last validation began.",
            _each(verdicts, lambda one: one.at.timestamp()),
        ),
        *metric("server_info", "What was validated.", [(_about(one), 1.0) for one in verdicts]),
    ]
    for name, text, figure in _FIGURES:
        samples = [(_labels(one), figure(result)) for one, result in measured]
        lines += metric(f"benchmark_{name}", f"{text}. Last benchmark.", samples)
    gpus = [(_labels(one), float(max(one.verdict.gpu_count, 1))) for one, _ in measured]
    lines += metric("benchmark_gpus", "GPUs of the server. Last benchmark.", gpus)
    for name, text, pick in _LATENCIES:
        found = [(one, latency) for one, result in measured if (latency := pick(result))]
        samples = [
            ({**_labels(one), "stat": stat}, value / 1000)
            for one, latency in found
            for stat, value in (("mean", latency.mean_ms), ("median", latency.median_ms), ("p99", latency.p99_ms))
        ]
        lines += metric(f"benchmark_{name}_seconds", f"{text}. Last benchmark.", samples)
    return "\n".join(lines) + "\n"


def metric(name: str, text: str, samples: Iterable[Sample]) -> list[str]:
    """One metric with its samples; no line where there are none."""
    lines = [f"provision_{name}{_braced(labels)} {value!r}" for labels, value in samples if math.isfinite(value)]
    return [f"# HELP provision_{name} {text}", f"# TYPE provision_{name} gauge", *lines] if lines else []


def _passed(one: LastVerdict) -> float:
    return float(one.verdict.passed)


def _each(verdicts: Iterable[LastVerdict], value: Callable[[LastVerdict], float]) -> list[Sample]:
    return [(_labels(one), value(one)) for one in verdicts]


def _labels(one: LastVerdict) -> dict[str, str]:
    return {"fleet": one.fleet, "host": one.verdict.host, "server": one.verdict.server}


def _about(one: LastVerdict) -> dict[str, str]:
    verdict = one.verdict
    return {
        **_labels(one),
        "hardware": verdict.hardware,
        "simulated": str(verdict.simulated).lower(),
        "model": verdict.model,
        "variant": verdict.variant,
        "engine": engine_label(verdict),
        "image": verdict.image.short if verdict.image else "",
        "driver": one.driver or "",
    }


def _braced(labels: dict[str, str]) -> str:
    pairs = ",".join(f'{key}="{_quoted(value)}"' for key, value in labels.items())
    return f"{{{pairs}}}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
