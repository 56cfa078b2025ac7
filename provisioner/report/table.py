"""The final table: one row a server, as a rich table, as plain lines, or as data. Builders; nothing is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from provisioner.history.verdict import ServerVerdict
from provisioner.report.sparkline import sparkline
from provisioner.report.words import NONE, engine_label, hardware_label, number, pair

if TYPE_CHECKING:
    from rich.table import Table

HISTORY = "history"
COLUMNS = (
    "host",
    "server",
    "hardware",
    "image",
    "engine",
    "variant",
    "output tok/s",
    HISTORY,
    "total tok/s",
    "per GPU",
    "TTFT ms",
    "TPOT ms",
    "ITL ms",
    "verdict",
)
NUMBERS = frozenset(("output tok/s", "total tok/s", "per GPU", "TTFT ms", "TPOT ms", "ITL ms"))
CAPTION = "TTFT, TPOT, ITL: median / P99"
CAPTION_HISTORY = f"{CAPTION}; history: output tok/s of the server's benchmarks, this one last"

History = Mapping[tuple[str, str], Sequence[float]]
"""(host, server) → output tok/s of comparable benchmarks, oldest first, with the one of the table"""
_NO_HISTORY: History = {}


def row(verdict: ServerVerdict, history: History = _NO_HISTORY) -> dict[str, str]:
    """A verdict as text, by column. Stand-ins are named: simulated GPUs, stand-in engines, CPU builds."""
    bench = verdict.benchmark
    return {
        "host": verdict.host,
        "server": verdict.server,
        "hardware": hardware_label(verdict),
        "image": verdict.image.short if verdict.image else NONE,
        "engine": engine_label(verdict),
        "variant": verdict.variant,
        "output tok/s": number(bench.output_throughput) if bench else NONE,
        HISTORY: sparkline(history.get((verdict.host, verdict.server), ())) if bench else "",
        "total tok/s": number(bench.total_token_throughput) if bench else NONE,
        "per GPU": number(verdict.output_per_gpu),
        "TTFT ms": pair(bench.ttft) if bench else NONE,
        "TPOT ms": pair(bench.tpot) if bench else NONE,
        "ITL ms": pair(bench.itl) if bench else NONE,
        "verdict": "passed" if verdict.passed else "FAILED",
    }


def table(verdicts: Sequence[ServerVerdict], history: History = _NO_HISTORY) -> Table:
    """The table for a terminal; the column `history` is there when a server has any."""
    from rich.markup import escape
    from rich.table import Table

    rows = [row(verdict, history) for verdict in verdicts]
    columns, caption = _shape(rows)
    built = Table(title="Servers", caption=caption, caption_justify="left", title_justify="left")
    for column in columns:
        built.add_column(
            column,
            justify="right" if column in NUMBERS else "left",
            overflow="fold",
            no_wrap=column == HISTORY,
        )
    for cells, verdict in zip(rows, verdicts, strict=True):
        color = "green" if verdict.passed else "red"
        shown = {name: escape(cells[name]) for name in columns}
        shown["verdict"] = f"[bold {color}]{shown['verdict']}[/]"
        built.add_row(*shown.values())
    return built


def lines(verdicts: Sequence[ServerVerdict], history: History = _NO_HISTORY) -> list[str]:
    """The table where there is no terminal: columns set with blanks, one line a server."""
    rows = [row(verdict, history) for verdict in verdicts]
    columns, caption = _shape(rows)
    rows.insert(0, {name: name for name in columns})
    widths = {name: max(len(cells[name]) for cells in rows) for name in columns}
    return [
        "  ".join(
            cells[name].rjust(widths[name]) if name in NUMBERS else cells[name].ljust(widths[name]) for name in columns
        ).rstrip()
        for cells in rows
    ] + [caption]


def as_data(verdict: ServerVerdict) -> dict[str, Any]:
    """A verdict as data for JSON, with what the table computes and how it calls hardware and engine."""
    return {
        **verdict.model_dump(mode="json"),
        "output_per_gpu": verdict.output_per_gpu,
        "hardware_label": hardware_label(verdict),
        "engine_label": engine_label(verdict),
    }


def _shape(rows: Sequence[Mapping[str, str]]) -> tuple[tuple[str, ...], str]:
    if any(cells[HISTORY] for cells in rows):
        return COLUMNS, CAPTION_HISTORY
    return tuple(name for name in COLUMNS if name != HISTORY), CAPTION
