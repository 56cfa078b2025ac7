"""Paths of keys in a file, and how they are written in messages."""

from __future__ import annotations

import json
import re

Key = tuple[str | int, ...]
"""From the top: names of mappings, indexes of lists (from 0)."""

_PLAIN = re.compile(r"[A-Za-z0-9_/\[:\]-]{1,80}")
_MOST = 80


def dotted(path: Key) -> str:
    """`servers.nemotron.extra_args[2]`; parts with other characters are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN.fullmatch(part) else quoted(part))
    return text


def quoted(text: str, most: int = _MOST) -> str:
    """Text in double quotes, shortened, with everything that a terminal could act on escaped."""
    short = text if len(text) <= most else text[: most - 1] + "…"
    safe = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in json.dumps(short, ensure_ascii=False)[1:-1])
    return f'"{safe}"'
