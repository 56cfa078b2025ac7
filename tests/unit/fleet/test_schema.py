"""The schema, the example that has every key, and the page that is made of both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from provisioner.fleet.models import Server
from provisioner.fleet.positions import read_document
from provisioner.fleet.reference import documented, key_paths, reference_page
from provisioner.fleet.schema import fleet_schema

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "inventories/example/fleet.yaml"
NAMED = ("hosts", "groups", "servers", "docker.registries")
SCHEMA = fleet_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
OLD = "is old: run scripts/reference"


def data(text: str, folder: Path) -> Any:
    file = folder / "fleet.yaml"
    file.write_text(text, encoding="utf-8")
    return read_document(file).data


def written(value: Any, path: str = "") -> Iterator[str]:
    """Paths of all keys of a fleet, with * for names."""
    if isinstance(value, list):
        for entry in value:
            yield from written(entry, f"{path}.*")
    if not isinstance(value, dict):
        return
    for key, entry in value.items():
        name = "*" if path in NAMED else key
        full = f"{path}.{name}" if path else name
        # By platform or hardware: what stands there is an image of its own.
        full = path if path.endswith(".image") and key not in ("pull", "build", "archive") else full
        yield full
        yield from written(entry, full)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "file", [EXAMPLE, *ROOT.glob("tests/cases/plan/*/fleet.yaml")], ids=lambda file: file.parent.name
)
def test_what_loads_is_valid(file: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(read_document(file).data)] == []


@pytest.mark.parametrize(
    "text",
    [
        "hosts: [1, gpu-01]\nservers: {a: }",
        "hosts: {a: , b: {user: x}}\nservers: {a: {hosts: a, env: {A: 1.5}, extra_args: [--x, 1, true]}}",
        "inventory: [a, b]\nservers: {a: {image: a:1}, b: {image: {build: }}, c: {image: {pull: a:1}}}",
        "hosts: [a]\nservers: {a: {image: {linux/amd64: a:1, h200: {build: {args: {A: 1}}}}}}\ngroups: {g: }",
        "hosts: [a]\nservers: {a: {image: {archive: {path: /nfs/a.tar, image: a:1, at: host}}}}",
        "hosts: [a]\nservers: {a: }\ndocker: {registries: {r.lan:5000: {username: $t, password: 'env:A'}}}",
    ],
)
def test_shorthands_are_valid(text: str, tmp_path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(data(text, tmp_path))] == []


@pytest.mark.parametrize(
    "text",
    [
        "hosts: [a]",
        "servers: {a: {recipe: x}}",
        "hosts: [a]\nservers: {a: {prot: 1}}",
        "hosts: [a]\nservers: {a: {port: 0}}",
        "hosts: [a]\nservers: {a: {port: '8000'}}",
        "hosts: [a]\nservers: {A B: }",
        "hosts: [a]\nservers: {a: {image: {pull: a:1, build: }}}",
        "hosts: [a]\nservers: {a: {api_key: hunter2}}",
        "hosts: {a: {servers: {a: {hosts: [b]}}}}\nservers: {a: }",
        "hosts: [a]\ngroups: {g: {address: b}}\nservers: {a: }",
        "hosts: [a]\ndefaults: {hosts: [a]}\nservers: {a: }",
        "hosts: [a]\nservers: {a: {mounts: [data]}}",
        "hosts: [a]\nservers: {a: {image: {archive: {path: a.tar}}}}",
        "hosts: [a]\nservers: {a: {image: {archive: {path: a.tar, image: a:1, at: nfs}}}}",
        "hosts: [a]\nservers: {a: }\ndocker: {registries: {r.example.com: {username: a}}}",
        "hosts: [a]\nservers: {a: }\ndocker: {registries: {r.example.com: {username: a, password: hunter2}}}",
        "hosts: [a]\nservers: {a: }\ndocker: {registries: {vllm: {username: a, password: 'env:A'}}}",
        "hosts: [a]\nservers: {a: }\nnotify: [{webhook: 'https://a'}]",
        "hosts: [a]\nservers: {a: }\nnotify: [{on: [sometimes], webhook: 'https://a'}]",
        "hosts: [a]\nservers: {a: }\nschedule: {lock: never}",
    ],
)
def test_what_is_wrong_is_not(text: str, tmp_path: Path) -> None:
    assert not VALIDATOR.is_valid(data(text, tmp_path))


def test_every_setting_of_a_server_is_in_it() -> None:
    assert set(SCHEMA["$defs"]["settings"]["properties"]) == set(Server.model_fields) - {"name", "hosts"}


def test_every_key_has_its_documentation() -> None:
    silent = [path for path, entry in documented(SCHEMA) if not entry.get("description")]
    assert silent == []


def test_the_example_has_every_key_and_no_other() -> None:
    known = key_paths(SCHEMA)
    has = {path for path in written(read_document(EXAMPLE).data) if path.rpartition(".")[2] != "*"}
    has = {path for path in has if not path.startswith(("hosts.*.servers.", "groups.*.servers.", "defaults."))}
    free = {path for path in has if any(f".{of}." in path for of in ("env", "args", "labels", "slo"))}
    assert known - has == set(), "keys that the example does not have"
    assert has - free - known == set(), "keys that the schema does not have"


def test_the_example_names_its_schema() -> None:
    first = EXAMPLE.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    named = EXAMPLE.parent / first.partition("=")[2]
    assert json.loads(named.read_text(encoding="utf-8")) == SCHEMA, f"{named} {OLD}"


def test_the_page_is_current() -> None:
    page = ROOT / "docs/reference.md"
    assert page.read_text(encoding="utf-8") == reference_page(EXAMPLE.read_text(encoding="utf-8"), SCHEMA), (
        f"{page} {OLD}"
    )
