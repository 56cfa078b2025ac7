"""The servers section and `defaults`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from provisioner.fleet.explain import given_as
from provisioner.fleet.groups import ALL
from provisioner.fleet.hostnames import names_of
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.layers import Layer
from provisioner.fleet.paths import layer_below
from provisioner.fleet.placement import Written
from provisioner.fleet.positions import Document
from provisioner.fleet.shape import placed_on, placements, server_layer
from provisioner.fleet.suggest import did_you_mean


def read_servers(
    document: Document,
    data: Mapping[str, Any],
    members: Mapping[str, Sequence[str]],
    hosts: Sequence[str],
    folder: Path,
) -> list[Written]:
    """Every entry of `servers`, with where it is placed. `members`: the hosts of every group."""
    value = data.get("servers")
    path, example = ("servers",), "for example servers: {nemotron: {recipe: nemotron-3-nano}}"
    defaults = _defaults(document, data.get("defaults"), folder)
    if value is None or value == {}:
        document.add(path, "names no servers" if "servers" in data else "is missing", example)
        return []
    if not isinstance(value, Mapping):
        given = given_as(value, path, structure=True)
        document.add(path, f"expected a mapping of names to settings, got {given}", example)
        return []
    found = []
    for name, settings in value.items():
        at = (*path, name)
        placed = None
        if isinstance(settings, Mapping):
            placed = placed_on(document, settings.get("hosts"), (*at, "hosts"), members)
            _check_known(document, settings.get("hosts"), (*at, "hosts"), hosts, members)
            settings = {key: entry for key, entry in settings.items() if key != "hosts"}
        layer = server_layer(document, "server", settings, at, name)
        if layer is not None:
            found.append(Written(name, placed, _with_recipe(document, (*defaults, layer_below(folder, layer)))))
    return found


def _defaults(document: Document, value: Any, folder: Path) -> tuple[Layer, ...]:
    path = ("defaults",)
    if isinstance(value, Mapping) and "hosts" in value:
        document.add((*path, "hosts"), "belongs to the server itself", "say it in servers.NAME.hosts")
        value = {key: entry for key, entry in value.items() if key != "hosts"}
    layer = server_layer(document, "defaults", value, path) if value is not None else None
    return (layer_below(folder, layer),) if layer else ()


def _with_recipe(document: Document, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    own = layers[-1]
    if any(layer.values.get("recipe") is not None or "recipe" in layer.wrong for layer in layers):
        return layers
    document.add((*own.path, "recipe"), "is missing", "for example recipe: nemotron-3-nano")
    return (*layers[:-1], replace(own, wrong=own.wrong | {"recipe"}))


def _check_known(
    document: Document, value: Any, path: Key, hosts: Sequence[str], members: Mapping[str, Sequence[str]]
) -> None:
    if not hosts:
        return
    known = frozenset(hosts)
    for entry, at in placements(value, path):
        for name in names_of(entry) if isinstance(entry, str) and entry not in members else []:
            if name not in known:
                groups = [group for group in members if group != ALL]
                what = "unknown host or group" if groups else "unknown host"
                document.add(at, f"{what} {quoted(name)}", did_you_mean(name, [*hosts, *groups]))
