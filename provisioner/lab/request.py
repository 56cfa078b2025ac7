"""What the lab is asked for, and what it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from provisioner.lab.hosts import HostStatus

DEFAULT_FLEET = Path("inventories/lab/fleet.yaml")


@dataclass(frozen=True)
class LabRequest:
    """What `lab up` is asked for. `engine`: "auto" (real vLLM on amd64, the sim elsewhere) or "sim" (everywhere)."""

    hosts: tuple[str, ...] = ("h200:2", "gb10:1")
    fleet_file: Path = DEFAULT_FLEET
    engine: str = "auto"
    uplink_mib_s: float = 0
    """MiB a second that all hosts together get from registry and hub; 0 for as many as there are"""


@dataclass(frozen=True)
class ServiceStatus:
    """One background process of the lab on this machine."""

    name: str
    running: bool
    log: Path


@dataclass(frozen=True)
class LabStatus:
    """The lab as it is. Without a Docker engine or a network there is nothing to tell: None, empty tuples."""

    docker_version: str | None
    docker_ours: bool
    gateway: str | None
    hosts: tuple[HostStatus, ...]
    services: tuple[ServiceStatus, ...]
    state: Path
    cache: Path
    ssh_config: Path | None
    fleet_file: Path | None

    @property
    def is_up(self) -> bool:
        """Whether there are hosts and everything that the lab started runs."""
        return bool(self.hosts) and all(host.running for host in self.hosts) and all(x.running for x in self.services)
