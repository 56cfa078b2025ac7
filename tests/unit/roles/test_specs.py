"""argument_specs, defaults and names: one list of variables for each role, told in one way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from load import NAMES, ROLES, read

TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}


def test_the_roles_are_those_of_the_design() -> None:
    provisioning = ["docker_engine", "model_weights", "nvidia_container_toolkit", "vllm_image", "vllm_server"]
    assert sorted([*provisioning, "removal"]) == NAMES
    # what each of them changes it takes down first
    for role in NAMES:
        assert read(role, "meta/main.yml")["dependencies"] == [{"role": "host_record"}]


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
        if name.endswith(("_token", "_secrets", "_registries")):
            assert option["no_log"] is True, name


@pytest.mark.parametrize("role", NAMES)
def test_role_has_what_every_role_has(role: str) -> None:
    for path in ("README.md", "meta/main.yml", "tasks/main.yml", "tasks/preflight.yml"):
        assert (ROLES / role / path).is_file(), path


def tasks_of(tree: Any) -> list[dict[str, Any]]:
    """All tasks of a file, those in blocks too."""
    found = []
    for task in tree:
        found.append(task)
        for section in ("block", "rescue", "always"):
            found += tasks_of(task.get(section, []))
    return found


SECRETS = ("model_weights_token", "vllm_server_secrets", "vllm_image_registries")


@pytest.mark.parametrize("path", sorted(ROLES.glob("*/tasks/*.yml")), ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_tasks_that_hold_secrets_are_not_logged(path: Any) -> None:
    for task in tasks_of(yaml.safe_load(path.read_text())):
        arguments = {key: value for key, value in task.items() if key not in {"block", "rescue", "always", "when"}}
        if any(secret in str(arguments) for secret in SECRETS) and not hidden_by_module(path.parents[1], task):
            assert task.get("no_log") is True, task["name"]


def hidden_by_module(role: Path, task: dict[str, Any]) -> bool:
    """Whether the task gives secrets to a module of the role alone, in a parameter that the module declares as such."""
    (module,) = [path for path in role.glob("library/*.py") if path.stem in task] or [None]
    if module is None:
        return False
    rest = {key: value for key, value in task.items() if key != module.stem}
    names = [name for name, value in task[module.stem].items() if any(secret in str(value) for secret in SECRETS)]
    declared = [re.search(rf'"{name}": {{[^}}]*"no_log": True}}', module.read_text()) for name in names]
    return all(declared) and not any(secret in str(rest) for secret in SECRETS)


@pytest.mark.parametrize("role", NAMES)
def test_no_task_takes_over_the_name_of_an_option(role: str) -> None:
    """What a task registers or sets would hold for the rest of a play, and for the role's next run in it."""
    texts = [path.read_text() for path in (ROLES / role / "tasks").glob("*.yml")]
    taken = {name for text in texts for name in re.findall(r"register: (\w+)", text)}
    taken |= {
        name for text in texts for block in re.findall(r"set_fact:\n((?: {4,}.*\n)+)", text) for name in keys(block)
    }
    assert not taken & set(read(role, "defaults/main.yml"))


def keys(block: str) -> list[str]:
    return re.findall(r"^ +([a-z_]+):", block, re.MULTILINE)


def test_the_roles_page_names_every_scenario() -> None:
    scenarios = {f"{path.parents[2].name}/{path.parent.name}" for path in ROLES.glob("*/molecule/*/molecule.yml")}
    told = re.findall(r"^\| ([a-z_]+/[a-z0-9_]+): ", (ROLES.parent / "docs" / "roles.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(scenarios)
