"""What the history says a server can do: the levels of its baseline, out of accepted measurements. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from provisioner.fleet.models import Baseline, Figure
from provisioner.history.rows import Measurement
from provisioner.validate.baseline import figure_of, level


class Place(NamedTuple):
    """Whose benchmarks a baseline is made of."""

    fleet: str
    host: str
    server: str


Levels = Mapping[Figure, Mapping[Place, tuple[float, ...]]]


def place_of(one: Measurement) -> Place:
    """Where it was measured."""
    return Place(one.fleet, one.host, one.server)


class Kind(NamedTuple):
    """What measurements must share to be compared: the load, the hardware, and what stands in for the real thing."""

    workload: str
    """"" where it is not known: such measurements are compared with none"""
    hardware: str
    simulated: bool
    engine: str


def kind_of(one: Measurement) -> Kind:
    """What it can be compared with."""
    return Kind(one.workload, one.hardware, one.simulated, one.engine)


def comparable(one: Measurement, known: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """Those of `known` that can be compared with `one`."""
    return tuple(other for other in known if one.workload and kind_of(other) == kind_of(one))


def levels_of(known: Sequence[Measurement], figure: Figure, settings: Baseline) -> dict[Place, tuple[float, ...]]:
    """By place: the figures that its baseline is made of, out of comparable measurements, oldest first."""
    places: dict[Place, list[Measurement]] = {}
    for one in known:
        if one.accepted:
            places.setdefault(place_of(one), []).append(one)
    return {place: level(_values(series, figure), figure, settings) for place, series in places.items()}


def since_replaced(series: Sequence[Measurement]) -> Sequence[Measurement]:
    """What counts of the accepted measurements of one place: what was accepted before the last replacement does not."""
    since = max((one.replaces for one in series), default=0)
    return [one for one in series if one.acceptance >= since]


def _values(series: Sequence[Measurement], figure: Figure) -> list[float]:
    found = (figure_of(one.result, figure) for one in since_replaced(series))
    return [value for value in found if value is not None and value > 0]
