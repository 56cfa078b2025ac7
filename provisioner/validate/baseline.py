"""Whether a benchmark lost against what was accepted before. Pure: figures in, a decision with its reasons out.

Figures are compared as logarithms, where a loss of some percent is a difference and noise is alike at every speed.
The question is one-sided: is it certain, at the stated confidence, that more than the tolerance was lost? What is
within the tolerance passes at once. What is neither is measured again, until it is decided or `benchmarks` were run;
what is undecided then passes, says so, and is not taken into the baseline.

- Noise is pooled: from the accepted benchmarks of this host and of its peers, around each host's own level, and from
  this validation's, with the fleet file's `noise_percent` as if it had been seen in NOISE_WEIGHT benchmarks. So one
  accepted benchmark is enough to begin with, and the estimate becomes the fleet's own. The test is Student's.
- Benchmarks of one validation share what differs from run to run (temperature, how memory was laid out): RUN_SHARE of
  the variance does not shrink by repeating.
- The error that the confidence allows is spent over the looks: half of it on the last one, the rest on those before.
- Peers are compared by their levels, whose spread is estimated in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from provisioner.errors import GateError
from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Baseline, Figure
from provisioner.history.verdict import BenchmarkResult, CheckResult, Latency
from provisioner.validate.student import tail

WINDOW = 5
"""accepted benchmarks that make a host's level; later ones neither lower it nor dilute it, so that a slow creep adds up
to a loss"""
HELD = 3
"""accepted benchmarks in a row, all better than the level by more than the tolerance, that make a new level"""
NOISE_WEIGHT = 8
SPREAD_WEIGHT = 4
FIRST_TOKEN_SCALE, TAIL_SCALE = 5, 5
"""how much more the time to first token scatters than throughputs do, and how much more 99th percentiles do than
averages, to begin with; about as much as recorded benchmarks show (tests/recorded/bench)"""
RUN_SHARE = 0.5
"""of the noise's variance, what benchmarks of one validation have in common"""

CHECK, PEERS_CHECK = "baseline", "peers"
"""names of the checks"""

Decision = Literal["passed", "failed", "again", "undecided", "none"]


class Comparison(Frozen):
    """One figure against one baseline. Losses are shares: 0.1 is 10 % worse, negative is better."""

    figure: Figure
    against: Literal["host", "peers"]
    decision: Decision
    value: float
    """geometric mean of this validation's benchmarks"""
    benchmarks: int
    baseline: float | None = None
    """None: there is none yet"""
    accepted: int = 0
    """benchmarks that the baseline is made of; of peers, hosts"""
    noise: float = 0.0
    """standard deviation of one benchmark, of peers that of their levels, as a share"""
    loss: float = 0.0
    doubt: float = 1.0
    """probability to see this much or more where no more than the tolerance was lost"""


def figure_of(result: BenchmarkResult, figure: Figure) -> float | None:
    """A figure by vLLM's name; None where the benchmark does not report it."""
    if not is_latency(figure):
        return float(getattr(result, figure))
    kind, name, _ = figure.split("_")
    latency: Latency | None = getattr(result, name)
    return None if latency is None else float(getattr(latency, f"{kind}_ms"))


def level(accepted: Sequence[float], figure: Figure, settings: Baseline) -> tuple[float, ...]:
    """Those of a host's accepted figures, oldest first, that its baseline is made of: the first WINDOW, or the first
    WINDOW of a better level that was held HELD times in a row."""
    held: list[float] = []
    better: list[float] = []
    tolerated = _tolerated(figure, settings)
    for value in accepted:
        if held and _goodness([value], figure)[0] - fmean(_goodness(held, figure)) > tolerated:
            better.append(value)
            if len(better) >= HELD and _gained(held, better, figure, settings):
                held, better = better, []
            continue
        held = (held + better + [value])[:WINDOW] if len(held) < WINDOW else held
        better = []
    return tuple((held + better)[:WINDOW])


def against_host(
    figure: Figure,
    measured: Sequence[float],
    own: Sequence[float],
    peers: Sequence[Sequence[float]],
    settings: Baseline,
) -> Comparison:
    """This validation's figures against the host's own `level`; `peers`' levels tell about noise alone."""
    if not own:
        return _nothing(figure, "host", measured)
    new, old = _goodness(measured, figure), _goodness(own, figure)
    noise, freedom = noise_of([own, measured, *peers], figure, settings)
    error = noise * math.sqrt(1 / len(old) + _share(len(new)))
    return _compared(figure, "host", measured, own, fmean(old) - fmean(new), error, freedom, noise, settings)


