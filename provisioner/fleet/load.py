"""Loading a fleet file: read, bring into shape, check every key, check the keys against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from provisioner.errors import InputError, Problem
from provisioner.fleet.checks import check_distribution, check_hosts, check_rollout, check_servers, check_text
from provisioner.fleet.explain import given_as, validated
from provisioner.fleet.groups import Group, memberships, read_groups
from provisioner.fleet.inventory import Inventory, ReadInventory
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.layers import resolved
from provisioner.fleet.models import Distribution, Docker, Fleet, Hub, Server, Ssh, Weights
from provisioner.fleet.notify import Notify
from provisioner.fleet.paths import below, is_folder, reference_below
from provisioner.fleet.placement import Alike, check_overrides, place
from provisioner.fleet.positions import Document, read_document
from provisioner.fleet.read_hosts import host_layers, read_hosts, read_inventories, written_hosts
from provisioner.fleet.read_servers import read_servers
from provisioner.fleet.rollout import Rollout
from provisioner.fleet.schedule import Schedule
from provisioner.fleet.shape import section
from provisioner.fleet.suggest import did_you_mean

_SECTIONS: dict[str, type[BaseModel]] = {
    "ssh": Ssh,
    "docker": Docker,
    "hub": Hub,
    "weights": Weights,
    "distribution": Distribution,
    "rollout": Rollout,
    "schedule": Schedule,
}
KEYS = ("name", *_SECTIONS, "notify", "recipes", "inventory", "hosts", "groups", "defaults", "servers")
"""keys at the top of a fleet file"""
_EXAMPLE = "three lines are enough: hosts, servers, and a recipe (inventories/example/fleet.yaml shows the rest)"


@dataclass(frozen=True, eq=False)
class Loaded:
    """A fleet with everything that is needed to say where each of its values came from."""

    fleet: Fleet
    document: Document
    inventory: Inventory
    groups: tuple[Group, ...]
    """those of the fleet file"""
    members: Mapping[str, tuple[str, ...]]
    """by group, of the file and of inventories: its hosts"""
    alike: tuple[Alike, ...]
    host_paths: Mapping[str, Key]
    """by host: its place in the file; ("inventory",) for one that only an inventory names"""


def load_fleet(path: Path, read_inventory: ReadInventory | None = None) -> Fleet:
    """The fleet of a file. Paths in it start at its folder. Raises InputError with every problem at once.

    `read_inventory` reads what `inventory` names; `provisioner.inventory` has it.
    """
    return load(path, read_inventory).fleet


def load(path: Path, read_inventory: ReadInventory | None = None) -> Loaded:
    """The same, with where everything came from."""
    document = read_document(path)
    loaded = _loaded(document, read_inventory)
    if document.problems or loaded is None:
        raise InputError(_unique(document))
    return loaded


def _loaded(document: Document, read_inventory: ReadInventory | None) -> Loaded | None:
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
        if key not in KEYS:
            document.add((key,), "unknown key", did_you_mean(key, KEYS, most=len(KEYS)))
    sections = {
        key: validated(model, section(key, data.get(key)), (key,), document) for key, model in _SECTIONS.items()
    }
    notify = _notify(document, data.get("notify"), folder)
    recipes = _recipe_folders(document, data.get("recipes"), folder)
    inventory = read_inventories(document, data.get("inventory"), folder, read_inventory)
    written = written_hosts(document, data)
    names = list(dict.fromkeys([*(name for name, _, _ in written), *inventory.hosts]))
    members = memberships(document, data.get("groups"), dict.fromkeys(names), inventory.groups)
    groups = read_groups(document, data.get("groups"), members, folder)
    own = host_layers(document, written, folder)
    servers = read_servers(document, data, members, names, folder)
    # Without hosts, which is told, servers are still checked: as they would be on one.
    alike = place(servers, names or ["-"], groups, own)
    served = frozenset(name for kind in alike if kind.servers for name in kind.hosts)
    hosts = read_hosts(document, written, inventory, groups, served, folder, members)
    if inventory.hosts and not hosts:
        document.add(("servers",), "none is placed on a host of the inventory")
    check_hosts(document, hosts)
    if isinstance(rollout := sections["rollout"], Rollout):
        check_rollout(document, rollout, [host for host, _ in hosts])
    check_distribution(document, data.get("distribution"), sections["distribution"])
    check_servers(document, alike, recipes)
    if names and isinstance(written_servers := data.get("servers") or {}, Mapping):
        check_overrides(document, servers, list(written_servers), groups, own)
    given: dict[str, Any] = {key: section for key, section in sections.items() if section is not None}
    given |= {"path": document.file, "notify": notify, "recipes": recipes, "hosts": tuple(host for host, _ in hosts)}
    given["servers"] = tuple(resolved(one.name, one.hosts, one.layers).server for one in servers)
    name = {"name": data["name"]} if "name" in data else {}
    fleet = validated(Fleet, name, (), document, given)
    if fleet is None:
        return None
    # Not by validation: it would make lists of its own, and hosts alike share one.
    certificates = _certificates(document, fleet.docker, folder)
    fleet = fleet.model_copy(update={"placed": _placed(alike), "certificates": certificates})
    places = {host.name: at for host, at in hosts}
    return Loaded(_absolute(fleet, folder), document, inventory, tuple(groups), members, tuple(alike), places)


def _placed(alike: list[Alike]) -> dict[str, tuple[Server, ...]]:
    placed: dict[str, tuple[Server, ...]] = {}
    for kind in alike:
        servers = tuple(one.server for one in kind.servers)
        placed |= dict.fromkeys(kind.hosts, servers)
    return placed


def _notify(document: Document, value: Any, folder: Path) -> tuple[Notify, ...]:
    """Paths of programs, and of files with addresses, made absolute."""
    if not isinstance(value, list | None):
        document.add(("notify",), f"expected a list, got {given_as(value, ('notify',), structure=True)}")
        return ()
    made = [validated(Notify, entry, ("notify", index), document) for index, entry in enumerate(value or [])]
    rules = []
    for rule in made:
        if rule is not None:
            webhook = reference_below(folder, rule.webhook) if rule.webhook else None
            command = rule.command
            if command and "/" in command[0]:
                command = (str(below(folder, Path(command[0]))), *command[1:])
            rules.append(rule.model_copy(update={"webhook": webhook, "command": command}))
    return tuple(rules)


def _certificates(document: Document, docker: Docker, folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for registry, path in docker.registry_cas.items():
        at = ("docker", "registry_cas", registry)
        try:
            texts[registry] = below(folder, path).read_text(encoding="utf-8").strip() + "\n"
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            document.add(at, f"{quoted(str(path))} cannot be read: {reason}")
            continue
        if "-----BEGIN CERTIFICATE-----" not in texts[registry]:
            document.add(at, f"{quoted(str(path))} holds no certificate (PEM)")
    return texts


def _recipe_folders(document: Document, value: Any, folder: Path) -> tuple[Path, ...]:
    """Where recipes are looked for after the built-in ones: `recipes/` beside the file, then what it names."""
    beside = folder / "recipes"
    folders = [beside] if is_folder(beside) else []
    entries = [value] if isinstance(value, str) else value or []
    if not isinstance(entries, list):
        document.add(("recipes",), f"expected a list of folders, got {given_as(value, ('recipes',), structure=True)}")
        return ()
    for index, entry in enumerate(entries):
        at = ("recipes", index)
        if not isinstance(entry, str):
            document.add(at, f"expected a folder, got {given_as(entry, at)}")
        elif not is_folder(below(folder, Path(entry))):
            document.add(at, f"no such folder: {quoted(entry)}")
        else:
            folders.append(below(folder, Path(entry)))
    return tuple(dict.fromkeys(folders))


def _absolute(fleet: Fleet, folder: Path) -> Fleet:
    """The fleet with every path absolute, those of hosts and servers are already, and with its caches in use."""
    ssh, hub, docker = fleet.ssh, fleet.hub, fleet.docker
    if fleet.distribution.hub:
        hub = hub.model_copy(update={"endpoint": fleet.distribution.hub})
    if fleet.distribution.registry:
        docker = docker.model_copy(update={"registry_mirrors": (fleet.distribution.registry, *docker.registry_mirrors)})
    if ssh.config is not None:
        ssh = ssh.model_copy(update={"config": below(folder, ssh.config)})
    if hub.token is not None:
        hub = hub.model_copy(update={"token": reference_below(folder, hub.token)})
    if docker.registries:
        logins = {
            host: login.model_copy(update={"password": reference_below(folder, login.password)})
            for host, login in docker.registries.items()
        }
        docker = docker.model_copy(update={"registries": logins})
    return fleet.model_copy(update={"ssh": ssh, "hub": hub, "docker": docker})


def _unique(document: Document) -> list[Problem]:
    return list({(p.line, p.column, p.key, p.reason): p for p in document.problems}.values())
