"""Where each value of a host comes from: the fleet file (with its line), an inventory, the recipe, or a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen
from provisioner.fleet.command import Command
from provisioner.fleet.keypath import Key, dotted
from provisioner.fleet.layers import Resolved, origin
from provisioner.fleet.load import Loaded
from provisioner.fleet.models import Server
from provisioner.fleet.recipe_models import Recipe
from provisioner.fleet.suggest import did_you_mean

_HOST_KEYS = ("address", "port", "user", "identity_file", "platform", "hardware", "labels")
_SECTIONS = ("ssh", "docker", "hub", "weights", "distribution", "rollout", "schedule")
DEFAULT = "default"
NOT_SAID = "not said"
"""nobody said it and it has no value of its own: the recipe, vLLM or the host decides"""
_UNSAID = dict.fromkeys(("address", "port", "user", "identity_file"), "SSH configuration") | {"labels": NOT_SAID}
"""where keys of a host come from that nobody said; the others are seen on it"""


class Said(Frozen):
    """One value and where it was said."""

    key: str
    value: str
    source: str
    """`fleet.yaml:12:5 (group sparks)`, an inventory, a recipe's file, or `default`"""


def sources(loaded: Loaded, host: str, commands: Mapping[str, tuple[Recipe, Command]]) -> tuple[Said, ...]:
    """Every value that a host's plan is made of. `commands`: by server, what its recipe makes of the host's hardware;
    servers that are not in it leave out what the recipe decides. Raises UsageError for a host that is not there."""
    if host not in loaded.host_paths:
        raise UsageError(f'{loaded.fleet.path} has no host "{host}"', hint=did_you_mean(host, loaded.host_paths))
    servers = next((kind.servers for kind in loaded.alike if host in kind.hosts), ())
    found = [*_host(loaded, host)]
    for one in servers:
        found += _server(loaded, one)
        if one.server.name in commands:
            found += _recipe(one, *commands[one.server.name])
    found += _sections(loaded)
    # What a recipe decides takes the place of a key that nobody said.
    return tuple({one.key: one for one in found}.values())


def matching(said: Sequence[Said], key: str) -> tuple[Said, ...]:
    """Those whose key is `key`, ends with it, or lies below it. Raises UsageError when there is none."""
    found = tuple(one for one in said if f".{one.key}.".find(f".{key}.") >= 0 or one.key.startswith(f"{key}["))
    if not found:
        last = dict.fromkeys(one.key.rpartition(".")[2] for one in said)
        raise UsageError(f'no key "{key}" here', hint=did_you_mean(key, [*(one.key for one in said), *last]))
    return found


def _host(loaded: Loaded, name: str) -> Iterator[Said]:
    host, path = loaded.fleet.host(name), loaded.host_paths[name]
    own = _written(loaded.document.data, path)
    listed = loaded.inventory.hosts.get(name)
    for key in _HOST_KEYS:
        value, source = getattr(host, key), DEFAULT
        if not value:
            source = _UNSAID.get(key, "seen on the host")
        elif own.get(key) is not None:
            source = _place(loaded, (*path, key))
        else:
            group = next((g for g in reversed(loaded.groups) if name in g.hosts and key in g.host_settings), None)
            if group is not None:
                source = f"{_place(loaded, (*group.path, key))} (group {group.name})"
            elif listed is not None:
                source = f"inventory {listed.source}"
        yield Said(key=key, value=_text(value), source=source)


def _server(loaded: Loaded, one: Resolved) -> Iterator[Said]:
    for key in Server.model_fields:
        if key in {"name", "hosts"}:
            continue
        value = getattr(one.server, key)
        if isinstance(value, BaseModel):
            parts = {name: getattr(value, name) for name in type(value).model_fields}
            yield from (_said(loaded, one, part, key, name) for name, part in parts.items())
        elif isinstance(value, Mapping) and value:
            yield from (_said(loaded, one, part, key, name) for name, part in value.items())
        else:
            yield _said(loaded, one, value, key)


def _said(loaded: Loaded, one: Resolved, value: Any, *key: str) -> Said:
    layer = origin(one.layers, *key)
    source = NOT_SAID if value is None or value == {} else DEFAULT
    if layer is not None:
        source = f"{_place(loaded, (*layer.path, *key))} ({layer.label})"
    return Said(key=dotted(("servers", one.server.name, *key)), value=_text(value), source=source)


def _recipe(one: Resolved, recipe: Recipe, command: Command) -> Iterator[Said]:
    """What the recipe says and nobody said otherwise: its flags stand under the key that would replace them."""
    source = f"recipe {recipe.file}"
    if one.server.variant is None:
        yield Said(key=f"servers.{one.server.name}.variant", value=command.variant, source=source)
    if not one.server.image:
        image = command.image or "built from source"
        yield Said(key=f"servers.{one.server.name}.image", value=image, source=source)
    for flag, value in _flags(command.argv[1:]):
        key = flag.lstrip("-").replace("-", "_")
        own = flag in {word.partition("=")[0] for word in one.server.extra_args}
        if own or (key in Server.model_fields and origin(one.layers, key) is not None):
            continue
        name = key if key in Server.model_fields else f'args."{flag}"'
        yield Said(key=f"servers.{one.server.name}.{name}", value=value, source=source)
    for name, value in command.env.items():
        if name not in one.server.env:
            yield Said(key=f"servers.{one.server.name}.env.{name}", value=value, source=source)


def _flags(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    flag: str | None = None
    values: list[str] = []
    for word in [*argv, "--"]:
        if word.startswith("--"):
            if flag is not None:
                yield flag, " ".join(values) or "on"
            flag, values = word, []
        else:
            values.append(word)


def _sections(loaded: Loaded) -> Iterator[Said]:
    for section in _SECTIONS:
        model = getattr(loaded.fleet, section)
        for key in type(model).model_fields:
            written = _written(loaded.document.data, (section,)).get(key) is not None
            source = _place(loaded, (section, key)) if written else DEFAULT
            yield Said(key=f"{section}.{key}", value=_text(getattr(model, key)), source=source)


def _written(data: Any, path: Key) -> Mapping[str, Any]:
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def _place(loaded: Loaded, path: Key) -> str:
    line, column = loaded.document.place(path)
    return f"{loaded.fleet.path}:{line}:{column}"


def _text(value: Any) -> str:
    if value is None or value == {}:
        return "–"
    if isinstance(value, BaseModel):
        return value.model_dump_json(exclude_none=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(entry)}" for key, entry in value.items()) + "}"
    return str(value) if isinstance(value, Path | int | float) else value
