"""What single keys cannot tell: hosts, servers and recipes against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from provisioner.errors import ProvisionError, UsageError
from provisioner.fleet.hostnames import names_of
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.models import Host, Server
from provisioner.fleet.positions import Document
from provisioner.fleet.recipes import Recipe, find_recipe
from provisioner.fleet.shape import placements
from provisioner.fleet.suggest import did_you_mean
from provisioner.fleet.taxonomy import builtin

_SELECTORS = ("linux/amd64", "linux/arm64", "default")
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_OWN_KEYS = {
    "--host": "host",
    "--port": "port",
    "--api-key": "api_key",
    "--served-model-name": "served_model_name",
    "--tensor-parallel-size": "tensor_parallel_size",
}
"""flags that a key of the server stands for: given twice, checks would look at the wrong place"""
_SECRET_ENV = {"HF_TOKEN": "hub.token", "HUGGING_FACE_HUB_TOKEN": "hub.token", "VLLM_API_KEY": "api_key"}


def check_text(document: Document) -> None:
    """No control characters anywhere: they could end a line of a unit or a name in what is made of them."""
    for path, text in _texts(document.data, ()):
        found = next((c for c in text if ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000), None)
        if found is not None:
            document.add(path, f"control character U+{ord(found):04X} is not allowed here")


def check_hosts(document: Document, hosts: Sequence[tuple[Host, Key]]) -> None:
    """Two names for one machine, and hardware that does not exist."""
    seen: dict[tuple[str, int], Host] = {}
    profiles = builtin().profiles
    for host, path in hosts:
        where = ((host.address or host.name).casefold(), host.port or 22)
        first = seen.setdefault(where, host)
        if first is not host:
            document.add(path, f"same address and port as host {quoted(first.name)}: {where[0]}, port {where[1]}")
        if host.hardware is not None and host.hardware not in profiles:
            reason = f"unknown hardware {quoted(host.hardware)}"
            document.add((*path, "hardware"), reason, did_you_mean(host.hardware, profiles))


def check_servers(
    document: Document,
    servers: Sequence[tuple[Server, frozenset[str]]],
    hosts: Sequence[str],
    recipes: Sequence[Path],
) -> None:
    """Each server against the hosts and recipes there are, then all servers of a host against each other.

    A server comes with the keys that are known to be wrong: their values here are defaults, which nobody wrote.
    `hosts` are all names in the file, those of wrong entries too. Without any, no placement is judged.
    """
    for server, wrong in servers:
        if hosts:
            _check_placement(document, server, hosts)
        if not wrong & {"gpus", "tensor_parallel_size"}:
            _check_gpus(document, server)
        _check_image_keys(document, server)
        _check_own_keys(document, server)
        if "recipe" not in wrong:
            _check_recipe(document, server, recipes)
    placed = {server.name: frozenset(hosts if server.hosts is None else server.hosts) for server, _ in servers}
    for (first, one), (second, other) in combinations(servers, 2):
        both = placed[first.name] & placed[second.name]
        shared = [host for host in hosts if host in both]
        if not shared:
            continue
        where = f"on {shared[0]}" + (f" and {len(shared) - 1} more" if len(shared) > 1 else "")
        if not (one | other) & {"port", "host"}:
            _check_ports(document, first, second, where)
        if "gpus" not in one | other:
            _check_gpus_apart(document, first, second, where)


def _check_placement(document: Document, server: Server, hosts: Sequence[str]) -> None:
    if server.hosts is None:
        return
    known, path = frozenset(hosts), ("servers", server.name, "hosts")
    written = document.data["servers"][server.name].get("hosts")
    places = {name: at for entry, at in placements(written, path) if isinstance(entry, str) for name in names_of(entry)}
    for name in server.hosts:
        if name not in known:
            document.add(places[name], f"unknown host {quoted(name)}", did_you_mean(name, hosts))


def _check_gpus(document: Document, server: Server) -> None:
    path = ("servers", server.name)
    if isinstance(server.gpus, tuple) and len(set(server.gpus)) < len(server.gpus):
        document.add((*path, "gpus"), "a GPU is there twice")
    if server.gpus == "all" or server.tensor_parallel_size is None:
        return
    count = server.gpus if isinstance(server.gpus, int) else len(server.gpus)
    if server.tensor_parallel_size > count:
        size = server.tensor_parallel_size
        document.add((*path, "tensor_parallel_size"), f"needs {size} GPUs, and gpus gives the server {count}")


def _check_image_keys(document: Document, server: Server) -> None:
    known = (*_SELECTORS, *builtin().profiles)
    for key in server.image:
        if key not in known:
            path = ("servers", server.name, "image", key)
            document.add(path, "expected linux/amd64, linux/arm64, a hardware id or default", did_you_mean(key, known))


def _check_own_keys(document: Document, server: Server) -> None:
    path = ("servers", server.name)
    for index, word in enumerate(server.extra_args):
        flag = word.partition("=")[0]
        if flag in _OWN_KEYS:
            document.add((*path, "extra_args", index), f"{flag} has a key of its own", f"use {_OWN_KEYS[flag]}")
    for name in server.env:
        if name in _SECRET_ENV:
            hint = f"use {_SECRET_ENV[name]} with a reference such as env:{name}"
            document.add((*path, "env", name), "a secret must not stand in a server's environment", hint)


def _check_recipe(document: Document, server: Server, search: Sequence[Path]) -> None:
    path = ("servers", server.name)
    try:
        recipe = find_recipe(server.recipe, search)
    except UsageError as error:
        document.add((*path, "recipe"), error.message, error.hint)
        return
    except ProvisionError as error:
        document.add((*path, "recipe"), f"recipe {quoted(server.recipe)} is wrong: {error}")
        return
    _check_named(document, recipe, server.variant, recipe.variants, (*path, "variant"), "variant")
    for index, name in enumerate(server.features):
        _check_named(document, recipe, name, recipe.features, (*path, "features", index), "feature")


def _check_named(
    document: Document, recipe: Recipe, name: str | None, known: Mapping[str, Any], path: Key, what: str
) -> None:
    if name is not None and name not in known:
        reason = f"recipe {recipe.meta.slug} has no {what} {quoted(name)}"
        document.add(path, reason, did_you_mean(name, known))


def _check_ports(document: Document, first: Server, second: Server, where: str) -> None:
    same_address = first.host == second.host or {first.host, second.host} & set(_ANY_ADDRESS)
    if first.port == second.port and same_address:
        reason = f"port {second.port} is taken by server {quoted(first.name)} {where}"
        document.add(("servers", second.name, "port"), reason, "give each server of a host a port of its own")


def _check_gpus_apart(document: Document, first: Server, second: Server, where: str) -> None:
    path = ("servers", second.name, "gpus")
    one, other = _indexes(first), _indexes(second)
    if one is None or other is None:
        greedy = first if one is None else second
        reason = f"GPUs are taken twice {where}: server {quoted(greedy.name)} takes all of them"
        document.add(path, reason, "say which each server gets: gpus: [0]")
    elif one & other:
        names = ", ".join(map(str, sorted(one & other)))
        reason = f"GPU {names} is taken by server {quoted(first.name)} {where}"
        document.add(path, reason, "give each server of a host GPUs of its own")


def _indexes(server: Server) -> frozenset[int] | None:
    """None: all of them."""
    if server.gpus == "all":
        return None
    return frozenset(range(server.gpus) if isinstance(server.gpus, int) else server.gpus)


def _texts(value: Any, path: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield (*path, key), key
            yield from _texts(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _texts(entry, (*path, index))
