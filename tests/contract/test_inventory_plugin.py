"""A fleet file as an inventory: Ansible sees the same hosts and variables that `provision render` writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import facts, spark

from provisioner.fleet.load import load_fleet
from provisioner.fleet.recipes import find_recipe
from provisioner.inventory.read import read_inventory
from provisioner.rollout.recorded import recorded_survey
from provisioner.rollout.rendered import write_rendered

ROOT = Path(__file__).parents[2]
FLEET = """\
inventory: hosts.ini
hub: {token: env:HF_TOKEN}
groups:
  big: {hosts: [gpus], servers: {nemotron: {max_num_seqs: 512}}}
servers:
  nemotron:
    recipe: nemotron-3-nano
    hosts: [gpus, spark-01]
    api_key: "command:printf 'a b'"
    env: {A: '{{ 1 + 1 }}', B: '$(id) %n'}
"""
INVENTORY = "[gpus]\ngpu-01 ansible_user=ops\ngpu-02 ansible_host=10.0.0.2\n[sparks]\nspark-01\n[web]\nwww-01\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    (tmp_path / "hosts.ini").write_text(INVENTORY, encoding="utf-8")
    return tmp_path


def record(folder: Path, *names: str) -> Path:
    seen = {name: (spark(name) if name.startswith("spark") else facts(name)) for name in names}
    file = folder / "fleet.facts.json"
    file.write_text(json.dumps({name: one.model_dump() for name, one in seen.items()}), encoding="utf-8")
    return file


def ansible_inventory(folder: Path, source: Path, **more: str) -> tuple[dict[str, Any], str]:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
        "ANSIBLE_INVENTORY_PLUGINS": str(ROOT / "inventory_plugins"),
        "ANSIBLE_INVENTORY_ENABLED": "provision_fleet,host_list,script,auto,yaml,ini,toml",
        "ANSIBLE_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        **more,
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", source, "--list"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_same_variables_as_the_rendered_inventory(folder: Path) -> None:
    record(folder, "gpu-01", "gpu-02", "spark-01")
    fleet = load_fleet(folder / "fleet.yaml", read_inventory)
    recorded = json.loads((folder / "fleet.facts.json").read_text(encoding="utf-8"))
    known = {name: facts(name).model_validate(one) for name, one in recorded.items()}
    recipes = {name: find_recipe(name) for name in fleet.recipe_names()}
    write_rendered(folder / "out", recorded_survey(fleet, recipes, known))
    ours, warnings = ansible_inventory(folder, folder / "fleet.yaml")
    rendered, _ = ansible_inventory(folder, folder / "out" / "inventory")
    assert ours["_meta"]["hostvars"] == rendered["_meta"]["hostvars"]
    assert sorted(ours["_meta"]["hostvars"]) == ["gpu-01", "gpu-02", "spark-01"]
    assert ours["_meta"]["hostvars"]["gpu-02"]["ansible_host"] == "10.0.0.2"
    assert warnings == ""


def test_groups_are_those_of_the_file_and_of_its_inventories(folder: Path) -> None:
    record(folder, "gpu-01", "gpu-02", "spark-01")
    ours, _ = ansible_inventory(folder, folder / "fleet.yaml")
    groups = {name: sorted(group["hosts"]) for name, group in ours.items() if "hosts" in group}
    assert groups == {"big": ["gpu-01", "gpu-02"], "gpus": ["gpu-01", "gpu-02"], "sparks": ["spark-01"]}


def test_without_facts_there_are_connections_and_a_warning(folder: Path) -> None:
    ours, warnings = ansible_inventory(folder, folder / "fleet.yaml")
    assert ours["_meta"]["hostvars"]["gpu-01"] == {
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_user": "ops",
    }
    assert "fleet.facts.json is not there" in " ".join(warnings.split())


def test_a_host_without_facts_is_named(folder: Path) -> None:
    file = record(folder, "gpu-01", "spark-01").rename(folder / "other.json")
    ours, warnings = ansible_inventory(folder, folder / "fleet.yaml", PROVISION_FACTS=str(file))
    assert "vllm_server_list" in ours["_meta"]["hostvars"]["gpu-01"]
    assert "vllm_server_list" not in ours["_meta"]["hostvars"]["gpu-02"]
    assert "gpu-02 has no variables of roles: no facts of it are recorded" in " ".join(warnings.split())


def test_two_lines_name_the_fleet(folder: Path) -> None:
    record(folder, "gpu-01", "gpu-02", "spark-01")
    source = folder / "named.yml"
    source.write_text("plugin: provision_fleet\nfleet: fleet.yaml\n", encoding="utf-8")
    named, _ = ansible_inventory(folder, source, ANSIBLE_INVENTORY_ENABLED="auto,ini")
    assert named == ansible_inventory(folder, folder / "fleet.yaml")[0]


def test_other_yaml_is_left_to_others(folder: Path) -> None:
    source = folder / "plain.yml"
    source.write_text("all: {hosts: {a: {x: 1}}}\n", encoding="utf-8")
    assert ansible_inventory(folder, source)[0]["_meta"]["hostvars"] == {"a": {"x": 1}}


def test_a_wrong_fleet_says_where(folder: Path) -> None:
    (folder / "fleet.yaml").write_text(
        "hosts: [a]\nservers: {x: {recipe: nemotron-3-nano, prot: 1}}\n", encoding="utf-8"
    )
    _, warnings = ansible_inventory(folder, folder / "fleet.yaml")
    assert 'fleet.yaml:2:40: servers.x.prot: unknown key; did you mean "port"?' in " ".join(warnings.split())
