"""The shapes that an operator may write, brought into one: what `models` then checks, key by key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from provisioner.fleet.explain import given_as, validated
from provisioner.fleet.hostnames import expand
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.layers import Layer
from provisioner.fleet.models import Archive, Build, Image, Server
from provisioner.fleet.paths import below, is_file
from provisioner.fleet.positions import Document
from provisioner.fleet.slo import WrongObjectiveError, parse_objective

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE_KEYS = frozenset(Image.model_fields)


def host_entries(document: Document, value: Any) -> Iterator[tuple[str, Any, Key]]:
    """Name, settings and place of every host: from a list of names or a mapping of names to settings."""
    seen: dict[str, Key] = {}
    for pattern, settings, path in _written_hosts(document, value):
        for name in _expanded(document, pattern, path):
            if name in seen:
                line = document.place(seen[name])[0]
                document.add(path, f"host {quoted(name)} is there twice", f"first in line {line}")
                continue
            seen[name] = path
            yield name, settings, path


def server_layer(document: Document, label: str, settings: Any, path: Key, name: str = "a") -> Layer | None:
    """What one place of the file says about a server, in its full form; None when it is no mapping.

    Wrong keys have been told; the layer is as if they were not there, so that the others can be checked further.
    """
    if settings is not None and not isinstance(settings, Mapping):
        kind = given_as(settings, path, structure=True)
        document.add(path, f"expected a mapping (key: value), got {kind}", "for example {recipe: nemotron-3-nano}")
        return None
    given = dict(settings or {})
    rest = dict(given)
    made: dict[str, Any] = {}
    for key, form in _FORMS.items():
        if rest.get(key) is not None:
            made[key] = form(document, rest.pop(key), (*path, key))
    wrong: set[str] = set()
    needed = {"name": name} | ({} if rest.get("recipe") is not None else {"recipe": ""})
    if "recipe" in rest and rest["recipe"] is None:
        rest.pop("recipe")
    checked = validated(Server, rest, path, document, {**needed, **made}, wrong=wrong)
    if checked is None:
        return None
    written = [key for key in given if key in Server.model_fields and key not in {"name", "hosts", *wrong}]
    values = {key: getattr(checked, key) if given[key] is not None else None for key in written}
    return Layer(label, path, values, frozenset(wrong))


def section(key: str, value: Any) -> Any:
    """A section at the top of the file in its full form: `distribution: peers` names its mode alone."""
    return {"mode": value} if key == "distribution" and isinstance(value, str) else value


def images(document: Document, value: Any, path: Key) -> dict[str, Image]:
    """`image:` as a reference, `{pull: …}`, `{build: …}`, `{archive: …}`, or a map of those by what a host is."""
    if value is None:
        return {}
    if isinstance(value, str) or (isinstance(value, Mapping) and value.keys() <= _IMAGE_KEYS):
        one = _image(document, value, path)
        return {"default": one} if one else {}
    if not isinstance(value, Mapping):
        document.add(path, f"expected an image reference or a mapping, got {given_as(value, path)}")
        return {}
    made = {key: _image(document, entry, (*path, key)) for key, entry in value.items()}
    return {key: image for key, image in made.items() if image}


def words_by_name(document: Document, value: Any, path: Key) -> dict[str, str]:
    """Environment variables or build arguments. Numbers and truth values are taken as they are written."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        document.add(path, f"expected a mapping (NAME: value), got {given_as(value, path, structure=True)}")
        return {}
    for name in value:
        if not _ENV_NAME.fullmatch(name):
            document.add((*path, name), "is no variable name", "letters, digits and underscores, no digit first")
    made = {name: _word(document, entry, (*path, name)) for name, entry in value.items()}
    return {name: word for name, word in made.items() if word is not None}


def words(document: Document, value: Any, path: Key) -> tuple[str, ...]:
    """Arguments, one word an item. Numbers and truth values are taken as they are written."""
    if value is None:
        return ()
    if not isinstance(value, list):
        hint = "one word an item: [--max-num-batched-tokens, 8192]"
        document.add(path, f"expected a list, got {given_as(value, path, structure=True)}", hint)
        return ()
    made = [_word(document, entry, (*path, index)) for index, entry in enumerate(value)]
    return tuple(word for word in made if word is not None)


