"""Two runs side by side: every figure of every server, and whether a difference is more than noise. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Baseline, Figure
from provisioner.history.rows import Measurement
from provisioner.validate.baseline import figure_of, is_latency, noise_of
from provisioner.validate.levels import comparable, levels_of
from provisioner.validate.student import tail

FIGURES: tuple[Figure, ...] = get_args(Figure)


class Difference(Frozen):
    """One figure in two runs."""

    figure: Figure
    first: float
    second: float
    change: float
    """share by which the second is more (negative: less)"""
    noise: float
    """standard deviation of one benchmark, as a share: of the accepted ones, and of the settings where few are"""
    beyond_noise: bool
    """differs by more than noise does, at the confidence of the settings, whichever way"""
    better: bool
    """the second is the better one, if it is"""


class ServerComparison(Frozen):
    """One server in two runs; None where a run has no benchmark of it."""

    host: str
    server: str
    first: Measurement | None
    second: Measurement | None
    comparable: bool
    """both were measured under the same load, on the same hardware, by the same kind of engine"""
    differences: tuple[Difference, ...] = ()


def compared(
    first: Sequence[Measurement], second: Sequence[Measurement], known: Sequence[Measurement], settings: Baseline
) -> tuple[ServerComparison, ...]:
    """Every server that one of the runs measured, the last benchmark of each. `known`: the whole history, for noise."""
    before, after = ({(one.host, one.server): one for one in run} for run in (first, second))
    return tuple(_server(*key, before.get(key), after.get(key), known, settings) for key in sorted({*before, *after}))


def _server(
    host: str,
    server: str,
    first: Measurement | None,
    second: Measurement | None,
    known: Sequence[Measurement],
    settings: Baseline,
) -> ServerComparison:
    if first is None or second is None:
        return ServerComparison(host=host, server=server, first=first, second=second, comparable=False)
    alike = bool(comparable(first, [second]))
    kin = comparable(second, known)
    found = (_difference(figure, first, second, kin, settings) for figure in FIGURES) if alike else ()
    return ServerComparison(
        host=host,
        server=server,
        first=first,
        second=second,
        comparable=alike,
        differences=tuple(one for one in found if one is not None),
    )


def _difference(
    figure: Figure, first: Measurement, second: Measurement, kin: Sequence[Measurement], settings: Baseline
) -> Difference | None:
    before, after = figure_of(first.result, figure), figure_of(second.result, figure)
    if not before or not after:  # not reported, or nothing: no ratio tells how far they are apart
        return None
    noise, freedom = noise_of(list(levels_of(kin, figure, settings).values()), figure, settings)
    distance = math.log(after / before)
    doubt = 2 * tail(abs(distance) / (noise * math.sqrt(2)), freedom)
    return Difference(
        figure=figure,
        first=before,
        second=after,
        change=math.expm1(distance),
        noise=math.expm1(noise),
        beyond_noise=doubt < 1 - settings.confidence_percent / 100,
        better=(distance < 0) == is_latency(figure) and distance != 0,
    )
