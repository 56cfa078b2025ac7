"""Which packages the roles would install on a host. Pure: from the roles' own lists and what the probe saw."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from provisioner import assets
from provisioner.errors import HostError
from provisioner.fleet.base import Frozen
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan

_ANSIBLE = {"debian": "Debian", "ubuntu": "Ubuntu"}
"""ID of os-release → Ansible's name of the distribution, of those whose packages can be bundled"""
_PYTHON = ("python3-apt", "python3-requests")
"""for Ansible's modules: apt brings the first by itself, the role the second"""
_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}


class System(Frozen):
    """What packages are made for."""

    id: str
    """ID of os-release: debian, ubuntu"""
    version: str
    """VERSION_ID: 13, 24.04"""
    arch: str
    """as dpkg calls it"""

    @property
    def words(self) -> str:
        return f"{self.id} {self.version} {self.arch}"

    @property
    def folder(self) -> str:
        return f"{self.id}-{self.version}-{self.arch}"


def system_of(facts: Facts) -> System:
    """The system of a host."""
    return System(id=facts.os_id, version=facts.os_version, arch=_ARCH.get(facts.machine, facts.machine))


def packages_for(plan: HostPlan, facts: Facts) -> tuple[str, ...]:
    """Packages that the roles may ask for on this host; nothing where they find all that they need.

    Raises HostError where they would come from a repository of its own: only the distribution's can be bundled.
    """
    if facts.docker.version is not None:
        # what its Python modules need is asked for when the role looks
        return _PYTHON if facts.os_id in _ANSIBLE else ()
    name = _ANSIBLE.get(facts.os_id)
    if name is None:
        raise HostError(
            f"{plan.host}: Docker is not installed, and packages of {facts.os_name} cannot be bundled",
            hint="install Docker by hand; bundles have packages for Debian and Ubuntu",
        )
    if plan.docker_source == "docker.com":
        raise HostError(
            f"{plan.host}: Docker is to come from docker.com, whose packages cannot be bundled",
            hint="docker: {source: distribution}, or install Docker by hand",
        )
    by_version: dict[str, list[str]] = _role_variables()["docker_engine_distribution_packages"][name]
    own = by_version.get(facts.os_version.partition(".")[0]) or by_version["*"]
    return (*own, *_PYTHON)


@cache
def _role_variables() -> dict[str, Any]:
    text = (assets.ansible_dir() / "roles" / "docker_engine" / "vars" / "main.yml").read_text(encoding="utf-8")
    variables: dict[str, Any] = yaml.safe_load(text)
    return variables