def against_peers(
    figure: Figure, measured: Sequence[float], peers: Sequence[Sequence[float]], settings: Baseline
) -> Comparison:
    """This validation's figures against the levels of other hosts like it."""
    peers = [one for one in peers if one]
    if not peers:
        return _nothing(figure, "peers", measured)
    new = _goodness(measured, figure)
    levels = [fmean(_goodness(one, figure)) for one in peers]
    spread, freedom = _pooled([levels], _log(settings.spread_percent), SPREAD_WEIGHT)
    noise, _ = noise_of([measured, *peers], figure, settings)
    error = math.sqrt(spread**2 * (1 + 1 / len(levels)) + noise**2 * _share(len(new)))
    middles = [_figure(one, figure) for one in levels]
    return _compared(figure, "peers", measured, middles, fmean(levels) - fmean(new), error, freedom, spread, settings)


def noise_of(levels: Sequence[Sequence[float]], figure: Figure, settings: Baseline) -> tuple[float, float]:
    """Standard deviation of one benchmark's logarithm, with its degrees of freedom: around each level's own mean."""
    return _pooled([_goodness(one, figure) for one in levels if one], _prior(figure, settings), NOISE_WEIGHT)


def is_latency(figure: Figure) -> bool:
    """Less is better."""
    return figure.endswith("_ms")


def decided(comparisons: Sequence[Comparison]) -> Decision:
    """All comparisons of a validation in one: a failure, then what must be measured again, then what is not decided."""
    found = {one.decision for one in comparisons}
    order: tuple[Decision, ...] = ("failed", "again", "undecided", "passed", "none")
    return next((one for one in order if one in found), "none")


def check(comparison: Comparison, settings: Baseline) -> CheckResult:
    """The comparison as a check of the server, with its figures in words."""
    name = CHECK if comparison.against == "host" else PEERS_CHECK
    passed = comparison.decision != "failed"
    return CheckResult(name=name, passed=passed, detail=told(comparison, settings), seconds=0.0)


def told(one: Comparison, settings: Baseline) -> str:
    """`output_throughput 4,512 tok/s is 11.2 % below this host's baseline 5,081 (5 accepted, noise 1.3 %): …`."""
    unit = _unit(one.figure)
    value = f"{one.figure} {number(one.value)} {unit}"
    if one.baseline is None:
        whose = "of this workload on this host" if one.against == "host" else "by other hosts like this one"
        return f"{value}: no baseline yet, nothing {whose} was accepted"
    below = (one.loss > 0) != is_latency(one.figure)
    whose = "this host's baseline" if one.against == "host" else "its peers'"
    seen = (
        f"{one.accepted} accepted, noise {one.noise:.1%}"
        if one.against == "host"
        else f"{one.accepted} {'hosts' if one.accepted > 1 else 'host'}, spread {one.noise:.1%}"
    ).replace("%", " %")
    again = f", {one.benchmarks} benchmarks" if one.benchmarks > 1 else ""
    distance = f"{abs(one.loss) * 100:.1f} % {'below' if below else 'above'}"
    return f"{value} is {distance} {whose} {number(one.baseline)} ({seen}{again}): {_conclusion(one, settings)}"


