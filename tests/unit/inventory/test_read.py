"""Inventories of every kind, read by Ansible itself."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from provisioner.errors import InputError, UsageError
from provisioner.fleet.load import load_fleet
from provisioner.inventory.read import read_inventory

INI = """\
[gpus]
gpu-[01:02] ansible_user=ops ansible_port=2222

[sparks]
spark-01 ansible_host=10.0.0.9

[ai:children]
gpus
sparks
"""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_ini(tmp_path: Path) -> None:
    found = read_inventory([written(tmp_path / "hosts.ini", INI)])
    assert sorted(found.hosts) == ["gpu-01", "gpu-02", "spark-01"]
    assert (found.hosts["gpu-01"].user, found.hosts["gpu-01"].port) == ("ops", 2222)
    assert found.hosts["spark-01"].address == "10.0.0.9"
    assert sorted(found.groups["ai"]) == ["gpu-01", "gpu-02", "spark-01"]
    assert "ungrouped" not in found.groups


def test_folder_with_variables(tmp_path: Path) -> None:
    written(tmp_path / "inv/hosts.yml", "sparks: {hosts: {spark-01: , spark-02: }}\n")
    written(tmp_path / "inv/group_vars/sparks.yml", 'ansible_host: "{{ inventory_hostname }}.example.com"\n')
    written(tmp_path / "inv/host_vars/spark-02.yml", "ansible_user: nvidia\nansible_ssh_private_key_file: /keys/a\n")
    found = read_inventory([tmp_path / "inv"])
    assert found.hosts["spark-01"].address == "spark-01.example.com"
    assert (found.hosts["spark-02"].user, found.hosts["spark-02"].identity_file) == ("nvidia", "/keys/a")


def test_plugin(tmp_path: Path) -> None:
    file = written(
        tmp_path / "made.yml",
        "plugin: ansible.builtin.generator\nhosts: {name: 'gpu-{{ n }}'}\nlayers: {n: [1, 2]}\n",
    )
    assert sorted(read_inventory([file]).hosts) == ["gpu-1", "gpu-2"]


def test_script(tmp_path: Path) -> None:
    text = '#!/bin/sh\necho \'{"gpus": {"hosts": ["a"]}, "_meta": {"hostvars": {"a": {"ansible_user": "x"}}}}\'\n'
    script = written(tmp_path / "hosts", text)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    assert read_inventory([script]).hosts["a"].user == "x"


def test_several_are_one(tmp_path: Path) -> None:
    first = written(tmp_path / "one.ini", "[gpus]\na ansible_user=one\n")
    second = written(tmp_path / "two.ini", "[gpus]\nb\n[all:vars]\nansible_port=2022\n")
    found = read_inventory([first, second])
    assert found.groups["gpus"] == ("a", "b")
    assert (found.hosts["a"].user, found.hosts["a"].port) == ("one", 2022)


def test_variables_that_are_not_used_are_named(tmp_path: Path) -> None:
    text = "a ansible_ssh_common_args='-J bastion' ansible_connection=ssh\nb ansible_connection=local\n"
    found = read_inventory([written(tmp_path / "hosts.ini", text)])
    assert found.hosts["a"].unused == ("ansible_ssh_common_args",)
    assert found.hosts["b"].unused == ("ansible_connection",)


def test_what_no_plugin_can_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Ansible cannot read it: Completely failed to parse inventory source"):
        read_inventory([written(tmp_path / "hosts.ini", "[a\n")])


def test_a_port_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a: ansible_port is no port: ssh"):
        read_inventory([written(tmp_path / "hosts.ini", "a ansible_port=ssh\n")])


def test_in_a_fleet(tmp_path: Path) -> None:
    written(tmp_path / "hosts.ini", INI)
    text = "inventory: hosts.ini\nservers:\n  a: {recipe: nemotron-3-nano, hosts: [sparks]}\n"
    fleet = load_fleet(written(tmp_path / "fleet.yaml", text), read_inventory)
    assert [(host.name, host.address) for host in fleet.hosts] == [("spark-01", "10.0.0.9")]


def test_what_is_wrong_with_it_has_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "hosts.ini", "[a\n")
    file = written(tmp_path / "fleet.yaml", "inventory: hosts.ini\nservers:\n  a: {recipe: nemotron-3-nano}\n")
    with pytest.raises(InputError, match=r"fleet.yaml:1:1: inventory: Ansible cannot read it"):
        load_fleet(file, read_inventory)
