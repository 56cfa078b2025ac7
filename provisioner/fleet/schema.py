"""JSON Schema (draft 2020-12) of the fleet file as it may be written, shorthands included: for editors and other tools.

Made from the models and what they say about their fields. It knows what one key may be; what keys mean together
(placements, ports, GPUs, recipes) only loading tells.
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from provisioner.fleet import models
from provisioner.fleet.field_docs import description, field_docs
from provisioner.fleet.notify import Notify
from provisioner.fleet.rollout import Rollout
from provisioner.fleet.schedule import Schedule

Schema = dict[str, Any]

_WORD: Schema = {"type": ["string", "number", "boolean"]}
_NAMES: Schema = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "number"]}}, {"type": "null"}]
}
_PATHS: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
_UNWRITTEN = {"Host": ("name", "groups", "notes"), "Server": ("name", "hosts")}
_TEXTS = {
    "inventory": "Ansible inventories: a path or a list of them (YAML, INI, a folder with group_vars and host_vars, a "
    "plugin's file, a script), read by Ansible with its own configuration. Their hosts belong to the fleet where a "
    "server is placed on them; their groups can be named wherever hosts can.",
    "hosts": "The machines: a list of names, or a mapping of names to settings. Ranges: gpu-[01:16], rack-[a:c]. With "
    "an inventory, settings of its hosts and machines besides them.",
    "groups": "Groups of hosts, of this file or of an inventory, and what is different for them. Of two groups that a "
    "host belongs to, the later one in the file wins.",
    "defaults": "Settings of every server that says nothing else itself.",
    "servers": "The vLLM servers by name.",
    "recipes": "Folders with more recipes, such as a clone of https://github.com/vllm-project/recipes. They are looked "
    "through after the built-in ones and `recipes/` beside the fleet file, which needs no mention.",
    "notify": "Who is told what rollouts do. Docs: docs/running.md.",
    "name": "Names runs and reports.",
    "placed": "Where it is placed: names of hosts, ranges, groups. Left out: on every host.",
    "members": "Who belongs to it, besides those that an inventory puts there: names of hosts, ranges, groups.",
    "overrides": "By server: what is different here. A key without a value takes away what weaker places say.",
}


def fleet_schema() -> Schema:
    """The whole schema."""
    settings = _server()
    placed = {**settings["properties"], "hosts": {**_NAMES, "description": _TEXTS["placed"]}}
    overrides = {
        "type": ["object", "null"],
        "description": _TEXTS["overrides"],
        "additionalProperties": {"$ref": "#/$defs/settings"},
    }
    host = _section(models.Host)
    shared = {key: value for key, value in host["properties"].items() if key != "address"}
    members = {"hosts": {**_NAMES, "description": _TEXTS["members"]}}
    named = {"type": "object", "additionalProperties": {"$ref": "#/$defs/host"}}
    listed = {"type": "array", "items": {"type": ["string", "number"]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "provision: a fleet",
        "type": "object",
        "additionalProperties": False,
        "required": ["servers"],
        "anyOf": [{"required": ["hosts"]}, {"required": ["inventory"]}],
        "properties": {
            "name": {**_property(models.Fleet, "name"), "description": _TEXTS["name"]},
            "ssh": _section(models.Ssh),
            "docker": _docker(),
            "hub": _section(models.Hub),
            "weights": _section(models.Weights),
            "distribution": _distribution(),
            "rollout": _section(Rollout),
            "schedule": _section(Schedule),
            "notify": {
                "type": ["array", "null"],
                "description": _TEXTS["notify"],
                "items": {"$ref": "#/$defs/notify"},
            },
            "recipes": {**_PATHS, "description": _TEXTS["recipes"]},
            "inventory": {**_PATHS, "description": _TEXTS["inventory"]},
            "hosts": {"anyOf": [listed, named, {"type": "null"}], "description": _TEXTS["hosts"]},
            "groups": {
                "type": ["object", "null"],
                "description": _TEXTS["groups"],
                "additionalProperties": {"$ref": "#/$defs/group"},
            },
            "defaults": {"$ref": "#/$defs/settings", "description": _TEXTS["defaults"]},
            "servers": {
                "type": "object",
                "description": _TEXTS["servers"],
                "minProperties": 1,
                "propertyNames": {"pattern": _property(models.Server, "name")["pattern"]},
                "additionalProperties": {"$ref": "#/$defs/server"},
            },
        },
        "$defs": {
            "host": _object({**host["properties"], "servers": overrides}, description(models.Host)),
            "group": _object({**members, **shared, "servers": overrides}, "A group of hosts."),
            "server": _object(placed, description(models.Server)),
            "settings": settings,
            "image": _image(),
            "build": _build(),
            "archive": _required(models.Archive),
            "notify": _required(Notify),
        },
    }


def _docker() -> Schema:
    section = _section(models.Docker)
    registries = section["properties"]["registries"]
    (hosts,) = registries.pop("patternProperties")
    registries |= {"propertyNames": {"pattern": hosts}, "additionalProperties": _required(models.RegistryLogin)}
    return section


def _distribution() -> Schema:
    """The mode's word alone, or a section."""
    section = _section(models.Distribution)
    modes = "|".join(get_args(models.Distribution.model_fields["mode"].annotation))
    return {**section, "type": ["string", *section["type"]], "pattern": f"^({modes})$"}