def number(value: float) -> str:
    """`4,512`, `98.6`, `3.14`: three digits at least."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def required(result: BenchmarkResult, figure: Figure) -> float:
    """A figure that must be there and be a positive number; GateError otherwise."""
    value = figure_of(result, figure)
    if value is None:
        raise GateError(f"the benchmark does not report {figure}", hint="add it to benchmark.percentile_metrics")
    if not (value > 0 and math.isfinite(value)):
        raise GateError(f"the benchmark says {figure} = {value}: that cannot be compared with a baseline")
    return value


def _compared(
    figure: Figure,
    against: Literal["host", "peers"],
    measured: Sequence[float],
    baseline: Sequence[float],
    lost: float,
    error: float,
    freedom: float,
    noise: float,
    settings: Baseline,
) -> Comparison:
    looks, look = settings.benchmarks, len(measured)
    tolerated = _tolerated(figure, settings)
    doubt = tail((lost - tolerated) / error, freedom)
    decision: Decision
    if lost <= tolerated:
        decision = "passed"
    elif doubt < _allowed(look, looks, 1 - settings.confidence_percent / 100):
        decision = "failed"
    else:
        decision = "again" if look < looks else "undecided"
    return Comparison(
        figure=figure,
        against=against,
        decision=decision,
        value=_figure(fmean(_goodness(measured, figure)), figure),
        benchmarks=look,
        baseline=_figure(fmean(_goodness(baseline, figure)), figure),
        accepted=len(baseline),
        noise=math.expm1(noise),
        loss=_as_share(lost, figure),
        doubt=doubt,
    )


def _allowed(look: int, looks: int, error: float) -> float:
    """The error that this look may make; those of all looks add up to `error`. The first one may make none, unless it
    is the only one: no single benchmark fails the gate."""
    if look >= looks:
        return error if looks <= 2 else error / 2
    return 0.0 if look == 1 else error / 2 / (looks - 2)


def _conclusion(one: Comparison, settings: Baseline) -> str:
    tolerance, confidence = f"{settings.tolerance_percent:g} %", f"{settings.confidence_percent:g} %"
    if one.decision == "failed":
        return f"a loss of more than {tolerance} at {confidence} confidence"
    if one.decision == "passed":
        return f"no loss of more than {tolerance}"
    return f"whether it lost more than {tolerance} is not certain at {confidence} confidence"


def _nothing(figure: Figure, against: Literal["host", "peers"], measured: Sequence[float]) -> Comparison:
    value = _figure(fmean(_goodness(measured, figure)), figure)
    return Comparison(figure=figure, against=against, decision="none", value=value, benchmarks=len(measured))


def _gained(held: Sequence[float], better: Sequence[float], figure: Figure, settings: Baseline) -> bool:
    old, new = _goodness(held, figure), _goodness(better, figure)
    noise, freedom = noise_of([held, better], figure, settings)
    error = noise * math.sqrt(1 / len(old) + 1 / len(new))
    return tail((fmean(new) - fmean(old)) / error, freedom) < 1 - settings.confidence_percent / 100


def _pooled(samples: Sequence[Sequence[float]], prior: float, weight: int) -> tuple[float, float]:
    """Standard deviation around each sample's own mean, and its degrees of freedom, the prior among them. The prior
    counts less where the samples differ by more than it says: it must not talk a noisy host quiet."""
    squares = sum((value - fmean(sample)) ** 2 for sample in samples for value in sample)
    freedom = sum(len(sample) - 1 for sample in samples)
    if squares > freedom * prior**2:
        return _mixed(squares, freedom, prior, weight * prior**2 * freedom / squares)
    return _mixed(squares, freedom, prior, weight)


def _mixed(squares: float, freedom: float, prior: float, weight: float) -> tuple[float, float]:
    return math.sqrt((squares + weight * prior**2) / (freedom + weight)), freedom + weight


def _share(count: int) -> float:
    return RUN_SHARE + (1 - RUN_SHARE) / count


def _goodness(values: Sequence[float], figure: Figure) -> list[float]:
    sign = -1 if is_latency(figure) else 1
    return [sign * math.log(value) for value in values]


def _figure(goodness: float, figure: Figure) -> float:
    return math.exp(-goodness if is_latency(figure) else goodness)


def _tolerated(figure: Figure, settings: Baseline) -> float:
    share = settings.tolerance_percent / 100
    return math.log1p(share) if is_latency(figure) else -math.log1p(-share)


def _as_share(lost: float, figure: Figure) -> float:
    return math.expm1(lost) if is_latency(figure) else -math.expm1(-lost)


def _prior(figure: Figure, settings: Baseline) -> float:
    scale = FIRST_TOKEN_SCALE if "_ttft_" in figure else 1
    return scale * (TAIL_SCALE if figure.startswith("p99_") else 1) * _log(settings.noise_percent)


def _log(percent: float) -> float:
    return math.log1p(percent / 100)


def _unit(figure: Figure) -> str:
    return "ms" if is_latency(figure) else "req/s" if figure == "request_throughput" else "tok/s"
