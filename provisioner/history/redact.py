"""Keeping secrets out of everything that is shown or kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

MASK = "[redacted]"
SHORTEST = 4
"""characters; shorter values are not replaced: they would blank out ordinary words and protect nothing"""


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret value replaced; the longest first, as one may contain another."""
    for secret in sorted({value for value in secrets if len(value) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def redact_data(data: Any, secrets: Collection[str]) -> Any:
    """The same in all texts of nested dicts, lists and tuples; keys are left as they are."""
    if isinstance(data, str):
        return redact(data, secrets)
    if isinstance(data, dict):
        return {key: redact_data(value, secrets) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(redact_data(value, secrets) for value in data)
    return data
