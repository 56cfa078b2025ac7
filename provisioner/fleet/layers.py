"""One server's settings from several places of the file: which wins, and where each value came from.

From weak to strong: the recipe (its own defaults), `defaults`, `servers.NAME`, `groups.GROUP.servers.NAME` in the
order of the groups in the file, `hosts.HOST.servers.NAME`. Mappings (`env`, `benchmark`, `baseline`) are merged key by
key; `image`, `slo` and everything else is replaced. A key without a value takes away what weaker places say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from provisioner.fleet.keypath import Key
from provisioner.fleet.models import Server

_REPLACED = frozenset({"image", "slo"})
"""mappings that are one value: of a map by platform, a part that was left standing could win over the new one"""


@dataclass(frozen=True, eq=False)
class Layer:
    """What one place of the file says about a server."""

    label: str
    """how people call the place: defaults, server, group sparks, host gpu-01"""
    path: Key
    values: Mapping[str, Any]
    """by key of the server, checked; None: taken away"""
    wrong: frozenset[str] = frozenset()
    """keys with values that are wrong, which have been told"""


@dataclass(frozen=True, eq=False)
class Resolved:
    """A server as it is on some hosts."""

    server: Server
    layers: tuple[Layer, ...]
    """from weak to strong; the one of `servers` is always among them"""

    @property
    def wrong(self) -> frozenset[str]:
        """Keys whose values here are not what somebody meant."""
        return frozenset(key for layer in self.layers for key in layer.wrong)

    def strength(self, key: str) -> int:
        """How strong the place is that says `key`; -1 where none does."""
        said = [position for position, layer in enumerate(self.layers) if key in layer.values or key in layer.wrong]
        return said[-1] if said else -1

    def at(self, key: str, *inner: str | int) -> Key:
        """Where `key` is said, or would be."""
        said = origin(self.layers, key, *inner[:1])
        layer = said or next((one for one in self.layers if one.path[:1] == ("servers",)), self.layers[-1])
        return (*layer.path, key, *inner)


def resolved(name: str, hosts: tuple[str, ...] | None, layers: Sequence[Layer]) -> Resolved:
    """The server that layers add up to, from weak to strong. Without a recipe it has one called ""."""
    values: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.values.items():
            values[key] = _combined(key, values.get(key), value)
    said = {key: value for key, value in values.items() if value is not None}
    # Every value was checked where it stands; names of hosts that are wrong have been told.
    server = Server.model_construct(**({"recipe": ""} | said | {"name": name, "hosts": hosts}))
    return Resolved(server, tuple(layers))


def origin(layers: Sequence[Layer], key: str, inner: str | int | None = None) -> Layer | None:
    """The place that the value of `key` (of a merged mapping: of its `inner` key) came from; None: nobody said it."""
    for layer in reversed(layers):
        if key not in layer.values:
            continue
        value = layer.values[key]
        if inner is None or isinstance(inner, int) or value is None or key in _REPLACED:
            return layer
        if inner in (value.model_fields_set if isinstance(value, BaseModel) else value):
            return layer
    return None


def _combined(key: str, weak: Any, strong: Any) -> Any:
    if key in _REPLACED or weak is None or strong is None:
        return strong
    if isinstance(weak, BaseModel) and isinstance(strong, BaseModel):
        return weak.model_copy(update={name: getattr(strong, name) for name in strong.model_fields_set})
    if isinstance(weak, Mapping) and isinstance(strong, Mapping):
        return {**weak, **strong}
    return strong
