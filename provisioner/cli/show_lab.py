"""The lab's state as text and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from provisioner.lab.lab import LabStatus


def as_text(found: LabStatus) -> str:
    """A few lines for people."""
    if not found.hosts:
        return "the lab is down"
    lines = [f"Docker {found.docker_version}" + (" (the lab's own)" if found.docker_ours else "")]
    lines += [
        f"{host.name}  {host.address}  {host.hardware} (simulated)  {'up' if host.running else 'DOWN'}"
        for host in found.hosts
    ]
    lines += [f"{one.name}: {'runs' if one.running else f'DOWN, see {one.log}'}" for one in found.services]
    if found.ssh_config:
        lines.append(f"log in: ssh -F {found.ssh_config} {found.hosts[0].name}")
    if found.fleet_file:
        lines.append(f"fleet file: {found.fleet_file}")
    return "\n".join(lines)


def as_json(found: LabStatus) -> str:
    """Everything, for programs."""
    return json.dumps({"up": found.is_up, **asdict(found)}, indent=1, default=str)
