"""Editing vLLM argument lists: a flag is a unit with the values after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def set_flag(argv: Sequence[str], flag: str, *values: str) -> tuple[str, ...]:
    """`argv` with `flag` given once, with these values: in place where it stood, else at the end."""
    start = _find(argv, flag)
    if start is None:
        return (*argv, flag, *values)
    return (*argv[:start], flag, *values, *drop_flag(argv[start:], flag))


def drop_flag(argv: Sequence[str], flag: str) -> tuple[str, ...]:
    """`argv` without `flag` and its values, however often it is given."""
    start = _find(argv, flag)
    if start is None:
        return tuple(argv)
    return (*argv[:start], *drop_flag(argv[_end(argv, start) :], flag))


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """The value of `flag` (or `flag=value`), the last one where it is given more than once, as vLLM takes it.

    None where the flag is not given, "" where it has no value.
    """
    found = None
    for position, word in enumerate(argv):
        if word.startswith(f"{flag}="):
            found = word.removeprefix(f"{flag}=")
        elif word == flag:
            found = "".join(argv[position + 1 : min(position + 2, _end(argv, position))])
    return found


def _find(argv: Sequence[str], flag: str) -> int | None:
    return next((i for i, word in enumerate(argv) if word == flag or word.startswith(f"{flag}=")), None)


def _end(argv: Sequence[str], start: int) -> int:
    if "=" in argv[start]:
        return start + 1
    return next((i for i in range(start + 1, len(argv)) if is_flag(argv[i])), len(argv))


def is_flag(word: str) -> bool:
    """Whether a word is a flag: a minus with a digit after it is a negative number."""
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit()


def any_flag(argv: Iterable[str], *flags: str) -> bool:
    """Whether one of the flags is given, alone or as flag=value."""
    return any(word.split("=", 1)[0] in flags for word in argv)
