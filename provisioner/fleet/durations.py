"""Lengths of time as people write them: `90s`, `10m`, `1h30m`, `2d`."""

from __future__ import annotations

import re

from provisioner.fleet.keypath import quoted

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?", re.ASCII)
EXPECTED = "a length of time such as 90s, 10m or 1h30m"


def parse_duration(text: str) -> int:
    """Seconds. ValueError for anything else; a bare number is one only when it is 0: seconds or minutes?"""
    if text == "0":
        return 0
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"expected {EXPECTED}, got {quoted(text)}")
    return sum(int(count or 0) * _UNITS[unit] for count, unit in zip(found.groups(), _UNITS, strict=True))


def duration_text(seconds: int) -> str:
    """The shortest way to write it."""
    parts = []
    for unit, length in _UNITS.items():
        count, seconds = divmod(seconds, length)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"
