"""Near misses: what somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to `word`; None when nothing is near."""
    by_folded = {name.casefold(): name for name in known}
    found = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str], *, most: int = 12) -> str | None:
    """A hint: the near miss, else what there is to choose from (its beginning, with the rest counted)."""
    names = list(known)
    nearest = near(word, names)
    if nearest is not None:
        return f'did you mean "{nearest}"?'
    if not names:
        return None
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"known: {', '.join(names[:most])}{more}"
