"""The final report: one row a server, as a rich table, as plain lines, or as JSON. Builders; nothing is printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from provisioner.history.verdict import BenchmarkResult, ImageSeen, Latency, ServerVerdict

GPU_STAND_IN = "simulated GPU"
COLUMNS = (
    "host",
    "server",
    "hardware",
    "image",
    "engine",
    "variant",
    "output tok/s",
    "total tok/s",
    "per GPU",
    "TTFT ms",
    "TPOT ms",
    "ITL ms",
    "verdict",
)
NUMBERS = frozenset(COLUMNS[6:12])
CAPTION = "TTFT, TPOT, ITL: median / P99"
NONE = "–"


def row(verdict: ServerVerdict) -> dict[str, str]:
    """A verdict as text, by column. Stand-ins are named: simulated GPUs, stand-in engines, CPU builds."""
    bench = verdict.benchmark
    return {
        "host": verdict.host,
        "server": verdict.server,
        "hardware": hardware_label(verdict),
        "image": verdict.image.short if verdict.image else NONE,
        "engine": engine_label(verdict),
        "variant": verdict.variant,
        "output tok/s": _number(bench.output_throughput) if bench else NONE,
        "total tok/s": _number(bench.total_token_throughput) if bench else NONE,
        "per GPU": _number(verdict.output_per_gpu) if verdict.output_per_gpu is not None else NONE,
        "TTFT ms": _pair(bench.ttft) if bench else NONE,
        "TPOT ms": _pair(bench.tpot) if bench else NONE,
        "ITL ms": _pair(bench.itl) if bench else NONE,
        "verdict": "passed" if verdict.passed else "FAILED",
    }


def hardware_label(verdict: ServerVerdict) -> str:
    """`2 × NVIDIA H200`, with a word about simulated GPUs."""
    name = verdict.hardware_name or verdict.hardware
    return f"{name} ({GPU_STAND_IN})" if verdict.simulated and "simulated" not in name.lower() else name


def engine_label(verdict: ServerVerdict) -> str:
    """What really ran: `vLLM 0.12.0`, `vLLM 0.32.0 (CPU build)`, `sim engine 0.12.0`."""
    if verdict.image is None:
        return NONE
    name = _engine(verdict.image)
    version = f" {verdict.version}" if verdict.version else ""
    return f"{name}{version}{_build(verdict.image)}"


def table(verdicts: Sequence[ServerVerdict]) -> Table:
    """The table for a terminal."""
    built = Table(title="Servers", caption=CAPTION, caption_justify="left", title_justify="left")
    for column in COLUMNS:
        built.add_column(column, justify="right" if column in NUMBERS else "left", overflow="fold")
    for verdict in verdicts:
        cells = {name: escape(text) for name, text in row(verdict).items()}
        color = "green" if verdict.passed else "red"
        cells["verdict"] = f"[bold {color}]{cells['verdict']}[/]"
        built.add_row(*cells.values())
    return built


def lines(verdicts: Sequence[ServerVerdict]) -> list[str]:
    """The table where there is no terminal: columns set with blanks, one line a server."""
    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), *(row(verdict) for verdict in verdicts)]
    widths = {name: max(len(cells[name]) for cells in rows) for name in COLUMNS}
    return [
        "  ".join(
            cells[name].rjust(widths[name]) if name in NUMBERS else cells[name].ljust(widths[name]) for name in COLUMNS
        ).rstrip()
        for cells in rows
    ] + [CAPTION]


def failures(verdicts: Sequence[ServerVerdict]) -> list[str]:
    """For every server that did not pass: why, and the last lines of its log."""
    told: list[str] = []
    for verdict in verdicts:
        told += [f"{verdict.host}, {verdict.server}: {reason}" for reason in verdict.reasons]
        told += [f"    {line}" for line in verdict.log.splitlines()]
    return told


def to_json(verdicts: Sequence[ServerVerdict]) -> str:
    """Everything known, for programs."""
    servers = [as_data(verdict) for verdict in verdicts]
    return json.dumps({"passed": all(verdict.passed for verdict in verdicts), "servers": servers}, indent=2)


def as_data(verdict: ServerVerdict) -> dict[str, Any]:
    """A verdict as data for JSON, with what the table computes and how it calls hardware and engine."""
    return {
        **verdict.model_dump(mode="json"),
        "output_per_gpu": verdict.output_per_gpu,
        "hardware_label": hardware_label(verdict),
        "engine_label": engine_label(verdict),
    }


def benchmark_line(result: BenchmarkResult) -> str:
    """The benchmark in one line."""
    return (
        f"{result.completed}/{result.num_prompts} requests in {result.duration_s:.1f} s:"
        f" {_number(result.output_throughput)} output tok/s, {_number(result.total_token_throughput)} total tok/s"
    )


def _engine(image: ImageSeen) -> str:
    # An image without a label is vLLM as released, or built for GPUs from its source.
    if image.engine in (None, "vllm"):
        return "vLLM"
    return "sim engine" if image.engine == "sim" else f"{image.engine} (stand-in)"


def _build(image: ImageSeen) -> str:
    return " (CPU build)" if image.engine == "vllm" and image.build == "cpu" else ""


def _pair(latency: Latency) -> str:
    return f"{_number(latency.median_ms)} / {_number(latency.p99_ms)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