def objectives(document: Document, value: Any, path: Key) -> dict[str, tuple[str, ...]]:
    """`slo:` as one objective, a list of them, or lists by platform, hardware or `default`."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        made = _objectives(document, value, path)
        return {"default": made} if made else {}
    return {key: _objectives(document, entry, (*path, key)) for key, entry in value.items()}


def placed_on(document: Document, value: Any, path: Key, groups: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    """Names of hosts, of ranges and of the hosts of groups, all written out; None for all hosts."""
    if value is None:
        return None
    if not isinstance(value, str | list):
        document.add(path, f"expected a list of host names, got {given_as(value, path, structure=True)}")
        return ()
    if not value:
        document.add(path, "names no host", "leave the key out for every host" if path[0] == "servers" else None)
    names: dict[str, None] = {}
    one_by_one: set[str] = set()
    for entry, at in placements(value, path):
        if not isinstance(entry, str):
            document.add(at, f"expected a host name, got {given_as(entry, at)}")
            continue
        if entry in groups:
            names |= dict.fromkeys(groups[entry])
            continue
        for name in _expanded(document, entry, at):
            if name in one_by_one:
                document.add(at, f"host {quoted(name)} is there twice")
            one_by_one.add(name)
            names[name] = None
    return tuple(names)


def placements(value: Any, path: Key) -> Iterator[tuple[Any, Key]]:
    """What a server's `hosts` names, ranges as they are written, with the place of each."""
    if isinstance(value, str):
        yield value, path
    elif isinstance(value, list):
        yield from ((entry, (*path, index)) for index, entry in enumerate(value))


def _written_hosts(document: Document, value: Any) -> Iterator[tuple[str, Any, Key]]:
    if isinstance(value, Mapping):
        for name, settings in value.items():
            yield name, settings, ("hosts", name)
        return
    if not isinstance(value, list):
        document.add(("hosts",), f"expected a list of names or a mapping of names, got {given_as(value, ('hosts',))}")
        return
    for index, name in enumerate(value):
        path = ("hosts", index)
        if isinstance(name, str):
            yield name, None, path
        elif isinstance(name, int | float):
            yield document.text(path), None, path
        else:
            hint = "for hosts with settings, write `hosts:` as a mapping" if isinstance(name, Mapping) else None
            document.add(path, f"expected a host name, got {given_as(name, path)}", hint)


def _expanded(document: Document, pattern: str, path: Key) -> list[str]:
    try:
        return expand(pattern)
    except ValueError as error:
        document.add(path, str(error))
        return []


def _image(document: Document, value: Any, path: Key) -> Image | None:
    if isinstance(value, str):
        # A bare reference is checked as if it were written under `pull`; places fall back to the key that is there.
        return validated(Image, {"pull": value}, path, document)
    if not isinstance(value, Mapping):
        expected = "an image reference, {pull: …}, {build: …} or {archive: …}"
        document.add(path, f"expected {expected}, got {given_as(value, path)}")
        return None
    given: dict[str, Any] = {}
    rest = {key: entry for key, entry in value.items() if key not in ("build", "archive")}
    if "build" in value:
        given["build"] = _build(document, value["build"], (*path, "build"))
    if "archive" in value:
        given["archive"] = _archive(document, value["archive"], (*path, "archive"))
    if len(value) != 1 and value.keys() <= _IMAGE_KEYS:
        document.add(path, "expected one of pull, build and archive")
        return None
    return validated(Image, rest, path, document, given)


def _objectives(document: Document, value: Any, path: Key) -> tuple[str, ...]:
    if isinstance(value, str):
        return _objective(document, value, path)
    if value is None:
        return ()
    if not isinstance(value, list):
        hint = "for example [output_throughput >= 1000, p99_ttft_ms <= 2000]"
        document.add(path, f"expected a list of objectives, got {given_as(value, path)}", hint)
        return ()
    return tuple(one for index, entry in enumerate(value) for one in _objective(document, entry, (*path, index)))


def _objective(document: Document, value: Any, path: Key) -> tuple[str, ...]:
    if not isinstance(value, str):
        document.add(path, f"expected an objective, got {given_as(value, path)}", "for example p99_ttft_ms <= 2000")
        return ()
    try:
        return (str(parse_objective(value)),)
    except WrongObjectiveError as error:
        document.add(path, str(error), error.hint)
        return ()


def _archive(document: Document, value: Any, path: Key) -> Archive | None:
    made = validated(Archive, {} if value is None else value, path, document)
    if made is None:
        return None
    if made.at == "host":
        if not made.path.is_absolute():
            document.add((*path, "path"), f"expected an absolute path on the hosts, got {quoted(str(made.path))}")
        return made
    file = below(document.file.parent.absolute(), made.path)
    if not is_file(file):
        document.add((*path, "path"), f"no such file: {quoted(str(made.path))}", "with at: host, it is on the hosts")
    return made.model_copy(update={"path": file})


def _build(document: Document, value: Any, path: Key) -> Build | None:
    if value is not None and not isinstance(value, Mapping):
        return validated(Build, value, path, document)
    rest = {key: entry for key, entry in (value or {}).items() if key != "args"}
    args = words_by_name(document, (value or {}).get("args"), (*path, "args"))
    return validated(Build, rest, path, document, {"args": args or None})


def _word(document: Document, value: Any, path: Key) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Mapping | list):
        hint = "for an empty text write ''" if value is None else None
        document.add(path, f"expected text, got {given_as(value, path)}", hint)
        return None
    return document.text(path)


_FORMS: dict[str, Callable[[Document, Any, Key], Any]] = {
    "image": images,
    "env": words_by_name,
    "extra_args": words,
    "slo": objectives,
}
"""keys of a server that may be written in several ways"""
