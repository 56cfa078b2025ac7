"""Which server is on which host, and as what: `servers`, with what groups and hosts say otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from provisioner.fleet.groups import Group
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.layers import Layer, Resolved, resolved
from provisioner.fleet.positions import Document
from provisioner.fleet.suggest import did_you_mean


@dataclass(frozen=True, eq=False)
class Written:
    """One entry of `servers`."""

    name: str
    hosts: tuple[str, ...] | None
    layers: tuple[Layer, ...]
    """of `defaults` and of `servers`"""


@dataclass(frozen=True, eq=False)
class HostLayers:
    """What one entry of `hosts` says about the servers of its hosts."""

    path: Key
    layers: Mapping[str, Layer] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Alike:
    """Hosts with the very same servers."""

    hosts: tuple[str, ...]
    servers: tuple[Resolved, ...]


def place(
    written: Sequence[Written], hosts: Sequence[str], groups: Sequence[Group], own: Mapping[str, HostLayers]
) -> list[Alike]:
    """All hosts, those with the same servers together, in the order of the first of each kind."""
    members = {server.name: None if server.hosts is None else frozenset(server.hosts) for server in written}
    made: dict[tuple[str, tuple[int, ...]], Resolved] = {}
    kinds: dict[tuple[int, ...], tuple[list[str], list[Resolved]]] = {}
    for host in hosts:
        servers = []
        for server in written:
            named = members[server.name]
            if named is not None and host not in named:
                continue
            layers = (*server.layers, *_others(server.name, host, groups, own))
            key = (server.name, tuple(map(id, layers)))
            if key not in made:
                made[key] = resolved(server.name, server.hosts, layers)
            servers.append(made[key])
        kinds.setdefault(tuple(map(id, servers)), ([], servers))[0].append(host)
    return [Alike(tuple(names), tuple(servers)) for names, servers in kinds.values()]


def check_overrides(
    document: Document,
    written: Sequence[Written],
    names: Sequence[str],
    groups: Sequence[Group],
    own: Mapping[str, HostLayers],
) -> None:
    """What groups and hosts say about servers that are not there changes nothing, and is told. `names`: all servers."""
    members = {server.name: None if server.hosts is None else frozenset(server.hosts) for server in written}
    for group in groups:
        _check(document, group.layers, names, members, group.hosts, "none of its hosts")
    by_entry: dict[Key, tuple[HostLayers, set[str]]] = {}
    for host, layers in own.items():
        by_entry.setdefault(layers.path, (layers, set()))[1].add(host)
    for layers, hosts in by_entry.values():
        _check(
            document, layers.layers, names, members, hosts, "this host" if len(hosts) == 1 else "none of these hosts"
        )


def _check(
    document: Document,
    layers: Mapping[str, Layer],
    names: Sequence[str],
    members: Mapping[str, frozenset[str] | None],
    hosts: frozenset[str] | set[str],
    whose: str,
) -> None:
    for name, layer in layers.items():
        if name not in names:
            document.add(layer.path, f"unknown server {quoted(name)}", did_you_mean(name, names))
        elif name in members and hosts and (placed := members[name]) is not None and not placed & hosts:
            what = f"server {quoted(name)} is placed on {whose}"
            if whose == "this host":
                what = f"server {quoted(name)} is not placed on this host"
            document.add(layer.path, what, f"add it to servers.{name}.hosts, or take this away")


def _others(name: str, host: str, groups: Sequence[Group], own: Mapping[str, HostLayers]) -> list[Layer]:
    layers = [group.layers[name] for group in groups if name in group.layers and host in group.hosts]
    if host in own and name in own[host].layers:
        layers.append(own[host].layers[name])
    return layers
