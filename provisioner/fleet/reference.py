"""The reference page of the fleet file: the annotated example, section by section, with what the schema says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from provisioner.fleet.schema import Schema

_HEAD = """\
# The fleet file

Written by `scripts/reference` from `inventories/example/fleet.yaml` and the schema (`provision schema`): change those.

`provision explain FLEET HOST [KEY]` says of every value where it came from. What may be said in several places, from
weak to strong:

1. the recipe
2. `defaults`
3. `servers.NAME`
4. `groups.GROUP.servers.NAME`, groups in the order of the file: a later one wins
5. `hosts.HOST.servers.NAME`

Mappings (`env`, `benchmark`, `baseline`) are merged key by key; `image`, `slo`, lists and everything else are replaced.
A key without a value takes away what weaker places say. How a host is reached: `hosts.HOST`, then `groups.GROUP` (a
later one wins), then the inventory, then the SSH configuration.
"""


_KINDS = {
    "null": "nothing",
    "string": "text",
    "integer": "whole number",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
}


def reference_page(example: str, schema: Schema) -> str:
    """Markdown. `example`: the text of the annotated fleet file."""
    sections = _sections(example)
    parts = [_HEAD]
    for key in schema["properties"]:
        parts.append(f"## `{key}`\n")
        parts.append(_resolved(schema["properties"][key], schema).get("description", "") + "\n")
        parts.append(f"```yaml\n{sections.get(key, '').strip()}\n```\n")
        rows = list(_rows(_keys_of(key, schema), schema, ""))
        if rows:
            parts.append("\n".join(["| key | what | default | meaning |", "|---|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def key_paths(schema: Schema) -> frozenset[str]:
    """Every key there is: `docker.source`, `servers.*.image`, `hosts.*.servers` …"""
    return frozenset(path for path, _ in documented(schema))


def documented(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every key with what the schema says of it."""
    for key, entry in schema["properties"].items():
        yield key, _resolved(entry, schema)
        prefix = f"{key}.*" if key in ("hosts", "groups", "servers", "notify") else key
        yield from ((f"{prefix}.{path}", inner) for path, inner in _walk(_keys_of(key, schema), schema))


def _keys_of(key: str, schema: Schema) -> Schema:
    named = {"hosts": "host", "groups": "group", "servers": "server"}
    if key == "defaults":
        return {}  # the keys of servers
    section = schema["$defs"][named[key]] if key in named else _resolved(schema["properties"][key], schema)
    if isinstance(items := section.get("items"), dict) and "$ref" in items:  # a list of mappings
        section = _resolved(items, schema)
    properties: Schema = section.get("properties", {})
    return properties


def _walk(properties: Schema, schema: Schema) -> Iterator[tuple[str, Schema]]:
    for name, entry in properties.items():
        full = _resolved(entry, schema)
        yield name, full
        inner, prefix = full.get("properties", {}), name
        if isinstance(named := full.get("additionalProperties"), dict) and "properties" in named:
            inner, prefix = named["properties"], f"{name}.*"
        if name == "image" and "anyOf" in full:
            inner = {
                "pull": full["anyOf"][0],
                "build": {"$ref": "#/$defs/build"},
                "archive": {"$ref": "#/$defs/archive"},
            }
        yield from ((f"{prefix}.{below}", schema_) for below, schema_ in _walk(inner, schema))


def _rows(properties: Schema, schema: Schema, prefix: str) -> Iterator[str]:
    for path, entry in _walk(properties, schema):
        default = f"`{_plain(entry['default'])}`" if "default" in entry else ""
        text = entry.get("description", "").replace("|", "\\|")
        yield f"| `{prefix}{path}` | {_kind(entry)} | {default} | {text} |"


def _kind(entry: Schema) -> str:
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(kind for one in entry["anyOf"] if (kind := _kind(one)) != "nothing"))
    if "enum" in entry:
        return ", ".join(f"`{_plain(one)}`" for one in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    given = entry.get("type", "object")
    kinds = [given] if isinstance(given, str) else [one for one in given if one != "null"]
    words = " or ".join(_KINDS.get(one, one) for one in kinds)
    low, high = entry.get("minimum", entry.get("exclusiveMinimum")), entry.get("maximum", entry.get("exclusiveMaximum"))
    if low is not None or high is not None:
        bounds = f"from {low:g}" if high is None else f"{low:g}–{high:g}" if low is not None else f"to {high:g}"
        words += f" ({bounds})"
    return words


def _resolved(entry: Schema, schema: Schema) -> Schema:
    if "$ref" not in entry:
        return entry
    return {**schema["$defs"][entry["$ref"].rpartition("/")[2]], **{k: v for k, v in entry.items() if k != "$ref"}}


def _sections(example: str) -> dict[str, str]:
    """By key: its lines in the example, with the comment above it."""
    found: dict[str, list[str]] = {}
    key, waiting = "", list[str]()
    for line in example.splitlines():
        if line[:1].isalpha():
            key = line.partition(":")[0]
            found[key] = [*waiting, line]
            waiting = []
        elif line.startswith("#") or not line.strip():
            waiting = [*waiting, line] if line.strip() else []
        elif key:
            found[key].append(line)
    return {key: "\n".join(lines) for key, lines in found.items()}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
