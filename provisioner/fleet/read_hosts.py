"""The hosts of a fleet: those that the file names, those of its inventories, and what groups say about both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provisioner.errors import ProvisionError
from provisioner.fleet.explain import given_as, validated
from provisioner.fleet.groups import ALL, Group, server_layers
from provisioner.fleet.inventory import Inventory, InventoryHost, ReadInventory
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.models import Host
from provisioner.fleet.paths import below, exists, layer_below
from provisioner.fleet.placement import HostLayers
from provisioner.fleet.positions import Document
from provisioner.fleet.shape import host_entries, placements

WrittenHost = tuple[str, Any, Key]
"""name, settings and place of a host of the file"""
_OWN = ("address", "port", "user", "identity_file", "platform", "hardware")


def written_hosts(document: Document, data: Mapping[str, Any]) -> list[WrittenHost]:
    """The hosts section, ranges written out."""
    value, example = data.get("hosts"), "for example hosts: [gpu-01]"
    if value is None or value == [] or value == {}:
        if data.get("inventory") is None:
            document.add(("hosts",), "names no hosts" if "hosts" in data else "is missing", example)
        return []
    return list(host_entries(document, value))


def read_hosts(
    document: Document,
    written: Sequence[WrittenHost],
    inventory: Inventory,
    groups: Sequence[Group],
    served: frozenset[str],
    folder: Path,
    members: Mapping[str, Sequence[str]],
) -> list[tuple[Host, Key]]:
    """The hosts with their places: those of the file, then those of the inventories on which a server is placed.

    An inventory may name other machines too. `served`: hosts with a server; `members`: hosts by group.
    """
    found: list[tuple[Host, Key]] = []
    belongs = _groups_by_host(members)
    named = {name for name, _, _ in written}
    listed: list[WrittenHost] = [
        (name, {}, _INVENTORY) for name in inventory.hosts if name not in named and name in served
    ]
    for name, settings, at in [*written, *listed]:
        if isinstance(settings, Mapping):
            settings = {key: value for key, value in settings.items() if key != "servers"}
        host = validated(Host, settings, at, document, {"name": name, "notes": (), "groups": ()}, wrong=set())
        if host is not None:
            host = host.model_copy(update={"groups": tuple(belongs.get(name, ()))})
            found.append((_completed(host, inventory.hosts.get(name), groups, folder), at))
    return found


def host_layers(document: Document, written: Sequence[WrittenHost], folder: Path) -> dict[str, HostLayers]:
    """By host: what its entry says about servers. Hosts of one range share what is read once."""
    read: dict[Key, HostLayers] = {}
    own = {}
    for name, settings, at in written:
        if not isinstance(settings, Mapping) or settings.get("servers") is None:
            continue
        if at not in read:
            layers = server_layers(document, settings["servers"], (*at, "servers"), f"host {at[-1]}")
            read[at] = HostLayers(at, {key: layer_below(folder, layer) for key, layer in layers.items()})
        own[name] = read[at]
    return own


def read_inventories(document: Document, value: Any, folder: Path, read: ReadInventory | None) -> Inventory:
    """What `inventory` names, read by `read`."""
    nothing, path = Inventory(hosts={}, groups={}), _INVENTORY
    if value is not None and not isinstance(value, str | list):
        document.add(path, f"expected a path or a list of paths, got {given_as(value, path, structure=True)}")
    sources = []
    for entry, at in placements(value, path):
        if not isinstance(entry, str):
            document.add(at, f"expected the path of an inventory, got {given_as(entry, at)}")
        elif not exists(below(folder, Path(entry))):
            document.add(at, f"no such file or folder: {quoted(entry)}")
        else:
            sources.append(below(folder, Path(entry)))
    if not sources:
        return nothing
    if read is None:
        document.add(path, "inventories cannot be read here")
        return nothing
    try:
        return read(sources)
    except ProvisionError as error:
        document.add(path, error.message, error.hint)
        return nothing


_INVENTORY: Key = ("inventory",)


def _groups_by_host(members: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group, hosts in members.items():
        if group != ALL:
            for host in hosts:
                found.setdefault(host, []).append(group)
    return found


def _completed(host: Host, listed: InventoryHost | None, groups: Sequence[Group], folder: Path) -> Host:
    """What a host does not say itself comes from its groups (later ones win), then from the inventories."""
    values: dict[str, Any] = _of_inventory(listed) if listed else {}
    labels: dict[str, str] = {}
    for group in groups:
        if group.host_settings and host.name in group.hosts:
            values |= group.host_settings
            labels |= group.host_settings.get("labels", {})
    if labels:
        values["labels"] = labels | host.labels
    own = {key: getattr(host, key) for key in _OWN}
    values |= {key: value for key, value in own.items() if value is not None}
    if values.get("identity_file"):
        values["identity_file"] = below(folder, Path(values["identity_file"]))
    if listed and listed.unused:
        what = f"{', '.join(listed.unused)} of the inventory is not used here"
        values["notes"] = (f"{what}: say it in the SSH configuration",)
    return host.model_copy(update=values) if values else host


def _of_inventory(listed: InventoryHost) -> dict[str, Any]:
    given = {"address": listed.address, "port": listed.port, "user": listed.user, "identity_file": listed.identity_file}
    return {key: value for key, value in given.items() if value is not None}
