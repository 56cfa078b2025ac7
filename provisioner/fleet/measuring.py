"""What a fleet file says of benchmarks, and of what they are compared with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from provisioner.fleet.base import Frozen
from provisioner.fleet.formats import DATASET, Count, Flag, Word


class Goodput(Frozen):
    """What a request may take to count as good."""

    ttft: Annotated[float, Field(gt=0)] | None = None
    """milliseconds to the first token"""
    tpot: Annotated[float, Field(gt=0)] | None = None
    """milliseconds a token after the first, on average"""
    e2el: Annotated[float, Field(gt=0)] | None = None
    """milliseconds to the last token"""


class Benchmark(Frozen):
    """`vllm bench serve` flags. Left out: the guide's figures on data-centre GPUs, scaled to the host elsewhere."""

    dataset_name: Word = "random"
    """Which dataset the prompts are from; the guide: random."""
    dataset_path: Annotated[str, StringConstraints(pattern=DATASET)] | None = None
    """File or Hugging Face dataset, for datasets that need one; a path is looked up in the server's container."""
    random_input_len: Count | None = None
    """tokens a prompt, on average; the guide: 1024"""
    random_output_len: Count | None = None
    """tokens an answer, on average; the guide: 1024"""
    random_range_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Spread of both lengths, as a share of them; vLLM: 0, all alike."""
    random_prefix_len: Annotated[int, Field(ge=0, strict=True)] | None = None
    """tokens that all prompts begin with, besides random_input_len; vLLM: 0"""
    num_warmups: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Requests before the measurement; the guide: 20."""
    ignore_eos: Flag = True
    """Answers go on to their full length, past the end-of-sentence token; the guide's setting."""
    max_concurrency: Count | None = None
    """Requests in flight at most; the guide: the server's max_num_seqs, 1024 without one."""
    num_prompts: Count | None = None
    """Requests in all; the guide: 2048, at least five times max_concurrency to measure the steady state."""
    time_budget_s: Count | None = None
    """seconds that the requests may take, about: what the host has shown, or before that a short calibration, tells how
    many fit, whole rounds of max_concurrency up to num_prompts. Left out: 600 where neither num_prompts nor the guide's
    2048 apply."""
    request_rate: Annotated[float, Field(gt=0)] | None = None
    """requests a second; vLLM: all at once (up to max_concurrency)"""
    burstiness: Annotated[float, Field(gt=0)] | None = None
    """How request_rate varies: 1 is a Poisson process, less is burstier, more is more even; vLLM: 1."""
    seed: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Of the random prompts; vLLM: 0."""
    percentile_metrics: Annotated[tuple[Literal["ttft", "tpot", "itl", "e2el"], ...], Field(min_length=1)] = (
        "ttft",
        "tpot",
        "itl",
        "e2el",
    )
    """What is reported of time to first token, time per output token, inter-token and whole latency. The first three
    always are, and what `slo` names."""
    metric_percentiles: tuple[Annotated[float, Field(gt=0, lt=100)], ...] = ()
    """Which percentiles; 99 and those that `slo` names are always asked for."""
    goodput: Goodput = Goodput()
    ready_check_timeout_s: Annotated[int, Field(ge=0, strict=True)] = 600
    """seconds that the client waits for the server; 0 does not wait, as vLLM does from 0.14 on unless told"""
    extra_args: tuple[str, ...] = ()
    """More flags of `vllm bench serve`, as they are."""
    timeout_s: Count = 3600
    """seconds after which the client is ended"""


Figure = Literal[
    "output_throughput",
    "total_token_throughput",
    "request_throughput",
    "mean_ttft_ms",
    "median_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "median_tpot_ms",
    "p99_tpot_ms",
    "mean_itl_ms",
    "median_itl_ms",
    "p99_itl_ms",
    "mean_e2el_ms",
    "median_e2el_ms",
    "p99_e2el_ms",
]
"""Figures of a benchmark, as vLLM's result file calls them."""
Percent = Annotated[float, Field(gt=0, lt=50)]


class Baseline(Frozen):
    """What a benchmark is compared with: what this host, and hosts like it, have shown they can do."""

    against: Literal["both", "host", "peers", "nothing"] = "both"
    """This host's own accepted benchmarks, those of other hosts with the same hardware and workload, both, or none."""
    figures: Annotated[tuple[Figure, ...], Field(min_length=1)] = ("output_throughput",)
    """Which figures are compared; each one may fail the gate."""
    tolerance_percent: Percent = 3.0
    """A loss up to this is none."""
    confidence_percent: Annotated[float, Field(ge=80, lt=100)] = 99.0
    """How sure it must be that a figure lost more than that, before the gate fails."""
    benchmarks: Annotated[int, Field(ge=1, le=20, strict=True)] = 5
    """Benchmarks of one validation at most. More than one is run only when the first one looks like a loss; from 2 on
    no single benchmark fails the gate."""
    noise_percent: Percent = 1.5
    """How much benchmarks of one host differ by themselves (standard deviation), to begin with: it counts like eight
    benchmarks beside those that were measured."""
    spread_percent: Percent = 3.0
    """How much hosts alike differ (standard deviation), to begin with: it counts like four hosts."""
    accept: Literal["passed", "manual"] = "passed"
    """What becomes part of the baseline: what passed all gates, or only what `provision baseline accept` names."""
