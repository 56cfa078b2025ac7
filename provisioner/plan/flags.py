"""Editing vLLM argument lists: a flag is a unit with the values after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def set_flag(argv: Sequence[str], flag: str, *values: str) -> tuple[str, ...]:
    """`argv` with `flag` given once, with these values: in place where it stood, else at the end."""
    start = _find(argv, flag)
    if start is None:
        return (*argv, flag, *values)
    return (*argv[:start], flag, *values, *argv[_end(argv, start) :])


def drop_flag(argv: Sequence[str], flag: str) -> tuple[str, ...]:
    """`argv` without `flag` and its values."""
    start = _find(argv, flag)
    return tuple(argv) if start is None else (*argv[:start], *argv[_end(argv, start) :])


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """The value that follows `flag` (or `flag=value`); None where the flag is not given."""
    for position, word in enumerate(argv):
        if word == flag:
            return argv[position + 1] if position + 1 < len(argv) else ""
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None


def _find(argv: Sequence[str], flag: str) -> int | None:
    return next((i for i, word in enumerate(argv) if word == flag or word.startswith(f"{flag}=")), None)


def _end(argv: Sequence[str], start: int) -> int:
    return next((i for i in range(start + 1, len(argv)) if _is_flag(argv[i])), len(argv))


def _is_flag(word: str) -> bool:
    return word.startswith("--") or (len(word) == 2 and word[0] == "-" and word[1].isalpha())


def any_flag(argv: Iterable[str], *flags: str) -> bool:
    """Whether one of the flags is given, alone or as flag=value."""
    return any(word.split("=", 1)[0] in flags for word in argv)
