"""Validation with pydantic, told in our words: where, what was expected, what was given, what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.models import FORMATS
from provisioner.fleet.positions import Document
from provisioner.fleet.suggest import did_you_mean

M = TypeVar("M", bound=BaseModel)

_SECRET = re.compile(r"token|key|secret|passw|credential", re.IGNORECASE)
_PRIVATE = frozenset(
    {"env", "extra_args", "args", "endpoint", "git", "registry_mirrors", "username", "proxies", "webhook"}
)
"""keys whose values may hold a secret by mistake"""
_UNIONS = {
    "gpus": '"all", a number of GPUs, or a list of GPU indexes such as [0, 1]',
    "canary": '"auto", a number of hosts, or a list of their names',
    "batches": "a list of numbers of hosts or percentages such as [1, 10%, 50%]",
}
"""keys that may be one of several things, of which pydantic would complain once each"""
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "path_type": "a path",
}


def validated(
    model: type[M],
    data: Any,
    path: Key,
    document: Document,
    given: Mapping[str, Any] | None = None,
    *,
    wrong: set[str] | None = None,
) -> M | None:
    """An instance of `model` from what stands at `path`; None, with problems noted in the document, when it is wrong.

    A key without a value is as good as left out. `given` are fields that are not read from the file. With `wrong`, the
    keys that are wrong are added to it, and the instance is what is left without them, so that more can be checked.
    """
    ours = dict(given or {})
    if data is not None and not isinstance(data, Mapping):
        document.add(path, f"expected a mapping (key: value), got {given_as(data, path, structure=True)}")
        return None if wrong is None else _left(model, ours)
    written = {key: value for key, value in (data or {}).items() if value is not None}
    for key in written:
        if key in ours:
            document.add((*path, key), "unknown key")
    values = written | ours
    try:
        return model.model_validate(values)
    except ValidationError as error:
        told: set[Key] = set()
        for entry in error.errors(include_url=False):
            _tell(model, values, entry, path, document, told, ours.keys() - written.keys())
        if wrong is None:
            return None
        bad = {str(entry["loc"][0]) for entry in error.errors(include_url=False) if entry["loc"]}
        wrong |= bad
        return _left(model, {key: value for key, value in values.items() if key not in bad})


def given_as(value: Any, path: Key, *, structure: bool = False) -> str:
    """How a message names a value. Values that may be secret are named by their kind alone."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    private = structure or is_private(path)
    if isinstance(value, str):
        return "text" if private else quoted(value, 40)
    return "a number" if private else str(value).lower()


def is_private(path: Key) -> bool:
    """Whether the value of this key might be a secret, so that no message may show it."""
    return any(isinstance(part, str) and (part in _PRIVATE or _SECRET.search(part)) for part in path)


def _left(model: type[M], values: Mapping[str, Any]) -> M | None:
    try:
        return model.model_validate(values)
    except ValidationError:
        return None  # what is wrong has been told


def _tell(
    model: type[BaseModel],
    values: Any,
    entry: Any,
    path: Key,
    document: Document,
    told: set[Key],
    unwritten: Collection[str],
) -> None:
    kind, inner, known = entry["type"], _written(entry["loc"], values), model
    if inner and inner[0] in unwritten:
        inner = inner[1:]
    at = (*path, *inner)
    if kind == "too_short" and entry["ctx"]["actual_length"] < len(entry["input"]):
        return  # items that are wrong themselves were not counted, and have been told
    if kind == "missing":
        document.add((*at, entry["loc"][-1]), "is missing")
        return
    if kind == "extra_forbidden":
        for part in inner[:-1]:
            known = _model_of(known, part)
        document.add(at, "unknown key", did_you_mean(str(inner[-1]), known.model_fields))
        return
    if inner and inner[0] in _UNIONS:
        at = (*path, inner[0])
        if at not in told:
            told.add(at)
            given = given_as(values[inner[0]], at)
            document.add(at, f"expected {_UNIONS[str(inner[0])]}, got {given}")
        return
    reason, hint = _reason(kind, entry, at)
    document.add(at, reason, hint)


def _reason(kind: str, entry: Any, at: Key) -> tuple[str, str | None]:
    context, value = entry.get("ctx", {}), entry["input"]
    if kind == "value_error":
        return str(context["error"]), None
    if kind == "too_short":
        return f"expected a list of {context['min_length']} or more, got {context['actual_length']}", None
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", context["expected"])
        hint = did_you_mean(value, options) if isinstance(value, str) and not is_private(at) else None
        near = hint if hint and hint.startswith("did") else None
        return f"expected {_either(options)}, got {given_as(value, at)}", near
    expected = _EXPECTED.get(kind) or _bound(kind, context)
    if kind == "string_pattern_mismatch":
        expected = FORMATS.get(context["pattern"])
    if expected is None:
        return str(entry["msg"])[:1].lower() + str(entry["msg"])[1:], None
    structure = expected in ("a list", "a mapping (key: value)")
    return f"expected {expected}, got {given_as(value, at, structure=structure)}", None


def _bound(kind: str, context: Any) -> str | None:
    words = {
        "greater_than_equal": ("ge", "{} or more"),
        "less_than_equal": ("le", "{} or less"),
        "greater_than": ("gt", "more than {}"),
        "less_than": ("lt", "less than {}"),
    }
    if kind not in words:
        return None
    name, text = words[kind]
    return text.format(f"{context[name]:g}")


def _either(options: list[str]) -> str:
    return ", ".join(options[:-1]) + f" or {options[-1]}" if len(options) > 1 else options[0]


def _written(location: tuple[str | int, ...], values: Any) -> Key:
    """The part of pydantic's location that stands in the file: it adds names of its own for unions."""
    kept: list[str | int] = []
    for part in location:
        in_list = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        if in_list or (isinstance(values, Mapping) and part in values):
            values = values[part]
            kept.append(part)
    return tuple(kept)


def _model_of(model: type[BaseModel], field: str | int) -> type[BaseModel]:
    annotation = model.model_fields[str(field)].annotation if str(field) in model.model_fields else None
    choices = [annotation, *get_args(annotation)]
    return next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), model)
