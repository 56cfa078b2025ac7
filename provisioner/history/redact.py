"""Keeping secrets out of everything that is shown or kept."""

from __future__ import annotations

from collections.abc import Iterable

MASK = "[redacted]"
SHORTEST = 4
"""characters; shorter values are not replaced: they would blank out ordinary words and protect nothing"""


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret value replaced; the longest first, as one may contain another."""
    for secret in sorted({value for value in secrets if len(value) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
