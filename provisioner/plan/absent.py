"""What is ours on a host and has no place in the fleet any more: known by its mark, whoever put it there."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from provisioner.plan.facts import Facts
from provisioner.plan.model import Absent, Server

MARK = "# Written by provision"
"""how the roles' templates begin"""
ENV_DIR = "/etc/vllm"
UNIT_DIR = "/etc/systemd/system"
PATTERNS = (f"{UNIT_DIR}/vllm-*.service", f"{ENV_DIR}/*.env")
"""where files with our mark are looked for"""


def absent_servers(facts: Facts, names: Collection[str]) -> tuple[Absent, ...]:
    """Servers with a unit on the host that are not among `names`."""
    units = (re.fullmatch(rf"{UNIT_DIR}/vllm-(.+)\.service", path) for path in facts.marked)
    found = [unit.group(1) for unit in units if unit]
    return tuple(
        Absent(name=name, unit=f"vllm-{name}.service", container=f"vllm-{name}") for name in found if name not in names
    )


def absent_files(facts: Facts, servers: Sequence[Server]) -> tuple[str, ...]:
    """Files of secrets on the host that none of the servers reads."""
    read = {server.secret_file.path for server in servers if server.secret_file}
    return tuple(path for path in facts.marked if path.startswith(f"{ENV_DIR}/") and path not in read)
