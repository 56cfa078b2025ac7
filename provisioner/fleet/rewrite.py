"""Settings of one server, written into the fleet file as a person would: comments and everything else stay."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.util import load_yaml_guess_indent

from provisioner.errors import InputError, UsageError
from provisioner.fleet.inventory import ReadInventory
from provisioner.fleet.keypath import Key, dotted
from provisioner.fleet.load import Loaded, load
from provisioner.fleet.models import Server

_WIDTH = 4096
"""lines are not broken anew"""


def write_settings(
    path: Path, host: str, server: str, values: Mapping[str, Any], read_inventory: ReadInventory | None = None
) -> str:
    """Writes `values` (keys of a server; `benchmark` is merged) so that they hold for this server on this host and
    for no other. The place, dotted. UsageError, and the file as it was, where that cannot be done."""
    loaded = load(path, read_inventory)
    place = _place(loaded, host, server, values)
    text = path.read_text(encoding="utf-8")
    new = with_values(text, place, values, hosts=[host] if place[0] == "groups" else None)
    _replace(path, new, loaded, host, server, values, read_inventory)
    return dotted(place)


def with_values(text: str, place: Key, values: Mapping[str, Any], hosts: list[str] | None = None) -> str:
    """The text of a fleet file with `values` in the mapping at `place`. `hosts`: of a new group that it lies in."""
    _, sequence, offset = load_yaml_guess_indent(text)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=sequence or 2, offset=offset or 0)
    data = parent = yaml.load(text)
    for depth, part in enumerate(place):
        if not isinstance(parent.get(part), CommentedMap):
            parent[part] = CommentedMap()
            if depth == 1 and hosts:
                members = CommentedSeq(hosts)
                members.fa.set_flow_style()
                parent[part]["hosts"] = members
        parent = parent[part]
    _merge(parent, values)
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def _merge(into: CommentedMap, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            if not isinstance(into.get(key), CommentedMap):
                into[key] = CommentedMap()
                into[key].fa.set_flow_style()
            _merge(into[key], value)
        elif isinstance(value, list | tuple):
            into[key] = CommentedSeq(value)
            into[key].fa.set_flow_style()
        else:
            into[key] = value


def _place(loaded: Loaded, host: str, server: str, values: Mapping[str, Any]) -> Key:
    """The server's own entry where the host is its only one and no stronger place speaks; else the host's; else, for a
    host of a list, a range or an inventory, a group of its own."""
    with_it = [kind for kind in loaded.alike if any(one.server.name == server for one in kind.servers)]
    (resolved,) = [one for kind in with_it if host in kind.hosts for one in kind.servers if one.server.name == server]
    stronger = [layer for layer in resolved.layers if layer.path[0] in ("groups", "hosts")]
    overruled = any(key in layer.values for layer in stronger for key in values)
    if [name for kind in with_it for name in kind.hosts] == [host] and not overruled:
        return ("servers", server)
    if loaded.host_paths.get(host) == ("hosts", host):
        return ("hosts", host, "servers", server)
    return ("groups", f"tuned-{host}", "servers", server)


def _replace(
    path: Path,
    new: str,
    before: Loaded,
    host: str,
    server: str,
    values: Mapping[str, Any],
    read_inventory: ReadInventory | None,
) -> None:
    """The file with its new text, if that says what it should about every server of every host."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(new, encoding="utf-8")
    try:
        draft.chmod(path.stat().st_mode & 0o777)
        try:
            after = load(draft, read_inventory)
        except InputError as error:
            raise _refused(path, values, str(error)) from error
        for name in (one.name for one in before.fleet.hosts):
            wanted = [
                _with(one, values) if (name, one.name) == (host, server) else one
                for one in before.fleet.servers_on(name)
            ]
            if list(after.fleet.servers_on(name)) != wanted:
                raise _refused(path, values, f"it would not say the same about {name}")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _with(server: Server, values: Mapping[str, Any]) -> Server:
    update: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    if "benchmark" in update:
        update["benchmark"] = server.benchmark.model_copy(update=update["benchmark"])
    return server.model_copy(update=update)


def _refused(path: Path, values: Mapping[str, Any], why: str) -> UsageError:
    shown = ", ".join(f"{key}: {value}" for key, value in values.items())
    return UsageError(f"{path} is not changed: {why}", hint=f"write it by hand: {shown}")
