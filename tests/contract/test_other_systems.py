"""What the roles would install where no host of the lab can stand: Ubuntu (DGX OS is one) and the RHEL family.

Ansible itself evaluates the roles' own variables and the arguments of their own tasks, with the facts of such a system
put in place of this machine's. Nothing is installed, and no module of a package manager runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml
from plays import run_playbook

ROOT = Path(__file__).parents[2]
SYSTEMS = {
    "ubuntu": ("Debian", "Ubuntu", "24.04", "noble", "x86_64"),
    "dgx-spark": ("Debian", "Ubuntu", "24.04", "noble", "aarch64"),
    "bookworm": ("Debian", "Debian", "12.11", "bookworm", "x86_64"),
    "trixie": ("Debian", "Debian", "13.1", "trixie", "aarch64"),
    "rocky": ("RedHat", "Rocky", "9.6", "Blue Onyx", "x86_64"),
    "rhel": ("RedHat", "RedHat", "9.6", "Plow", "aarch64"),
}
PLAYBOOK = """\
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - name: Be that system
      ansible.builtin.set_fact: {cacheable: true, os_family: "{{ system[0] }}", distribution: "{{ system[1] }}",
        distribution_version: "{{ system[2] }}", distribution_major_version: "{{ system[2].split('.')[0] }}",
        distribution_release: "{{ system[3] }}", architecture: "{{ system[4] }}", pkg_mgr: none}
    - ansible.builtin.include_vars: "{{ item }}"
      loop: "{{ role_variables }}"
    - ansible.builtin.include_role: {name: docker_engine, tasks_from: source}
    - name: Keep what it comes to
      ansible.builtin.copy:
        dest: "{{ out }}/{{ inventory_hostname }}.json"
        mode: "0600"
        content: "{{ {'docker': {'from': docker_engine_from, 'packages': docker_engine_wanted_packages,
          'repository': docker_repository[system[0]]}, 'toolkit': {'packages': nvidia_container_toolkit_packages,
          'repository': toolkit_repository[system[0]]}} | to_json }}"
