"""Any Ansible inventory (YAML, INI, a folder with group_vars/ and host_vars/, a plugin's file, a script) → plain data.

Ansible reads it itself, with its own configuration (ansible.cfg, ANSIBLE_*), so that what it means is what Ansible
means by it. Importing Ansible takes a third of a second: only fleets with an inventory pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from provisioner.errors import UsageError
from provisioner.fleet.inventory import Inventory, InventoryHost
from provisioner.inventory.vault import loader_with_secrets

_UNUSED = (
    "ansible_connection",
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_become_user",
)
"""variables that change how Ansible reaches a host; this program's own connections follow the SSH configuration"""
_OURS = {"ansible_connection": ("ssh", "smart"), "ansible_become_user": ("root",)}
"""values that say what is done anyway"""


def read_inventory(paths: Sequence[Path]) -> Inventory:
    """Hosts with their connection variables, and groups with the hosts of their children.

    Raises UsageError with Ansible's own words when a source cannot be read or a variable cannot be evaluated.
    """
    from ansible.errors import AnsibleError

    try:
        with _strict():
            return _read([str(path) for path in paths])
    except AnsibleError as error:
        raise UsageError(f"Ansible cannot read it: {_one_line(error)}") from error


def _read(paths: list[str]) -> Inventory:
    from ansible.inventory.manager import InventoryManager
    from ansible.template import Templar
    from ansible.vars.manager import VariableManager

    _plugins()
    loader = loader_with_secrets()
    manager = InventoryManager(loader=loader, sources=paths)
    variables = VariableManager(loader=loader, inventory=manager)
    hosts = {}
    for host in manager.get_hosts("all"):
        found = variables.get_vars(host=host, include_hostvars=False)
        templar = Templar(loader=loader, variables=found)
        hosts[host.name] = _host(str(host.name), found, templar, paths)
    groups = {
        str(name): tuple(str(host.name) for host in group.get_hosts())
        for name, group in manager.groups.items()
        if name not in ("all", "ungrouped")
    }
    return Inventory(hosts=hosts, groups=groups)


def _host(name: str, found: Mapping[str, Any], templar: Any, paths: list[str]) -> InventoryHost:
    def value(*names: str) -> Any:
        said = next((found[one] for one in names if one in found), None)
        return templar.template(said) if said is not None else None

    port = value("ansible_port", "ansible_ssh_port")
    if port is not None and not (str(port).isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"{name}: ansible_port is no port: {port}")
    key = value("ansible_ssh_private_key_file", "ansible_private_key_file")
    address, user = value("ansible_host", "ansible_ssh_host"), value("ansible_user", "ansible_ssh_user")
    unused = (one for one in _UNUSED if one in found and str(value(one)) not in _OURS.get(one, ()))
    return InventoryHost(
        name=name,
        address=_text(address),
        port=None if port is None else int(port),
        user=_text(user),
        identity_file=None if key is None else str(Path(str(key)).expanduser().absolute()),
        unused=tuple(unused),
        source=_source(found, paths),
    )


def _source(found: Mapping[str, Any], paths: list[str]) -> str:
    """The source that names the host: Ansible keeps its file, or its folder."""
    if len(paths) == 1:
        return paths[0]
    file = str(found.get("inventory_file") or found.get("inventory_dir") or "")
    return file or ", ".join(paths)


@cache
def _plugins() -> None:
    """Collections become importable; once in a process."""
    from ansible.plugins.loader import init_plugin_loader
    from ansible.utils.collection_loader import AnsibleCollectionConfig

    if AnsibleCollectionConfig.collection_finder is None:  # it is there where Ansible runs us
        init_plugin_loader()


def _text(value: Any) -> str | None:
    # Ansible's strings carry tags of their own; plain data should not.
    return None if value is None else str.__str__(value) if isinstance(value, str) else str(value)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextmanager
def _strict() -> Iterator[None]:
    """A source that no plugin can read is an error here; Ansible itself would warn and go on without its hosts."""
    from ansible import constants

    names = ("INVENTORY_ANY_UNPARSED_IS_FAILED", "INVENTORY_UNPARSED_IS_FAILED", "LOCALHOST_WARNING")
    before = {name: getattr(constants, name, None) for name in names}
    try:
        constants.INVENTORY_ANY_UNPARSED_IS_FAILED = True
        constants.LOCALHOST_WARNING = False
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)
