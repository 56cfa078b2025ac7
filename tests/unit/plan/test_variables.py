"""What the plan emits is what the roles take: names, types, required keys and choices of their argument_specs."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from builders import facts, fleet, plan, server, spark

from provisioner import assets
from provisioner.fleet.models import Archive, Build, Docker, Hub, Image, LogRotation, RegistryLogin, Weights
from provisioner.plan.model import HostPlan
from provisioner.plan.variables import Expression, role_variables, secret, secret_name, server_element

BUILD = Build(git="https://git.lan/vllm", ref="v0.13.0", dockerfile="docker/Dockerfile", target="vllm-openai")
ARCHIVE = Archive(path=Path("/srv/vllm.tar.zst"), image="vllm/vllm-openai:v0.12.0", at="host")
LOGINS = {
    "m:5000": RegistryLogin(username="$oauthtoken", password="file:/run/password"),
    "ghcr.io": RegistryLogin(username="ops", password="env:GHCR"),
}
EVERYTHING = fleet(
    server("a", gpus=(0,), api_key="env:API_KEY", env={"X": "1"}, features=("reasoning",)),
    server("b", gpus=(1,), port=8001, image={"default": Image(build=BUILD)}),
    server("c", gpus=(2,), port=8002, image={"default": Image(archive=ARCHIVE)}),
    docker=Docker(
        source="docker.com",
        registry_mirrors=("http://m",),
        insecure_registries=("m:5000",),
        registries=LOGINS,
        version="28.3.3",
        data_root="/data/docker",
        logs=LogRotation(max_size="10m", max_files=3),
        gpus="cdi",
        stop_others=True,
    ),
    certificates={"m:5000": "PEM\n"},
    hub=Hub(endpoint="http://hub.lan", token="file:/run/token"),
    weights=Weights(download=False),
)
PLANS = {
    "three lines": plan(),
    "spark": plan(fleet(hosts=("spark-01",)), spark()),
    "everything": plan(EVERYTHING, facts(gpus=("NVIDIA H200",) * 3)),
}


@cache
def specs() -> dict[str, dict[str, Any]]:
    """Role → options of its main entry point."""
    found = {}
    for path in sorted((assets.ansible_dir() / "roles").glob("*/meta/argument_specs.yml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[path.parent.parent.name] = spec["argument_specs"]["main"]["options"]
    return found


def subset(wanted: Any, given: Any) -> bool:
    """Whether `given` holds all of `wanted`: validation adds defaults and must convert nothing."""
    if isinstance(wanted, dict):
        return isinstance(given, dict) and all(subset(value, given.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(given, list) and len(wanted) == len(given) and all(map(subset, wanted, given))
    return bool(given == wanted) and isinstance(given, type(wanted) if not isinstance(wanted, Expression) else str)


@pytest.mark.parametrize("the_plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("role", sorted(set(specs()) - {"removal"}))  # which no plan speaks of
def test_the_roles_take_what_the_plan_emits(the_plan: HostPlan, role: str) -> None:
    mine = {name: value for name, value in role_variables(the_plan).items() if name.startswith(f"{role}_")}
    assert mine
    result = ArgumentSpecValidator(specs()[role]).validate(mine)
    assert result.error_messages == []
    assert subset(mine, result.validated_parameters)


def test_what_a_fleet_leaves_out_is_as_the_roles_have_it() -> None:
    defaults = {name: option["default"] for options in specs().values() for name, option in options.items()}
    said = {"nvidia_container_toolkit_proof_image", "vllm_image_list", "model_weights_list", "vllm_server_list"}
    found = role_variables(PLANS["three lines"])
    assert {name: found[name] for name in found.keys() - said} == {name: defaults[name] for name in found.keys() - said}


@pytest.mark.parametrize("the_plan", PLANS.values(), ids=PLANS)
def test_every_variable_belongs_to_a_role(the_plan: HostPlan) -> None:
    known = {name for options in specs().values() for name in options}
    assert set(role_variables(the_plan)) <= known


def test_the_specs_would_refuse_what_does_not_fit() -> None:
    wrong = role_variables(PLANS["three lines"]) | {"docker_engine_source": "snap", "docker_engine_config": "x"}
    mine = {name: value for name, value in wrong.items() if name.startswith("docker_engine_")}
    assert len(ArgumentSpecValidator(specs()["docker_engine"]).validate(mine).error_messages) == 2


def test_secrets_are_expressions_and_nothing_else_is() -> None:
    found = role_variables(PLANS["everything"])
    assert found["model_weights_token"] == secret("file:/run/token")
    assert found["vllm_server_secrets"] == {
        "a": {"VLLM_API_KEY": secret("env:API_KEY"), "OPENAI_API_KEY": secret("env:API_KEY")}
    }
    assert found["vllm_image_registries"] == [
        {"registry": "m:5000", "username": "$oauthtoken", "password": secret("file:/run/password")},
        {"registry": "ghcr.io", "username": "ops", "password": secret("env:GHCR")},
    ]
    hidden = ("model_weights_token", "vllm_server_secrets", "vllm_image_registries")
    rest = {name: value for name, value in found.items() if name not in hidden}
    assert not any(isinstance(value, Expression) for value in leaves(rest))


@pytest.mark.parametrize(
    ("image", "registries"),
    [
        (Image(pull="m:5000/vllm:v0.12.0"), ["m:5000"]),
        (Image(pull="vllm/vllm-openai:v0.12.0"), ["docker.io"]),
        (Image(pull="docker.io/vllm/vllm-openai:v0.12.0"), ["docker.io"]),
        (Image(archive=ARCHIVE), []),
        (Image(build=BUILD), ["m:5000", "ghcr.io", "docker.io"]),  # what its Dockerfile begins from is not known
    ],
)
def test_a_host_gets_the_logins_of_its_own_images(image: Image, registries: list[str]) -> None:
    known = Docker(registries={**LOGINS, "docker.io": LOGINS["ghcr.io"]})
    the_plan = plan(fleet(server(image={"default": image}), docker=known))
    assert [login.registry for login in the_plan.registries] == registries


def test_a_reference_that_no_expression_can_spell_goes_by_a_hash() -> None:
    assert secret('command:pass "show" hf') == "{{ provision_secrets['command:pass \"show\" hf'] }}"
    name = secret_name("command:echo 'a'")
    assert re.fullmatch(r"command:[0-9a-f]{12}", name)
    assert secret("command:echo 'a'") == "{{ provision_secrets['" + name + "'] }}"
    assert secret_name("command:echo 'b'") != name


def test_a_server_element_as_text() -> None:
    assert server_element(
        name="nemotron",
        unit="vllm-nemotron.service",
        container="vllm-nemotron",
        model_id="org/model",
        docker_argv=["/usr/bin/docker", "run", "a b"],
        secret_path=None,
        image="i:1",
        argv=["org/model", "--x"],
        port=8000,
    ) == {
        "name": "nemotron",
        "unit": "vllm-nemotron.service",
        "container": "vllm-nemotron",
        "description": "vLLM server nemotron (org/model)",
        "exec_start": '/usr/bin/docker run "a b"',
        "stop_timeout_s": 30,
        "secret_path": "",
        "image": "i:1",
        "argv": ["serve", "org/model", "--x"],
        "port": 8000,
        "drain_timeout_s": 0,
        "open_firewall": False,
        "unified_memory": False,
    }


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for entry in value.values() for leaf in leaves(entry)]
    if isinstance(value, list):
        return [leaf for entry in value for leaf in leaves(entry)]
    return [value]
