"""What an Ansible inventory says, as plain data. Reading one is I/O and lives in `provisioner.inventory`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from provisioner.fleet.base import Frozen


class InventoryHost(Frozen):
    """One host of an inventory: what of its variables is used here."""

    name: str
    address: str | None = None
    """ansible_host"""
    port: int | None = None
    """ansible_port"""
    user: str | None = None
    """ansible_user"""
    identity_file: str | None = None
    """ansible_ssh_private_key_file, absolute"""
    unused: tuple[str, ...] = ()
    """variables that change how Ansible reaches the host, and that are not used here"""
    source: str = ""
    """the inventory that names it"""


class Inventory(Frozen):
    """Hosts and groups of all inventories of a fleet."""

    hosts: dict[str, InventoryHost]
    groups: dict[str, tuple[str, ...]]
    """by group: names of its hosts, those of its child groups too"""


ReadInventory = Callable[[Sequence[Path]], Inventory]
"""Inventories, later ones over earlier ones, as Ansible merges them. Raises UsageError for one it cannot read."""
