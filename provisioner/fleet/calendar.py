"""Points in time as systemd's timers write them (systemd.time(7), "calendar events"): `Sat *-*-* 02:00`.

What is accepted here is accepted by every systemd. Left out: fractions of seconds, `@` and forms that it warns of.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from provisioner.fleet.keypath import quoted

EXPECTED = "a time as systemd's timers have it, such as `Sat *-*-* 02:00` or `Mon..Fri 03:30`"
_NAMES = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "semi-annually": "*-01,07-01 00:00:00",
    "biannually": "*-01,07-01 00:00:00",
    "bi-annually": "*-01,07-01 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
    "anually": "*-01-01 00:00:00",
}
_DAYS = {
    name: number
    for number, names in enumerate(
        [
            ("mon", "monday"),
            ("tue", "tuesday"),
            ("wed", "wednesday"),
            ("thu", "thursday"),
            ("fri", "friday"),
            ("sat", "saturday"),
            ("sun", "sunday"),
        ]
    )
    for name in names
}
_PART = re.compile(r"(\d+)(?:\.\.(\d+))?(?:/(\d+))?", re.ASCII)
_TIME = re.compile(r"([\d*,./]+):([\d*,./]+)(?::([\d*,./]+))?", re.ASCII)
_DATE = re.compile(r"(?:([\d*,./]+)-)?([\d*,./]+)([-~])([\d*,./]+)", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_FARTHEST_DAYS = 366 * 5


@dataclass(frozen=True)
class Calendar:
    """What fits. `from_end`: days count from the last one of the month."""

    weekdays: frozenset[int]
    years: frozenset[int]
    months: frozenset[int]
    days: frozenset[int]
    from_end: bool
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    zone: str | None

    def previous(self, now: datetime, zone: tzinfo | None = None) -> datetime | None:
        """The last such time up to `now`, within five years. `zone`: where the calendar names none."""
        there = ZoneInfo(self.zone) if self.zone else zone
        local = now.astimezone(there)
        for back in range(_FARTHEST_DAYS):
            day = local.date() - timedelta(days=back)
            if not self._fits(day):
                continue
            for hour in reversed(self.hours):
                for minute in reversed(self.minutes):
                    for second in reversed(self.seconds):
                        found = _at(day, hour, minute, second, local.tzinfo if there is None else there)
                        if found <= now:
                            return found
        return None

    def _fits(self, day: date) -> bool:
        if day.weekday() not in self.weekdays or day.year not in self.years or day.month not in self.months:
            return False
        last = calendar.monthrange(day.year, day.month)[1]
        return (last - day.day + 1 if self.from_end else day.day) in self.days


def parse_calendar(text: str) -> Calendar:
    """ValueError, saying what is wrong, for anything that systemd might not take."""
    words = text.split()
    zone = None
    if len(words) > 1 and _is_zone(words[-1]):
        zone = words.pop()
    if len(words) == 1 and words[0].lower() in _NAMES:
        words = _NAMES[words[0].lower()].split()
    weekdays = frozenset(range(7))
    if words and words[0][0].isalpha():
        weekdays = _weekdays(words.pop(0), text)
    elif not words:
        raise ValueError(f"expected {EXPECTED}, got nothing")
    when = _TIME.fullmatch(words[-1]) if words else None
    if when:
        words.pop()
    day = _DATE.fullmatch(words[0]) if len(words) == 1 else None
    if words and day is None:
        raise ValueError(f"expected {EXPECTED}, got {quoted(text)}: what is {quoted(' '.join(words))}?")
    hour, minute, second = when.groups() if when else ("0", "0", "0")
    year, month, sign, days = day.groups() if day else (None, "*", "-", "*")
    return Calendar(
        weekdays=weekdays,
        years=frozenset(_numbers(year or "*", "year", 1970, 2199)),
        months=frozenset(_numbers(month, "month", 1, 12)),
        days=frozenset(_numbers(days, "day", 1, 31, from_end=sign == "~")),
        from_end=sign == "~",
        hours=_numbers(hour, "hour", 0, 23),
        minutes=_numbers(minute, "minute", 0, 59),
        seconds=_numbers(second or "0", "second", 0, 59),
        zone=zone,
    )


def known_zone(name: str) -> bool:
    """Whether it is a time zone's name."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _is_zone(word: str) -> bool:
    return bool(_ZONE.fullmatch(word)) and word.lower() not in _NAMES and not _day_list(word) and known_zone(word)


def _day_list(word: str) -> bool:
    return all(part.lower() in _DAYS for part in re.split(r",|\.\.", word))


def _weekdays(word: str, text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        ends = [_DAYS.get(name.lower()) for name in part.split("..")]
        if len(ends) > 2 or None in ends:
            raise ValueError(f"expected {EXPECTED}, got {quoted(text)}: what is {quoted(part)}?")
        first, last = ends[0], ends[-1]
        if first is None or last is None or first > last:
            raise ValueError(f"{quoted(part)} goes backwards: a week begins on Monday")
        found |= set(range(first, last + 1))
    return frozenset(found)


def _numbers(text: str, what: str, low: int, high: int, *, from_end: bool = False) -> tuple[int, ...]:
    if text == "*":
        return tuple(range(low, high + 1))
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{quoted(part)} is no {what}: a number, a range 1..5, with a step 0/15, or *")
        first, last, step = (int(one) if one else None for one in match.groups())
        if what == "year":
            first, last = (_year(one) if one is not None else None for one in (first, last))
        if first is None or not low <= first <= high or (last is not None and not low <= last <= high):
            raise ValueError(f"{quoted(part)} is no {what}: {low} to {high}")
        if last is not None and last < first:
            raise ValueError(f"{quoted(part)} goes backwards")
        if step == 0:
            raise ValueError(f"{quoted(part)} has a step of 0")
        if step is not None and not _has_room(first, last, step, low, high, from_end=from_end):
            raise ValueError(f"{quoted(part)} has a step that leads nowhere")
        found |= _stepped(first, last, step, low, high, from_end=from_end)
    return tuple(sorted(found))


def _has_room(first: int, last: int | None, step: int, low: int, high: int, *, from_end: bool) -> bool:
    """Whether one step from the first leads to another: systemd refuses it otherwise."""
    if last is not None:
        return first + step <= last
    return first - step >= low if from_end else first + step <= high


def _stepped(first: int, last: int | None, step: int | None, low: int, high: int, *, from_end: bool) -> set[int]:
    """Days that count from the end of a month go towards it."""
    if step is None:
        return set(range(first, (first if last is None else last) + 1))
    if from_end:
        begin, end = (first, low) if last is None else (last, first)
        return set(range(begin, end - 1, -step))
    return set(range(first, (high if last is None else last) + 1, step))


def _year(number: int) -> int:
    return number + (2000 if number < 70 else 1900) if number < 100 else number


def _at(day: date, hour: int, minute: int, second: int, zone: tzinfo | None) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=zone)
