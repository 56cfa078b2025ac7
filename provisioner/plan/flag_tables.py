"""Which vLLM version has which flag: `data/flags.json`, made by `scripts/vllm_flags.py` from help texts and sources.

Versions between two tables have what both have; of a flag that only one of them has, nothing is known. Versions of
one minor release count as one. Newer versions than the newest table, and unknown ones (`latest`, a digest), are judged
by the newest table, and may have flags that are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from provisioner.plan.versions import Version, parse

Command = Literal["serve", "bench serve"]
_DATA = Path(__file__).parent / "data" / "flags.json"


def has(command: Command, flag: str, version: str | None) -> bool | None:
    """Whether this version has the flag; None when that is not known. `version` None: some newer one."""
    bits = _table()[command]["names"].get(flag, "0" * len(_versions()))
    return _judge([bit == "1" for bit in bits], version)


def has_help(command: Command, version: str | None) -> bool:
    """Whether the flags of this version's minor release were read off its help text."""
    return version is not None and any(parse(text)[:2] == parse(version)[:2] for text in _table()[command]["help"])


def known_in(command: Command, flag: str) -> str:
    """The versions that are known to have a flag, in words: `0.11.2 to 0.17.1`; "" for none."""
    bits = _table()[command]["names"].get(flag, "")
    texts = _table()["versions"]
    spans: list[list[str]] = []
    for position, bit in enumerate(bits):
        if bit == "0":
            continue
        if position and bits[position - 1] == "1":
            spans[-1].append(texts[position])
        else:
            spans.append([texts[position]])
    return ", ".join(span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans)


def names(command: Command, version: str | None) -> tuple[str, ...]:
    """Every flag that this version is known to have."""
    return tuple(name for name in _table()[command]["names"] if has(command, name, version))


def option(command: Command, flag: str, version: str | None) -> tuple[dict[str, Any] | None, bool]:
    """How the flag is given in this version (`kind`, perhaps `choices`), and whether a help text of it says so.

    Without a help text of the version the nearest older one with the flag speaks, else the nearest newer one.
    """
    rows = [row for row in _table()[command]["options"] if flag in row["names"]]
    texts = {text: row for row in rows for text in row["in"]}
    if version is None:
        text = max(texts, key=parse, default=None)
        return (texts[text] if text else None), False
    wanted = parse(version)
    same = next((row for text, row in texts.items() if parse(text)[:2] == wanted[:2]), None)
    if same is not None:
        return same, True
    older = [text for text in texts if parse(text) <= wanted]
    newer = [text for text in texts if parse(text) > wanted]
    nearest = max(older, key=parse) if older else min(newer, key=parse, default=None)
    return (texts[nearest] if nearest else None), False


def _judge(bits: list[bool], version: str | None) -> bool | None:
    known = _versions()
    if version is None:
        return bits[-1] or None
    wanted = parse(version)
    exact = next((bit for at, bit in zip(known, bits, strict=True) if at[:2] == wanted[:2]), None)
    if exact is not None:
        return exact
    if wanted < known[0]:
        return bits[0] or None
    if wanted > known[-1]:
        return bits[-1] or None
    after = next(position for position, at in enumerate(known) if at > wanted)
    return bits[after] if bits[after] == bits[after - 1] else None


def _versions() -> tuple[Version, ...]:
    return _parsed(tuple(_table()["versions"]))


@cache
def _parsed(texts: Iterable[str]) -> tuple[Version, ...]:
    return tuple(parse(text) for text in texts)


@cache
def _table() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return data
