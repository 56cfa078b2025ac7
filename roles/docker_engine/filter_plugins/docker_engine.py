"""Filters for daemon.json: parse, merge, print. Pure functions, tested without Ansible."""

from __future__ import annotations

import json

RELOADED = frozenset(
    {
        "authorization-plugins",
        "debug",
        "default-runtime",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
"""Keys that dockerd takes over when it is told to reload (its reference, "daemon configuration file"). `features` is
not among them: what a feature such as cdi needs is set up at the start alone."""


def parse(text):
    """The file's text → {"config": dict, "error": str}; an empty text is an empty configuration."""
    if not text.strip():
        return {"config": {}, "error": ""}
    try:
        config = json.loads(text)
    except ValueError as error:
        return {"config": {}, "error": str(error)}
    if not isinstance(config, dict):
        return {"config": {}, "error": "the top is not an object"}
    return {"config": config, "error": ""}


def merge(current, wanted):
    """`current` with `wanted` in it: dictionaries key by key, lists united, everything else replaced.

    The operator's order of a list is kept and only what it lacks is added, so that a host which has
    everything compares equal and Docker is not restarted for the order of its mirrors.
    """
    merged = plain(current)
    for key, value in wanted.items():
        have = merged.get(key)
        if isinstance(have, dict) and isinstance(value, dict):
            merged[key] = merge(have, value)
        elif isinstance(have, list) and isinstance(value, list):
            merged[key] = [*have, *(item for item in plain(value) if item not in have)]
        else:
            merged[key] = plain(value)
    return merged


def changed(current, wanted):
    """Keys of the file that differ once `wanted` is in it."""
    before, after = plain(current), merge(current, wanted)
    return [key for key in wanted if key not in before or before[key] != after[key]]


def restarting(keys):
    """Those of the changed keys that Docker takes over at a start only."""
    return [key for key in keys if key not in RELOADED]


def dump(config):
    """The text of daemon.json: the same configuration is always the same bytes."""
    return json.dumps(plain(config), indent=2, sort_keys=True) + "\n"


def plain(value):
    """Ordinary dicts and lists: Ansible hands over lazy ones, whose elements C code would see unrendered."""
    if isinstance(value, dict):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


class FilterModule:
    """Ansible's way in."""

    def filters(self):
        return {
            "docker_engine_parse": parse,
            "docker_engine_merge": merge,
            "docker_engine_changed": changed,
            "docker_engine_restarting": restarting,
            "docker_engine_json": dump,
        }
