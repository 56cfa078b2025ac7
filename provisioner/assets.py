"""Where playbooks/ and roles/ are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from provisioner.errors import ProvisionError

_PACKAGE = Path(__file__).resolve().parent
_PARTS = ("defaults", "files", "filter_plugins", "handlers", "library", "meta", "tasks", "templates", "vars")
"""of a role: what Ansible reads"""


@cache
def ansible_dir() -> Path:
    """The folder that holds `playbooks/` and `roles/`."""
    for folder in (_PACKAGE / "_ansible", _PACKAGE.parent):
        if (folder / "playbooks" / "site.yml").is_file() and (folder / "roles").is_dir():
            return folder
    raise ProvisionError(
        f"the playbooks and roles are missing beside {_PACKAGE}", hint="install the package again, whole"
    )


def fingerprint() -> str:
    """What the playbooks and roles say, as a short hash: the same in a checkout and in a wheel."""
    folder = ansible_dir()
    parts = [folder / "playbooks", *(folder / "roles" / role / part for role in _roles(folder) for part in _PARTS)]
    digest = hashlib.sha256()
    for path in sorted(file for part in parts for file in part.rglob("*") if file.is_file() and file.suffix != ".pyc"):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _roles(folder: Path) -> list[str]:
    return [role.name for role in (folder / "roles").iterdir() if role.is_dir()]


def filters(role: str) -> Path:
    """The file of a role's filter plugins."""
    return ansible_dir() / "roles" / role / "filter_plugins" / f"{role}.py"


def module(role: str, name: str) -> str:
    """The text of a role's own Ansible module."""
    return (ansible_dir() / "roles" / role / "library" / f"{name}.py").read_text(encoding="utf-8")


def template(role: str, name: str) -> str:
    """The text of a role's template."""
    return (ansible_dir() / "roles" / role / "templates" / name).read_text(encoding="utf-8")
