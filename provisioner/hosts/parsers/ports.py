"""/proc/net/tcp and tcp6, proc(5)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from provisioner.plan.facts import Container, Port


def parse_ports(
    lines: Iterable[str], owners: Mapping[str, Mapping[str, Any]], containers: Iterable[Container]
) -> tuple[Port, ...]:
    """Listening sockets, one a line of the kernel's table. `owners`: pid, comm, cgroup by socket inode."""
    names = {container.id: container.name for container in containers}
    found = []
    for line in lines:
        fields = line.split()
        address, _, port = fields[1].rpartition(":")
        owner = owners.get(fields[9], {})
        found.append(
            Port(
                port=int(port, 16),
                address=parse_address(address),
                process=owner.get("comm", ""),
                container=_container(owner.get("cgroup", ""), names),
            )
        )
    return tuple(found)


def parse_address(text: str) -> str:
    """An address of the table: words of four bytes, each in the byte order of the machine (all of ours: little)."""
    words = [text[place : place + 8] for place in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(bytes.fromhex(word)[::-1] for word in words)))


def _container(cgroup: str, names: Mapping[str, str]) -> str:
    """Docker names the control group of a container after its id, whatever driver made it."""
    ids = re.findall(r"[0-9a-f]{64}", cgroup)
    return next((names[one] for one in ids if one in names), "")
