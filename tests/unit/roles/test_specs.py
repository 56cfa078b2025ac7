"""argument_specs, defaults and names: one list of variables for each role, told in one way."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from load import NAMES, ROLES, read

TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}


def test_the_roles_are_the_five_of_the_design() -> None:
    assert NAMES == ["docker_engine", "model_weights", "nvidia_container_toolkit", "vllm_image", "vllm_server"]


@pytest.mark.parametrize("role", NAMES)
def test_defaults_are_those_of_the_specs(role: str) -> None:
    options = read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert read(role, "defaults/main.yml") == {name: option["default"] for name, option in options.items()}


@pytest.mark.parametrize("role", NAMES)
def test_options_are_typed_and_described(role: str) -> None:
    for entry in read(role, "meta/argument_specs.yml")["argument_specs"].values():
        for name, option in entry["options"].items():
            assert name.startswith(f"{role}_")
            check_option(name, option)


def check_option(path: str, option: dict[str, Any]) -> None:
    """Fails where an option, or one inside it, has no type, no description or a default of another type."""
    assert option.get("type") in TYPES, path
    assert option.get("description"), path
    if "default" in option:
        assert type(option["default"]) is TYPES[option["type"]], path
    if option["type"] == "list":
        assert "elements" in option, path
        assert option["elements"] != "dict" or "options" in option, path
    for name, inner in option.get("options", {}).items():
        check_option(f"{path}.{name}", inner)


@pytest.mark.parametrize("role", NAMES)
def test_secrets_are_marked(role: str) -> None:
    options = read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    for name, option in options.items():
        if name.endswith(("_token", "_secrets")):
            assert option["no_log"] is True, name


@pytest.mark.parametrize("role", NAMES)
def test_role_has_what_every_role_has(role: str) -> None:
    for path in ("README.md", "meta/main.yml", "tasks/main.yml", "tasks/preflight.yml"):
        if (role, path) == ("model_weights", "tasks/preflight.yml"):
            continue  # looking is its first task already
        assert (ROLES / role / path).is_file(), path


def tasks_of(tree: Any) -> list[dict[str, Any]]:
    """All tasks of a file, those in blocks too."""
    found = []
    for task in tree:
        found.append(task)
        for section in ("block", "rescue", "always"):
            found += tasks_of(task.get(section, []))
    return found


@pytest.mark.parametrize("path", sorted(ROLES.glob("*/tasks/*.yml")), ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_tasks_that_hold_secrets_are_not_logged(path: Any) -> None:
    for task in tasks_of(yaml.safe_load(path.read_text())):
        arguments = {key: value for key, value in task.items() if key not in {"block", "rescue", "always", "when"}}
        text = str(arguments).replace("model_weights_token_", "").replace("model_weights_token | length", "")
        if "model_weights_token" in text or "vllm_server_secrets" in text:
            assert task.get("no_log") is True, task["name"]
