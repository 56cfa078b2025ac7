"""When a fleet is rolled out by itself, as an operator writes it, and the window that follows from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, StringConstraints, model_validator

from provisioner.fleet.base import Frozen
from provisioner.fleet.calendar import known_zone, parse_calendar
from provisioner.fleet.durations import parse_duration
from provisioner.fleet.keypath import quoted

CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
FORMATS = {CLOCK: "a time of day in quotes, such as '04:00'"}


def _calendar(value: str) -> str:
    parse_calendar(value)
    return value


def _zone(value: str) -> str:
    if not known_zone(value):
        raise ValueError(f"{quoted(value)} is no time zone that this machine knows, such as Europe/Berlin or UTC")
    return value


def _duration(value: str) -> str:
    parse_duration(value)
    return value


CalendarText = Annotated[str, AfterValidator(_calendar)]
Zone = Annotated[str, AfterValidator(_zone)]
Duration = Annotated[str, AfterValidator(_duration)]
Clock = Annotated[str, StringConstraints(pattern=CLOCK)]


class Window(Frozen):
    """The time after a scheduled one in which hosts may be changed."""

    latest_start: Clock | None = None
    """Time of day after which no run begins, as when the control machine was off; left out: any time."""
    latest_end: Clock | None = None
    """Time of day by which all is over: no wave begins unless it, and going back from it, can end by then."""


class Schedule(Frozen):
    """When this control machine looks at the fleet, and changes what is not as planned."""

    calendar: CalendarText | None = None
    """A time as systemd's timers have it (systemd.time): `Sat *-*-* 02:00`, `Mon..Fri 03:30`, `daily`."""
    time_zone: Zone | None = None
    """Of the calendar and the window; left out: the control machine's."""
    window: Window = Window()
    jitter: Duration = "0"
    """How much later it begins at most, by chance, so that not all fleets of a site begin at once: 15m."""
    lock: Literal["keep", "update"] = "keep"
    """keep: what `fleet.lock` has; update: tags, branches and revisions are looked up anew before the plan is made."""
    wave_time: Duration = "1h"
    """How long a host is taken to need in a wave where the history does not know yet, and for going back once more."""

    @model_validator(mode="after")
    def _one_zone(self) -> Self:
        if self.calendar and self.time_zone and parse_calendar(self.calendar).zone:
            raise ValueError("the calendar names a time zone, and time_zone another: one of them is enough")
        return self


@dataclass(frozen=True)
class Opening:
    """The window of one scheduled time."""

    planned: datetime
    latest_start: datetime | None
    latest_end: datetime | None


def opening(schedule: Schedule, now: datetime) -> Opening | None:
    """The window that the last scheduled time up to `now` opened; None where there was none yet."""
    if schedule.calendar is None:
        return None
    of = parse_calendar(schedule.calendar)
    zone = ZoneInfo(schedule.time_zone) if schedule.time_zone else ZoneInfo(of.zone) if of.zone else None
    planned = of.previous(now, zone)
    if planned is None:
        return None
    local = planned if zone is None else planned.astimezone(zone)
    start, end = (_next(local, clock, zone) for clock in (schedule.window.latest_start, schedule.window.latest_end))
    return Opening(planned, start, end)


def _next(after: datetime, clock: str | None, zone: tzinfo | None) -> datetime | None:
    """The first time of that clock after a time."""
    if clock is None:
        return None
    wanted, zone = time.fromisoformat(clock), zone or after.tzinfo
    today = datetime.combine(after.date(), wanted, tzinfo=zone)
    return today if today > after else datetime.combine(after.date() + timedelta(days=1), wanted, tzinfo=zone)
