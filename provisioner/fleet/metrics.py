"""The figures of a benchmark: what vLLM calls them, what they are measured in, which way is better, what they mean.

Names are the keys of the result JSON of `vllm bench serve`; `output_throughput_per_gpu` and
`total_token_throughput_per_gpu` are this program's own. Labels are those of the printed block (0.11.2 to 0.33; the case
of letters has changed in between).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from provisioner.fleet.base import Frozen
from provisioner.fleet.suggest import did_you_mean, near

LATENCIES = ("ttft", "tpot", "itl", "e2el")
"""what latencies are of, in the order in which vLLM prints them"""
SUMMARIES = ("mean", "median", "p99")
"""of a latency: what is always there; other percentiles are asked for"""
_LATENCY = re.compile(r"(mean|median|std|p(\d{1,2}(?:\.\d+)?))_(ttft|tpot|itl|e2el)_ms")
_ALIASES = {"goodput": "request_goodput"}


class Metric(Frozen):
    """One figure."""

    name: str
    label: str
    """as the printed block has it, without the unit"""
    unit: str
    better: Literal["higher", "lower"] | None
    """None: it tells about the measurement, not how good the server is"""
    meaning: str


def metric_of(name: str) -> Metric | None:
    """The figure of that name (`goodput` stands for `request_goodput`); None when there is no such figure."""
    name = _ALIASES.get(name, name)
    if name in _PLAIN:
        return _PLAIN[name]
    found = _LATENCY.fullmatch(name)
    if found is None or float(found[2] or 1) <= 0:
        return None
    summary, _, of = found.groups()
    title, meaning = _OF[of]
    return Metric(
        name=name,
        label=f"{summary.capitalize()} {of.upper()}",
        unit="ms",
        better="lower",
        meaning=f"{_SUMMARY.get(summary, _percentile_words(summary))}, of the {title}: {meaning}",
    )


def percentile_of(name: str) -> tuple[str, float] | None:
    """`p95_ttft_ms` → ("ttft", 95.0); None for what is no percentile of a latency."""
    found = _LATENCY.fullmatch(name)
    return (found[3], float(found[2])) if found and found[2] else None


def latency_of(name: str) -> str | None:
    """`p95_ttft_ms`, `mean_ttft_ms` → "ttft"; None for what is no latency."""
    found = _LATENCY.fullmatch(name)
    return found[3] if found else None


def meant(name: str, known: Iterable[str]) -> str | None:
    """A hint: what was probably meant by a name that is none. Every percentile is a figure, so the one that was written
    is kept."""
    known = tuple(known)
    if name.lower() in LATENCIES:
        return f'did you mean "p99_{name.lower()}_ms"?'
    written = re.match(r"[pP](\d{1,2}(?:\.\d+)?)(?=_|$)", name)
    if written and float(written[1]) > 0:
        nearest = near(f"p99{name[written.end() :]}", known)
        if nearest and nearest.startswith("p99_"):
            return f'did you mean "p{written[1]}_{nearest.removeprefix("p99_")}"?'
    return did_you_mean(name, known)


def names() -> tuple[str, ...]:
    """Every figure by name, of percentiles the 99th alone: for suggestions and lists."""
    return (*_PLAIN, *(f"{summary}_{of}_ms" for of in LATENCIES for summary in SUMMARIES), *_ALIASES)


def metrics() -> Iterator[Metric]:
    """Every figure once, in the order in which vLLM prints them."""
    for name in names():
        if name not in _ALIASES and (found := metric_of(name)):
            yield found


def _percentile_words(summary: str) -> str:
    return f"the value that {summary.removeprefix('p')} % are at or below"


_SUMMARY = {
    "mean": "the average",
    "median": "the typical value (half are less, half are more)",
    "std": "how far single values are from the average (standard deviation)",
}
_OF = {
    "ttft": (
        "time to first token",
        "from sending a request until the first token of its answer comes: waiting for a place in the batch, then "
        "reading the whole prompt. Long prompts and more requests at once make it longer.",
    ),
    "tpot": (
        "time per output token",
        "how long a token takes once the first one is there, on average over one answer. It is what a reader sees as "
        "speed; larger batches make it longer.",
    ),
    "itl": (
        "inter-token latency",
        "the pause between one piece of an answer and the next, each pause counted by itself. A piece may be several "
        "tokens; the upper percentiles show stutter, as when other requests' prompts are read in between.",
    ),
    "e2el": (
        "end-to-end latency",
        "from sending a request until its last token. Long prompts weigh in through the time to first token, long "
        "answers through the time per output token.",
    ),
}


def _plain(name: str, label: str, unit: str, better: Literal["higher", "lower"] | None, meaning: str) -> Metric:
    return Metric(name=name, label=label, unit=unit, better=better, meaning=meaning)


_PLAIN = {
    one.name: one
    for one in (
        _plain("completed", "Successful requests", "requests", None, "requests that were answered to their end"),
        _plain("failed", "Failed requests", "requests", None, "requests without a whole answer; a run with any fails"),
        _plain(
            "max_concurrency",
            "Maximum request concurrency",
            "requests",
            None,
            "how many requests the client keeps in flight at most; as many as the server's max_num_seqs is advised",
        ),
        _plain(
            "request_rate",
            "Request rate configured",
            "requests/s",
            None,
            "how many requests a second are started; without one, all at once as far as the concurrency allows",
        ),
        _plain("duration", "Benchmark duration", "s", None, "from the first request to the last answer"),
        _plain("total_input_tokens", "Total input tokens", "tokens", None, "tokens of all prompts together"),
        _plain("total_output_tokens", "Total generated tokens", "tokens", None, "tokens of all answers together"),
        _plain("request_throughput", "Request throughput", "requests/s", "higher", "answers finished in a second"),
        _plain(
            "request_goodput",
            "Request goodput",
            "requests/s",
            "higher",
            "answers a second that kept every limit of `benchmark.goodput`; without limits it is not measured",
        ),
        _plain(
            "output_throughput",
            "Output token throughput",
            "tok/s",
            "higher",
            "tokens of answers that the whole server makes in a second, over all requests. Larger batches raise it and "
            "lengthen the latencies: a balance to be chosen.",
        ),
        _plain(
            "output_throughput_per_gpu",
            "Output token throughput per GPU",
            "tok/s",
            "higher",
            "output throughput divided by the GPUs of the server: compares servers that are spread over different "
            "numbers of them. The higher it is, the fewer GPUs serve the same load.",
        ),
        _plain(
            "max_output_tokens_per_s",
            "Peak output token throughput",
            "tok/s",
            "higher",
            "the most tokens of answers that came within one second of the run",
        ),
        _plain(
            "max_concurrent_requests",
            "Peak concurrent requests",
            "requests",
            None,
            "the most requests that were under way within one second; requests that end and begin in it both count",
        ),
        _plain(
            "total_token_throughput",
            "Total Token throughput",
            "tok/s",
            "higher",
            "tokens of prompts read and of answers made in a second, together",
        ),
        _plain(
            "total_token_throughput_per_gpu",
            "Total Token throughput per GPU",
            "tok/s",
            "higher",
            "total token throughput divided by the GPUs of the server",
        ),
    )
}