"""
MODULES = {"Debian": "ansible.builtin.deb822_repository", "RedHat": "ansible.builtin.yum_repository"}
ROLES = {"docker": "docker_engine", "toolkit": "nvidia_container_toolkit"}
VARIABLES = ("defaults/main.yml", "vars/main.yml")
FILES = {"Debian": "install_debian.yml", "RedHat": "install_redhat.yml"}


def repository_task(role: str, family: str) -> dict[str, Any]:
    """The task of the role that writes a repository, as it stands there."""
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks" / FILES[family]).read_text(encoding="utf-8"))
    flat = [task for outer in tasks for task in (outer, *outer.get("block", ()))]
    (found,) = [task for task in flat if MODULES[family] in task]
    return dict(found)


def evaluate(folder: Path, systems: Collection[str] = tuple(SYSTEMS), **settings: Any) -> dict[str, Any]:
    """By system: what the roles come to with these variables."""
    out = folder / "out"
    out.mkdir()
    inventory = {"all": {"hosts": {name: {"system": list(SYSTEMS[name])} for name in systems}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    written = {(role, family): repository_task(role, family) for role in ROLES.values() for family in MODULES}
    given: dict[str, Any] = {
        "out": str(out),
        "ansible_python_interpreter": sys.executable,
        "docker_engine_installed": False,
        "docker_engine_version_fits": False,
        "docker_engine_version_there": "",
        "role_variables": [str(ROOT / "roles" / role / part) for role in ROLES.values() for part in VARIABLES],
        **{
            f"{name}_repository": {family: written[role, family][MODULES[family]] for family in MODULES}
            for name, role in ROLES.items()
        },
        **settings,
    }
    for task in written.values():
        given |= task.get("vars") or {}
    (folder / "given.yml").write_text(yaml.safe_dump(given), encoding="utf-8")
    (folder / "site.yml").write_text(PLAYBOOK, encoding="utf-8")
    done = run_playbook(folder, "-i", "hosts.yml", "-e", "@given.yml", "site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in systems}


DOCKER_COM = ["docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"]
ADDRESS = "https://download.docker.com/linux"
NVIDIA = "https://nvidia.github.io/libnvidia-container"


@pytest.fixture(scope="module")
def from_docker_com(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluate(tmp_path_factory.mktemp("docker.com"), docker_engine_source="docker.com")


@pytest.mark.parametrize("system", ["ubuntu", "dgx-spark", "bookworm", "trixie"])
def test_docker_coms_repository_for_apt(from_docker_com: dict[str, Any], system: str) -> None:
    directory, suite = ("ubuntu", "noble") if system in ("ubuntu", "dgx-spark") else ("debian", system)
    found = from_docker_com[system]["docker"]
    assert found["from"] == "docker.com"
    assert found["packages"] == DOCKER_COM
    assert found["repository"] == {
        "name": "docker",
        "types": ["deb"],
        "uris": f"{ADDRESS}/{directory}",
        "suites": [suite],
        "components": ["stable"],
        "signed_by": f"{ADDRESS}/{directory}/gpg",
    }


@pytest.mark.parametrize(("system", "directory"), [("rocky", "centos"), ("rhel", "rhel")])
def test_docker_coms_repository_for_dnf(from_docker_com: dict[str, Any], system: str, directory: str) -> None:
    found = from_docker_com[system]["docker"]
    assert found["packages"] == DOCKER_COM
    assert found["repository"]["baseurl"] == f"{ADDRESS}/{directory}/$releasever/$basearch/stable"
    assert found["repository"]["gpgkey"] == f"{ADDRESS}/{directory}/gpg"
    assert found["repository"]["gpgcheck"] is True


@pytest.mark.parametrize(
    ("system", "arch"), [("ubuntu", "amd64"), ("dgx-spark", "arm64"), ("bookworm", "amd64"), ("trixie", "arm64")]
)
def test_nvidias_repository_for_apt(from_docker_com: dict[str, Any], system: str, arch: str) -> None:
    found = from_docker_com[system]["toolkit"]
    assert found["packages"] == ["nvidia-container-toolkit"]
    assert found["repository"]["uris"] == f"{NVIDIA}/stable/deb/{arch}"
    assert found["repository"]["suites"] == ["/"]
    assert found["repository"]["signed_by"] == f"{NVIDIA}/gpgkey"


def test_nvidias_repository_for_dnf(from_docker_com: dict[str, Any]) -> None:
    found = from_docker_com["rhel"]["toolkit"]["repository"]
    assert found["baseurl"] == f"{NVIDIA}/stable/rpm/$basearch"
    assert found["repo_gpgcheck"] is True


def test_versions_are_packages_of_that_version(tmp_path: Path) -> None:
    given = {"docker_engine_version": "28.3.3", "nvidia_container_toolkit_version": "1.18.0"}
    found = evaluate(tmp_path, docker_engine_source="docker.com", **given)
    assert found["ubuntu"]["docker"]["packages"] == [
        "docker-ce=5:28.3.3-*",
        "docker-ce-cli=5:28.3.3-*",
        "containerd.io",
        "docker-buildx-plugin",
    ]
    assert found["rocky"]["docker"]["packages"] == [
        "docker-ce-28.3.3",
        "docker-ce-cli-28.3.3",
        "containerd.io",
        "docker-buildx-plugin",
    ]
    names = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools")
    names += ("libnvidia-container1",)
    assert found["dgx-spark"]["toolkit"]["packages"] == [f"{name}=1.18.0-*" for name in names]
    assert found["rhel"]["toolkit"]["packages"] == [f"{name}-1.18.0" for name in names]


def test_where_docker_com_cannot_be_reached_it_is_the_distributions(tmp_path: Path) -> None:
    found = evaluate(tmp_path, docker_engine_repository_url="http://127.0.0.1:9")
    told = {name: (one["docker"]["from"], one["docker"]["packages"]) for name, one in found.items()}
    assert told["ubuntu"] == told["dgx-spark"] == ("distribution", ["docker.io", "docker-buildx"])
    assert told["bookworm"] == ("distribution", ["docker.io"])
    assert told["trixie"] == ("distribution", ["docker.io", "docker-cli", "docker-buildx"])
    # they have none of their own: that docker.com cannot be reached is dnf's to say
    assert told["rocky"] == told["rhel"] == ("docker.com", DOCKER_COM)


def test_versions_of_the_distributions_packages(tmp_path: Path) -> None:
    found = evaluate(
        tmp_path, ("ubuntu", "trixie"), docker_engine_source="distribution", docker_engine_version="28.2.2"
    )
    assert found["ubuntu"]["docker"]["packages"] == ["docker.io=28.2.2*", "docker-buildx"]
    assert found["trixie"]["docker"]["packages"] == ["docker.io=28.2.2*", "docker-cli=28.2.2*", "docker-buildx"]
