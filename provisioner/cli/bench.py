"""`provision bench`: what the figures of a benchmark mean, and results that were measured elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli.console import out

if TYPE_CHECKING:
    from provisioner.fleet.metrics import Metric
    from provisioner.history.verdict import BenchmarkResult

bench_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Figures of `vllm bench serve`: what they mean, and results measured elsewhere.\n\n"
    "`provision bench --explain [METRIC]` is short for `provision bench explain [METRIC]`. Servers of a fleet are\n"
    "measured by `provision validate FLEET`.",
)
_WIDTH = 96


@bench_app.command(epilog="Example: provision bench explain p95_ttft_ms")
def explain(
    metric: Annotated[
        str | None, typer.Argument(metavar="[METRIC]", help="Only this one, such as p99_ttft_ms.")
    ] = None,
) -> None:
    """What each figure means and which way is better; names are those that `slo` takes."""
    from provisioner.errors import UsageError
    from provisioner.fleet.metrics import meant, metric_of, metrics, names

    if metric is None:
        out("\n\n".join([*map(_explained, metrics()), _MORE]))
        return
    found = metric_of(metric)
    if found is None:
        raise UsageError(f'unknown metric "{metric}"', hint=meant(metric, names()))
    out(_explained(found))


@bench_app.command("import", epilog="Example: provision bench import vllm_benchmark_serving_results.json --gpus 2")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result JSON, or a log with the printed block.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs of the server: for the throughput per GPU.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON on stdout.")] = False,
) -> None:
    """Read a result of `vllm bench serve` 0.11.2 to 0.33 and show its figures."""
    from json import dumps

    from provisioner.errors import GateError, UsageError
    from provisioner.validate.results import parse_block, parse_result

    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    try:
        result = parse_result(text) if text.lstrip().startswith("{") else parse_block(text)
    except GateError as error:
        raise UsageError(f"{file}: {error.message}") from error
    out(dumps(result.raw, ensure_ascii=False, indent=1) if json else "\n".join(_figures(result, gpus)))


def _figures(result: BenchmarkResult, gpus: int) -> list[str]:
    """Name, value and unit of everything that the result has, in the order in which vLLM prints it."""
    from provisioner.fleet.metrics import LATENCIES, latency_of, metric_of, metrics
    from provisioner.validate.results import figure

    percentiles = [name for name in result.raw if name.startswith("p") and latency_of(name)]
    names = list(dict.fromkeys([*(metric.name for metric in metrics()), *percentiles]))
    of = [latency_of(name) for name in names]
    order = sorted(range(len(names)), key=lambda at: LATENCIES.index(of[at] or "") + 1 if of[at] else 0)
    rows = []
    for name in (names[at] for at in order):
        metric, value = metric_of(name), figure(result, name, gpus)
        if metric is not None and value is not None:
            rows.append(
                (name, f"{value:.0f}" if metric.unit in ("requests", "tokens") else f"{value:.2f}", metric.unit)
            )
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{name:<{widths[0]}}  {value:>{widths[1]}}  {unit}" for name, value, unit in rows]


def _explained(metric: Metric) -> str:
    from textwrap import fill

    better = f", {metric.better} is better" if metric.better else ""
    meaning = fill(metric.meaning, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"{metric.name} ({metric.unit}{better})\n{meaning}"


_MORE = """\
Other percentiles are figures, too: p50_ttft_ms, p95_e2el_ms, p99.9_itl_ms … One that `slo` names is measured.

Throughput and latency pull at each other. Tokens of many requests made in one step (a larger max_num_seqs, and as much
concurrency) raise the throughput and lengthen every latency. More GPUs for one model (tensor_parallel_size) shorten the
latencies and lower the throughput per GPU, unless the memory that they free lets a larger batch run."""
