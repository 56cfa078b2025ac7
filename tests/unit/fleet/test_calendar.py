"""Calendars and the windows that they open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.fleet.calendar import parse_calendar
from provisioner.fleet.durations import duration_text, parse_duration
from provisioner.fleet.schedule import Schedule, Window, opening

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)  # a Tuesday


def previous(text: str, now: datetime = NOW) -> str:
    found = parse_calendar(text).previous(now, UTC)
    return f"{found:%a %Y-%m-%d %H:%M:%S}" if found else "never"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*-*-* 02:00", "Tue 2026-11-24 02:00:00"),
        ("*-*-* 16:00", "Tue 2026-11-24 16:00:00"),
        ("*-*-* 16:00:01", "Mon 2026-11-23 16:00:01"),
        ("Sat 02:00", "Sat 2026-11-21 02:00:00"),
        ("Sat..Sun 22:00", "Sun 2026-11-22 22:00:00"),
        ("*:0/15", "Tue 2026-11-24 16:00:00"),
        ("weekly", "Mon 2026-11-23 00:00:00"),
        ("*-02-29", "Thu 2024-02-29 00:00:00"),
        ("*-*~1 03:00", "Sat 2026-10-31 03:00:00"),
        ("Mon *-05~07/1", "Mon 2026-05-25 00:00:00"),
        ("2030-01-01", "never"),
        ("02:00 Europe/Berlin", "Tue 2026-11-24 02:00:00"),
    ],
)
def test_previous(text: str, expected: str) -> None:
    assert previous(text) == expected


def test_a_time_zone_of_its_own() -> None:
    found = parse_calendar("02:00 Europe/Berlin").previous(NOW, UTC)
    assert found
    assert found.astimezone(UTC) == datetime(2026, 11, 24, 1, 0, tzinfo=UTC)


def test_without_a_zone_the_machines_counts() -> None:
    zone = timezone(timedelta(hours=3))
    found = parse_calendar("02:00").previous(NOW, zone)
    assert found == datetime(2026, 11, 24, 2, 0, tzinfo=zone)
    assert parse_calendar("02:00").previous(NOW) is not None


@given(st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)), st.integers(0, 23))
def test_the_last_one_is_within_a_day(now: datetime, hour: int) -> None:
    found = parse_calendar(f"{hour}:30").previous(now, UTC)
    assert found
    assert timedelta(0) <= now - found < timedelta(days=1)


def window(planned: str, start: str | None = "04:00", end: str | None = "06:00", zone: str = "UTC") -> Schedule:
    return Schedule(calendar=planned, time_zone=zone, window=Window(latest_start=start, latest_end=end))


@pytest.mark.parametrize(
    ("schedule", "planned", "start", "end"),
    [
        (window("02:00"), "24 02:00", "24 04:00", "24 06:00"),
        (window("22:00"), "23 22:00", "24 04:00", "24 06:00"),
        (window("Sat 23:30", "00:30", None), "21 23:30", "22 00:30", "None"),
        (window("04:00", "04:00", "04:00"), "24 04:00", "25 04:00", "25 04:00"),
    ],
)
def test_windows(schedule: Schedule, planned: str, start: str, end: str) -> None:
    found = opening(schedule, NOW)
    assert found
    times = (found.planned, found.latest_start, found.latest_end)
    assert tuple(f"{one:%d %H:%M}" if one else "None" for one in times) == (planned, start, end)


def test_a_window_in_the_night_that_clocks_go_back() -> None:
    """Berlin, 25 October 2026: 03:00 becomes 02:00 again."""
    found = opening(window("01:00", "02:30", "04:00", "Europe/Berlin"), datetime(2026, 10, 25, 8, 0, tzinfo=UTC))
    assert found
    assert found.latest_end
    assert found.planned.astimezone(UTC) == datetime(2026, 10, 24, 23, 0, tzinfo=UTC)
    assert found.latest_end.astimezone(UTC) == datetime(2026, 10, 25, 3, 0, tzinfo=UTC)


def test_no_window() -> None:
    assert opening(Schedule(), NOW) is None
    assert opening(window("2030-01-01"), NOW) is None


@given(st.integers(0, 86400 * 9999))
def test_durations(seconds: int) -> None:
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("0", 0)])
def test_a_duration(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "10 m", "m", "-1s", "1.5h", "1m1h", "٣m", "1w"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a length of time such as 90s, 10m or 1h30m, got "):
        parse_duration(text)
