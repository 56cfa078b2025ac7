"""Measuring one server: as many requests as its time allows, and what the figures were measured under."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import GateError
from provisioner.history.verdict import BenchmarkResult, Evidence, ImageSeen
from provisioner.hosts.transport import Transport
from provisioner.plan import flags
from provisioner.plan.model import Benchmark, Calibration, Server
from provisioner.validate.bench import Progress, run_benchmark
from provisioner.validate.interrupt import Interrupted
from provisioner.validate.watch import Watch

_SHORTEST_S = 0.001
"""of a round: what a clock can tell"""


@dataclass(frozen=True)
class Measured:
    """One benchmark."""

    result: BenchmarkResult
    benchmark: Benchmark
    """as it was run"""
    evidence: Evidence


def measure(
    transport: Transport,
    server: Server,
    *,
    cache_dir: str,
    image: ImageSeen | None,
    save_to: Path,
    api_key: str | None = None,
    secrets: Iterable[str] = (),
    on_progress: Progress = lambda _text: None,
    interrupted: Interrupted = lambda: False,
    pace: float | None = None,
) -> Measured:
    """The server's benchmark. With a time budget it is as long as `pace` says, requests/s that this load has had here,
    else as a short calibration does. Raises as `run_benchmark` does."""
    secrets = tuple(secrets)

    def run(benchmark: Benchmark, file: Path, on_measuring: Callable[[], None] = lambda: None) -> BenchmarkResult:
        return run_benchmark(
            transport,
            server.model_copy(update={"benchmark": benchmark}),
            cache_dir=cache_dir,
            save_to=file,
            api_key=api_key,
            secrets=secrets,
            on_progress=on_progress,
            on_measuring=on_measuring,
            interrupted=interrupted,
        )

    benchmark = server.benchmark
    if calibration := benchmark.calibration:
        if pace:
            benchmark = in_rounds(benchmark, calibration, calibration.concurrency / pace)
        else:
            on_progress("calibrating")
            short = run(calibrating(benchmark, calibration), save_to.with_stem(f"{save_to.stem}_calibration"))
            benchmark = sized(benchmark, calibration, short)
        on_progress(f"{benchmark.num_prompts} requests fit into {calibration.budget_s} s")
    with Watch(transport, server) as watch:
        result = run(benchmark, save_to, watch.measuring)
    return Measured(result, benchmark, watch.evidence(server, benchmark, image))


def calibrating(benchmark: Benchmark, calibration: Calibration) -> Benchmark:
    """The short round as a benchmark of its own."""
    update = {"argv": calibration.argv, "num_prompts": calibration.concurrency, "calibration": None}
    return benchmark.model_copy(update=update | {"output_len": calibration.output_len})


def sized(benchmark: Benchmark, calibration: Calibration, short: BenchmarkResult) -> Benchmark:
    """The benchmark as a short round sizes it. GateError when that did not end well."""
    if short.completed != calibration.concurrency:
        raise GateError(f"calibration: {short.completed} of {calibration.concurrency} requests completed")
    return in_rounds(benchmark, calibration, round_s(benchmark, short))


def in_rounds(benchmark: Benchmark, calibration: Calibration, seconds: float) -> Benchmark:
    """The benchmark with as many whole rounds of so many seconds as fit the budget, one at least, and no more than
    planned. Whole rounds, so that runs of a host are as long as each other although calibrations differ a little."""
    rounds = max(1, int(calibration.budget_s / max(seconds, _SHORTEST_S)))
    prompts = min(benchmark.num_prompts, rounds * calibration.concurrency)
    argv = flags.set_flag(benchmark.argv, "--num-prompts", str(prompts))
    return benchmark.model_copy(update={"argv": argv, "num_prompts": prompts, "calibration": None})


def round_s(benchmark: Benchmark, short: BenchmarkResult) -> float:
    """Seconds that one whole round takes: the last first token, and the other tokens at the pace of the short one."""
    if benchmark.output_len is None:
        return short.duration_s
    return (short.ttft.p99_ms + (benchmark.output_len - 1) * short.tpot.mean_ms) / 1000
