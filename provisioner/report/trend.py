"""Series of benchmarks that can be compared, and where image, driver or vLLM changed between two of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from provisioner.history.rows import Measurement
from provisioner.report.model import Mark, Trend
from provisioner.report.sparkline import sparkline
from provisioner.report.table import History
from provisioner.report.words import count, number, percent


def trends(measurements: Iterable[Measurement]) -> tuple[Trend, ...]:
    """One a host and server, in the order of the hosts' names. `measurements`: oldest first, of any hosts."""
    series: dict[tuple[str, str], list[Measurement]] = {}
    for one in measurements:
        series.setdefault((one.host, one.server), []).append(one)
    return tuple(_trend(series[key]) for key in sorted(series))


def history(measurements: Iterable[Measurement]) -> History:
    """What the final table's column `history` is drawn from."""
    return {(trend.host, trend.server): trend.throughputs for trend in trends(measurements)}


def trend_line(trend: Trend) -> str:
    """A trend in one line of text: `▅▆▅▂  1435 → 1301 output tok/s (−9.3 %), 4 benchmarks; image changed`."""
    newest, words = trend.throughputs[-1], count(len(trend.measurements), "benchmark")
    if trend.change is None:
        return f"{number(newest)} output tok/s, {words}"
    changed = [mark.what for mark in trend.marks if mark.index == len(trend.measurements) - 1]
    note = f"; {', '.join(changed)} changed" if changed else ""
    figures = f"{number(trend.throughputs[-2])} → {number(newest)} output tok/s ({percent(trend.change)})"
    return f"{sparkline(trend.throughputs)}  {figures}, {words}{note}"


def mark_text(mark: Mark) -> str:
    """`image 3939dab0908a → a5f0460fc3df`."""
    return f"{mark.what} {mark.before} → {mark.after}"


def _trend(series: list[Measurement]) -> Trend:
    newest = series[-1]
    alike = tuple(one for one in series if one.id == newest.id or (one.workload and _kind(one) == _kind(newest)))
    return Trend(
        host=newest.host,
        server=newest.server,
        measurements=alike,
        marks=tuple(mark for index in range(1, len(alike)) for mark in _marks(index, alike[index - 1], alike[index])),
        others=len(series) - len(alike),
    )


def _kind(one: Measurement) -> tuple[str, str, str]:
    """What has to be the same: the load, the hardware, and whether it was vLLM or one of its stand-ins."""
    return one.workload, one.hardware, one.engine


def _marks(index: int, before: Measurement, after: Measurement) -> list[Mark]:
    watched: tuple[tuple[Literal["image", "driver", "vLLM"], str | None, str | None], ...] = (
        ("image", before.image, after.image),
        ("driver", before.driver, after.driver),
        ("vLLM", before.version, after.version),
    )
    # What was not known before has not changed, as far as anybody can tell.
    return [
        Mark(index=index, what=what, before=old, after=new) for what, old, new in watched if old and new != old and new
    ]
