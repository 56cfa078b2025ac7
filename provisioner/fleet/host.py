"""What a fleet file says of a host, and how hosts are reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from provisioner.fleet.base import Frozen, Platform
from provisioner.fleet.formats import USER, Address, HostName, Port
from provisioner.fleet.rollout import GROUP, Label


class Ssh(Frozen):
    """How hosts are reached; what is not said here comes from the SSH configuration."""

    config: Path | None = None
    """SSH configuration file, relative to the fleet file; default ~/.ssh/config."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """seconds for each step of connecting; wins over ConnectTimeout of the SSH configuration"""


class Host(Frozen):
    """One machine. Everything else is seen on it."""

    name: HostName
    address: Address | None = None
    """Name or IP address to connect to; default: the host's name, as the SSH configuration knows it."""
    port: Port | None = None
    """Port of the SSH server."""
    user: Annotated[str, StringConstraints(pattern=USER)] | None = None
    """Who logs in; must be allowed sudo without a password."""
    identity_file: Path | None = None
    """Private key, relative to the fleet file."""
    platform: Platform | None = None
    """What the host is expected to be; a different machine is an error before anything is changed."""
    hardware: str | None = None
    """Hardware profile id, where detection by GPU name must be overruled."""
    labels: dict[Label, Label] = Field(default_factory=dict)
    """What it is grouped by in a rollout, such as `rack: a3`; labels of its groups are its own too."""
    groups: tuple[str, ...] = ()
    """groups of the fleet file and of inventories that it belongs to, without `all`"""
    notes: tuple[str, ...] = ()
    """what an operator should know about how it came here"""

    def batch(self, label: str) -> str | None:
        """The host's value of a label that a rollout goes by; `group` is its first group. None when it has none."""
        return next(iter(self.groups), None) if label == GROUP else self.labels.get(label)
