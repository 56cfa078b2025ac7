"""Results of pure functions, kept for arguments that are the very same objects.

Hosts of a fleet share servers, recipes and profiles as objects (`fleet/placement.py`), and those are frozen: what was
made of them once need not be made again for each of ten thousand hosts. Comparing them by value would cost as much.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_PLAIN = (str, int, float, type(None))


class _Same:
    """An object that equals itself alone. It is kept alive with the result, so that no other takes its identity."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held

    def __hash__(self) -> int:
        return id(self.held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.held is self.held


def kept(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keeps the last `most` results. Texts and numbers are compared by value, all other arguments by identity."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @lru_cache(maxsize=most)
        def made(*args: Hashable) -> R:
            plain = [arg.held if isinstance(arg, _Same) else arg for arg in args]
            return function(*plain)  # type: ignore[call-arg, arg-type]  # as `wrapper` was called

        @wraps(function)
        def wrapper(*args: P.args, **_: P.kwargs) -> R:
            return made(*(arg if isinstance(arg, _PLAIN) else _Same(arg) for arg in args))

        return wrapper

    return decorate
