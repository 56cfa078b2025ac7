"""Calendars, compared with systemd's own reading of them."""

from __future__ import annotations

import random
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from provisioner.fleet.calendar import parse_calendar

ANALYZE = shutil.which("systemd-analyze")
pytestmark = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
GOOD = """
*-*-* 02:00 | Sat 02:00 | Mon..Fri *-*-* 02:00 Europe/Berlin | daily UTC | *:0/15 | 2:0 | 2026-1-1 | *-*~1 3:00
*-02~03 | Mon *-05~07/1 | sat,sun 1..5:00 | weekly | Sat | *-*-1,15 4:30 | 1..5/2:00 | 26-01-01 | Monday 2:00
Mon,Wed..Fri 2:00 | 2026-02-30 | quarterly | *:*:* | *-* 02:00 | 2000..2030-01..03-05 *:30 | hourly Europe/Paris
1/5:00:30 | monthly | yearly | *-*-31 23:59:59 | 0/6:00 | Fri 18:00 UTC
"""
BAD = """
*-*-*/2 02:00 | */2:00 | 02 | 5 | * | *-*-* 02:00 Nowhere/Zone | Sun..Tue 1:00 | 22..02:00 | *-*-31 00:00:60
Mon Tue 2:00 | 1969-01-01 | 1/0:00 | *-13-01 | 24:00 | 23:59:60 | x | Sat 02:00 Sun | tomorrow | 2026-00-01 | *-*-32
4/1:57/9 | *-*~5/5 | 1,,2:00 | ..5:00 | Mon.. 2:00 | daily daily | :30 | 02: | 02:00:00:00
"""


def words(text: str) -> list[str]:
    return [one.strip() for line in text.strip().splitlines() for one in line.split("|")]


def systemd(*argv: str) -> str | None:
    assert ANALYZE
    environment = {"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C"}
    done = subprocess.run([ANALYZE, *argv], capture_output=True, text=True, env=environment, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("text", words(GOOD))
def test_both_take_it(text: str) -> None:
    assert systemd("calendar", text) is not None
    parse_calendar(text)


@pytest.mark.parametrize("text", words(BAD))
def test_both_refuse_it(text: str) -> None:
    assert systemd("calendar", text) is None
    with pytest.raises(ValueError, match=r"expected|is no|backwards|step"):
        parse_calendar(text)


def test_of_chance_calendars_none_is_taken_that_systemd_refuses() -> None:
    """And the time that systemd says comes next is the one that had come, seen from then, and not a moment before."""
    chance = random.Random(7)  # noqa: S311
    taken = 0
    for _ in range(150):
        text = _calendar(chance)
        try:
            ours = parse_calendar(text)
        except ValueError:
            continue
        base = datetime(2026, chance.randint(1, 12), chance.randint(1, 28), chance.randint(0, 23), 30, tzinfo=UTC)
        told = systemd("calendar", f"--base-time={base:%Y-%m-%d %H:%M:%S} UTC", text)
        assert told is not None, text
        lines = dict(line.strip().split(": ", 1) for line in told.splitlines() if ": " in line)
        after = lines.get("Next elapse", "never")
        if after == "never":
            continue
        coming = datetime.strptime(after.removesuffix(" UTC"), "%a %Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        taken += 1
        assert ours.previous(coming, UTC) == coming, (text, base)
        earlier = ours.previous(coming - timedelta(seconds=1), UTC)
        assert earlier is None or earlier <= base, (text, base, earlier)
    assert taken > 40


def _calendar(chance: random.Random) -> str:
    def part(low: int, high: int) -> str:
        first = chance.randint(low, high)
        last = chance.randint(first, high)
        forms = [
            "*",
            f"{first}",
            f"{first}..{last}",
            f"{first}/{chance.randint(1, 9)}",
            f"{first},{last}",
            f"{last + 1}",
        ]
        return chance.choice(forms)

    days = ["", "Mon ", "Sat,Sun ", "Mon..Fri ", "Tue..Thu,Sun "]
    sign = chance.choice("---~")
    day = chance.choice(["*-*-* ", f"*-{part(1, 12)}{sign}{part(1, 28)} ", ""])
    return f"{chance.choice(days)}{day}{part(0, 23)}:{part(0, 59)}"
