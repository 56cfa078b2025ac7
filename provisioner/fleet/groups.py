"""Groups of hosts, of the fleet file and of its inventories: who belongs to them, and what they say about hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner.fleet.explain import given_as, validated
from provisioner.fleet.hostnames import names_of
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.layers import Layer
from provisioner.fleet.models import Host
from provisioner.fleet.paths import layer_below
from provisioner.fleet.positions import Document
from provisioner.fleet.shape import placed_on, placements, server_layer
from provisioner.fleet.suggest import did_you_mean

ALL = "all"
_NOT_SHARED = ("name", "address", "groups", "notes")
"""fields of a host that a group cannot give to several"""
_OWN_KEYS = ("hosts", "servers")


@dataclass(frozen=True, eq=False)
class Group:
    """One group of the fleet file."""

    name: str
    path: Key
    hosts: frozenset[str]
    host_settings: Mapping[str, Any] = field(default_factory=dict)
    """fields of its hosts that it gives a value"""
    layers: Mapping[str, Layer] = field(default_factory=dict)
    """by server: what it says about it"""


def memberships(
    document: Document, value: Any, hosts: Mapping[str, Any], inherited: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The hosts of every group: of the inventories (`inherited`), more of them from the file, and `all`."""
    groups = {ALL: tuple(hosts), **{name: members for name, members in inherited.items() if name != ALL}}
    sections = value if isinstance(value, Mapping) else {}
    written = {
        name: settings["hosts"]
        for name, settings in sections.items()
        if isinstance(settings, Mapping) and settings.get("hosts") is not None
    }
    for name in written:
        if name in hosts:
            document.add(("groups", name), "is the name of a host too", "give the group another name")
        elif name == ALL:
            document.add(("groups", name, "hosts"), "all hosts belong to it anyway")
    for name in _in_order(document, written):
        own = placed_on(document, written[name], ("groups", name, "hosts"), groups) or ()
        _check_known(document, written[name], name, hosts, {**groups, **written})
        known = tuple(host for host in own if host in hosts)
        groups[name] = tuple(dict.fromkeys((*groups.get(name, ()), *known)))
    return groups


def read_groups(document: Document, value: Any, members: Mapping[str, tuple[str, ...]], folder: Path) -> list[Group]:
    """The groups section, in its order: what each says about its hosts and their servers."""
    if value is None:
        return []
    path: Key = ("groups",)
    if not isinstance(value, Mapping):
        given = given_as(value, path, structure=True)
        document.add(
            path,
            f"expected a mapping of names to settings, got {given}",
            "for example groups: {big: {hosts: [gpu-01]}}",
        )
        return []
    found = []
    for name, settings in value.items():
        at = (*path, name)
        if settings is not None and not isinstance(settings, Mapping):
            document.add(at, f"expected a mapping (key: value), got {given_as(settings, at, structure=True)}")
            continue
        if name not in members:
            hint = (
                did_you_mean(name, [known for known in members if known != ALL]) or "say which hosts: hosts: [gpu-01]"
            )
            document.add(at, "has no hosts, and no inventory has a group of that name", hint)
        found.append(_group(document, name, settings or {}, at, members.get(name, ()), folder))
    return found


def server_layers(document: Document, value: Any, path: Key, label: str) -> dict[str, Layer]:
    """By server: what a group or a host says about it."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        given = given_as(value, path, structure=True)
        document.add(path, f"expected a mapping of server names to settings, got {given}")
        return {}
    layers = {}
    for name, settings in value.items():
        if isinstance(settings, Mapping) and "hosts" in settings:
            document.add((*path, name, "hosts"), "belongs to the server itself", f"say it in servers.{name}.hosts")
            settings = {key: entry for key, entry in settings.items() if key != "hosts"}
        layer = server_layer(document, label, settings, (*path, name))
        if layer is not None:
            layers[name] = layer
    return layers


def _group(
    document: Document, name: str, settings: Mapping[str, Any], at: Key, members: tuple[str, ...], folder: Path
) -> Group:
    rest = {key: entry for key, entry in settings.items() if key not in _OWN_KEYS}
    for key in _NOT_SHARED:
        if key in rest:
            hint = f"say it for each host: hosts: {{HOST: {{{key}: …}}}}" if key == "address" else None
            document.add((*at, key), "unknown key" if hint is None else "hosts cannot share an address", hint)
            del rest[key]
    wrong: set[str] = set()
    host = validated(Host, rest, at, document, {"name": "a"}, wrong=wrong)
    given = {key: getattr(host, key) for key in rest if host and key in Host.model_fields and key not in wrong}
    given = {key: entry for key, entry in given.items() if entry is not None}
    layers = server_layers(document, settings.get("servers"), (*at, "servers"), f"group {name}")
    layers = {key: layer_below(folder, layer) for key, layer in layers.items()}
    return Group(name, at, frozenset(members), given, layers)


def _in_order(document: Document, written: Mapping[str, Any]) -> list[str]:
    """Names of groups, those that others are made of first."""
    ordered: dict[str, None] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " → ".join([*above[above.index(name) :], name])
            document.add(("groups", name, "hosts"), f"the group is made of itself: {circle}")
            return
        for entry, _ in placements(written[name], ()):
            if isinstance(entry, str) and entry in written and entry not in ordered:
                visit(entry, (*above, name))
        ordered[name] = None

    for name in written:
        if name not in ordered:
            visit(name, ())
    return list(ordered)


def _check_known(
    document: Document, value: Any, group: str, hosts: Mapping[str, Any], groups: Mapping[str, Any]
) -> None:
    if not hosts:
        return
    for entry, at in placements(value, ("groups", group, "hosts")):
        for name in names_of(entry) if isinstance(entry, str) and entry not in groups else []:
            if name not in hosts:
                document.add(at, f"unknown host {quoted(name)}", did_you_mean(name, [*hosts, *groups]))
