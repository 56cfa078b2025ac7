"""Where playbooks/ and roles/ are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from provisioner.errors import ProvisionError

_PACKAGE = Path(__file__).resolve().parent


@cache
def ansible_dir() -> Path:
    """The folder that holds `playbooks/` and `roles/`."""
    for folder in (_PACKAGE / "_ansible", _PACKAGE.parent):
        if (folder / "playbooks" / "site.yml").is_file() and (folder / "roles").is_dir():
            return folder
    raise ProvisionError(
        f"the playbooks and roles are missing beside {_PACKAGE}", hint="install the package again, whole"
    )


def filters(role: str) -> Path:
    """The file of a role's filter plugins."""
    return ansible_dir() / "roles" / role / "filter_plugins" / f"{role}.py"


def module(role: str, name: str) -> str:
    """The text of a role's own Ansible module."""
    return (ansible_dir() / "roles" / role / "library" / f"{name}.py").read_text(encoding="utf-8")


def template(role: str, name: str) -> str:
    """The text of a role's template."""
    return (ansible_dir() / "roles" / role / "templates" / name).read_text(encoding="utf-8")
