"""Loading a fleet file: read, bring into shape, check every key, check the keys against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from provisioner.errors import InputError, Problem
from provisioner.fleet.checks import check_hosts, check_servers, check_text
from provisioner.fleet.explain import given_as, validated
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.models import Docker, Fleet, Host, Hub, Server, Ssh, Weights
from provisioner.fleet.positions import Document, read_document
from provisioner.fleet.shape import below, host_entries, server
from provisioner.fleet.suggest import did_you_mean

_SECTIONS: dict[str, type[BaseModel]] = {"ssh": Ssh, "docker": Docker, "hub": Hub, "weights": Weights}
_KEYS = ("name", *_SECTIONS, "recipes", "hosts", "servers")
_EXAMPLE = "three lines are enough: hosts, servers, and a recipe (inventories/example/fleet.yaml shows the rest)"


def load_fleet(path: Path) -> Fleet:
    """The fleet of a file. Paths in it start at its folder. Raises InputError with every problem at once."""
    document = read_document(path)
    fleet = _fleet(document)
    if document.problems or fleet is None:
        raise InputError(_unique(document))
    return fleet


def _fleet(document: Document) -> Fleet | None:
    data, folder = document.data, document.file.parent.absolute()
    if data is None:
        document.add((), "is empty", _EXAMPLE)
        return None
    if not isinstance(data, Mapping):
        document.add((), f"expected a mapping (key: value), got {given_as(data, (), structure=True)}", _EXAMPLE)
        return None
    check_text(document)
    if document.problems:
        # Duplicate keys, tags and control characters make anything said about the rest doubtful.
        return None
    for key in data:
        if key not in _KEYS:
            document.add((key,), "unknown key", did_you_mean(key, _KEYS))
    sections = {key: validated(model, data.get(key), (key,), document) for key, model in _SECTIONS.items()}
    recipes = _recipe_folders(document, data.get("recipes"), folder)
    hosts = _hosts(document, data)
    servers = _servers(document, data)
    read = [(host, at) for _, host, at in hosts if host is not None]
    check_hosts(document, read)
    check_servers(document, servers, [name for name, _, _ in hosts], recipes)
    given: dict[str, Any] = {key: section for key, section in sections.items() if section is not None}
    given |= {"path": document.file, "recipes": recipes, "hosts": tuple(host for host, _ in read)}
    given["servers"] = tuple(entry for entry, _ in servers)
    name = {"name": data["name"]} if "name" in data else {}
    fleet = validated(Fleet, name, (), document, given)
    return fleet and _placed(fleet, folder)


def _hosts(document: Document, data: Mapping[str, Any]) -> list[tuple[str, Host | None, Key]]:
    value, example = data.get("hosts"), "for example hosts: [gpu-01]"
    if value is None or value == [] or value == {}:
        document.add(("hosts",), "names no hosts" if "hosts" in data else "is missing", example)
        return []
    found = host_entries(document, value)
    return [
        (name, validated(Host, settings, at, document, {"name": name}, wrong=set()), at) for name, settings, at in found
    ]


def _servers(document: Document, data: Mapping[str, Any]) -> list[tuple[Server, frozenset[str]]]:
    value = data.get("servers")
    path, example = ("servers",), "for example servers: {nemotron: {recipe: nemotron-3-nano}}"
    if value is None or value == {}:
        document.add(path, "names no servers" if "servers" in data else "is missing", example)
        return []
    if not isinstance(value, Mapping):
        given = given_as(value, path, structure=True)
        document.add(path, f"expected a mapping of names to settings, got {given}", example)
        return []
    made = [server(document, name, settings, (*path, name)) for name, settings in value.items()]
    return [(entry, wrong) for entry, wrong in made if entry is not None]


def _recipe_folders(document: Document, value: Any, folder: Path) -> tuple[Path, ...]:
    entries = [value] if isinstance(value, str) else value or []
    if not isinstance(entries, list):
        document.add(("recipes",), f"expected a list of folders, got {given_as(value, ('recipes',), structure=True)}")
        return ()
    folders: list[Path] = []
    for index, entry in enumerate(entries):
        at = ("recipes", index)
        if not isinstance(entry, str):
            document.add(at, f"expected a folder, got {given_as(entry, at)}")
        elif not _is_folder(below(folder, Path(entry))):
            document.add(at, f"no such folder: {quoted(entry)}")
        else:
            folders.append(below(folder, Path(entry)))
    return tuple(folders)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no file system takes
        return False


def _placed(fleet: Fleet, folder: Path) -> Fleet:
    """The fleet with every path absolute."""
    ssh, hub = fleet.ssh, fleet.hub
    if ssh.config is not None:
        ssh = ssh.model_copy(update={"config": below(folder, ssh.config)})
    if hub.token is not None:
        hub = hub.model_copy(update={"token": _reference(hub.token, folder)})
    hosts = tuple(
        host.model_copy(update={"identity_file": below(folder, host.identity_file)}) if host.identity_file else host
        for host in fleet.hosts
    )
    servers = tuple(
        entry.model_copy(update={"api_key": _reference(entry.api_key, folder)}) if entry.api_key else entry
        for entry in fleet.servers
    )
    return fleet.model_copy(update={"ssh": ssh, "hub": hub, "hosts": hosts, "servers": servers})


def _reference(reference: str, folder: Path) -> str:
    if not reference.startswith("file:"):
        return reference
    return f"file:{below(folder, Path(reference.removeprefix('file:')))}"


def _unique(document: Document) -> list[Problem]:
    return list({(p.line, p.column, p.key, p.reason): p for p in document.problems}.values())
