"""Ranges in host names: `gpu-[01:16]`, `rack-[a:c]-[1:9:2]`."""

from __future__ import annotations

import re

_RANGE = re.compile(r"\[(\d{1,9}|[a-z]):(\d{1,9}|[a-z])(?::(\d{1,9}))?\]")
MOST = 10_000
"""names in one range; a slip such as [1:99999999] should be an error, not a full memory"""


def expand(name: str) -> list[str]:
    """All names that a pattern stands for, in order; numbers keep the width of the first. ValueError says what is
    wrong with a range."""
    found = _RANGE.search(name)
    if found is None:
        if "[" in name or "]" in name:
            raise ValueError("expected a range such as [01:16] or [a:f] in the brackets")
        return [name]
    values = _values(*found.groups())
    rest = expand(name[found.end() :])
    if len(values) * len(rest) > MOST:
        raise ValueError(f"names {len(values) * len(rest)} hosts, at most {MOST} in one range")
    return [f"{name[: found.start()]}{value}{tail}" for value in values for tail in rest]


def names_of(pattern: str) -> list[str]:
    """The same, and nothing for a range that is wrong."""
    try:
        return expand(pattern)
    except ValueError:
        return []


def _values(first: str, last: str, step: str | None) -> list[str]:
    by = int(step or 1)
    if by < 1:
        raise ValueError("a range's step must be 1 or more")
    if first.isdigit() != last.isdigit():
        raise ValueError("a range goes from a number to a number or from a letter to a letter")
    low, high = (int(first), int(last)) if first.isdigit() else (ord(first), ord(last))
    if low > high:
        raise ValueError(f"a range goes upwards, not from {first} to {last}")
    numbers = range(low, high + 1, by)
    if len(numbers) > MOST:
        raise ValueError(f"names {len(numbers)} hosts, at most {MOST} in one range")
    return [f"{n:0{len(first)}}" if first.isdigit() else chr(n) for n in numbers]