def _server() -> Schema:
    section = _section(models.Server)
    section["properties"] |= {
        "image": {"$ref": "#/$defs/image", "description": section["properties"]["image"].get("description", "")},
        "env": _words_by_name(section["properties"]["env"]),
        "extra_args": {**section["properties"]["extra_args"], "type": ["array", "null"], "items": _WORD},
        "slo": _objectives(section["properties"]["slo"].get("description", "")),
    }
    return section


def _objectives(text: str) -> Schema:
    some: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
    by_what = {"type": "object", "additionalProperties": some}
    return {"anyOf": [*some["anyOf"][:2], by_what, {"type": "null"}], "description": text}


def _image() -> Schema:
    reference = _inlined(models.Image)["properties"]["pull"]["anyOf"][0]
    reference["description"] = field_docs(models.Image)["pull"]
    sources = {"pull": reference, "build": {"$ref": "#/$defs/build"}, "archive": {"$ref": "#/$defs/archive"}}
    one = [
        reference,
        *(
            {"type": "object", "additionalProperties": False, "required": [key], "properties": {key: source}}
            for key, source in sources.items()
        ),
    ]
    by_what = {
        "type": "object",
        "propertyNames": {"not": {"enum": list(sources)}},
        "additionalProperties": {"anyOf": one},
    }
    return {"anyOf": [*one, by_what, {"type": "null"}]}


def _build() -> Schema:
    section = _section(models.Build)
    section["properties"]["args"] = _words_by_name(section["properties"]["args"])
    return section


def _words_by_name(given: Schema) -> Schema:
    names = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
    text = {"description": given["description"]} if "description" in given else {}
    return {"type": ["object", "null"], "propertyNames": names, "additionalProperties": _WORD, **text}


def _required(model: type[BaseModel]) -> Schema:
    """A section that does not stand without a value, with the keys that it must have."""
    needed = [name for name, field in model.model_fields.items() if field.is_required()]
    return {**_section(model), "type": "object", "required": needed}


def _section(model: type[BaseModel]) -> Schema:
    left_out = _UNWRITTEN.get(model.__name__, ())
    written = [name for name in model.model_fields if name not in left_out]
    return _object({name: _property(model, name) for name in written}, description(model))


def _object(properties: Schema, text: str) -> Schema:
    return {"type": ["object", "null"], "description": text, "additionalProperties": False, "properties": properties}


def _property(model: type[BaseModel], name: str) -> Schema:
    """One key, which may also stand without a value."""
    annotation = model.model_fields[name].annotation
    text = {"description": docs} if (docs := field_docs(model).get(name)) else {}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        section = _section(annotation)
        return {**section, **({"description": f"{docs} {section['description']}"} if docs else {})}
    made = dict(_inlined(model)["properties"][name])
    made.pop("title", None)
    if made.get("default", ...) in (None, {}, []):
        made.pop("default")
    return {**_nullable(made), **text}


def _nullable(given: Schema) -> Schema:
    if isinstance(given.get("type"), str) and not {"enum", "const"} & given.keys():
        return {**given, "type": [given["type"], "null"]}
    choices = given.get("anyOf", [{key: value for key, value in given.items() if key != "default"}])
    choices = choices if {"type": "null"} in choices else [*choices, {"type": "null"}]
    default = {"default": given["default"]} if "default" in given else {}
    return {"anyOf": choices, **default}


def _inlined(model: type[BaseModel]) -> Schema:
    """Pydantic's schema, with references to other models written out."""
    made = model.model_json_schema(mode="validation")
    definitions = made.pop("$defs", {})

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                name = value["$ref"].rpartition("/")[2]
                return walk({**definitions[name], **{key: entry for key, entry in value.items() if key != "$ref"}})
            return {key: walk(entry) for key, entry in value.items() if key != "title" or not isinstance(entry, str)}
        return [walk(entry) for entry in value] if isinstance(value, list) else value

    inlined: Schema = walk(made)
    return inlined
