"""What an operator writes in a fleet file, after loading. Names here are the keys of the file.

The whole is here; its parts are in modules of their own, and imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from provisioner.fleet.base import Frozen
from provisioner.fleet.delivery import Archive, Build, Distribution, Hub, Image, Weights
from provisioner.fleet.docker import Docker, LogRotation, RegistryLogin
from provisioner.fleet.formats import FORMATS as _OWN_FORMATS
from provisioner.fleet.formats import Name
from provisioner.fleet.host import Host, Ssh
from provisioner.fleet.measuring import Baseline, Benchmark, Figure, Goodput
from provisioner.fleet.notify import FORMATS as _NOTIFY_FORMATS
from provisioner.fleet.notify import Notify
from provisioner.fleet.rollout import FORMATS as _ROLLOUT_FORMATS
from provisioner.fleet.rollout import Rollout
from provisioner.fleet.schedule import FORMATS as _SCHEDULE_FORMATS
from provisioner.fleet.schedule import Schedule
from provisioner.fleet.server import Server

__all__ = [
    "FORMATS",
    "Archive",
    "Baseline",
    "Benchmark",
    "Build",
    "Distribution",
    "Docker",
    "Figure",
    "Fleet",
    "Goodput",
    "Host",
    "Hub",
    "Image",
    "LogRotation",
    "RegistryLogin",
    "Server",
    "Ssh",
    "Weights",
]

FORMATS = _OWN_FORMATS | _NOTIFY_FORMATS | _SCHEDULE_FORMATS | _ROLLOUT_FORMATS
"""Patterns of all fields, in words."""


class Fleet(Frozen):
    """A whole fleet file."""

    name: Name = "fleet"
    path: Path
    """the file it came from"""
    ssh: Ssh = Ssh()
    docker: Docker = Docker()
    hub: Hub = Hub()
    weights: Weights = Weights()
    distribution: Distribution = Distribution()
    rollout: Rollout = Rollout()
    schedule: Schedule = Schedule()
    notify: tuple[Notify, ...] = ()
    """who is told about rollouts"""
    recipes: tuple[Path, ...] = ()
    """folders with more recipes: `recipes/` beside the file, then those that it names (a clone of the public ones)"""
    hosts: tuple[Host, ...]
    servers: tuple[Server, ...]
    """as `defaults` and `servers` say, without what groups and hosts say otherwise"""
    certificates: dict[str, str] = Field(default_factory=dict)
    """by registry: the text of the file in docker.registry_cas"""
    placed: dict[str, tuple[Server, ...]] | None = None
    """by host: its servers as they are there; None: those of `servers` that name it"""

    def host(self, name: str) -> Host:
        """The host of that name; KeyError when there is none."""
        return self._by_name[name]

    def servers_on(self, host: str) -> tuple[Server, ...]:
        """The servers of a host, in the file's order, with what its groups and itself say otherwise."""
        if self.placed is not None:
            return self.placed.get(host, ())
        return tuple(server for server in self.servers if server.hosts is None or host in server.hosts)

    def recipe_names(self) -> tuple[str, ...]:
        """Every recipe that a server of some host uses, once."""
        lists = (self.servers,) if self.placed is None else tuple(self.placed.values())
        distinct = {id(servers): servers for servers in lists}  # hosts alike share one list
        return tuple(dict.fromkeys(server.recipe for servers in distinct.values() for server in servers))

    @cached_property
    def _by_name(self) -> dict[str, Host]:
        return {host.name: host for host in self.hosts}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; the index of hosts is made anew."""
        made = super().model_copy(update=update, deep=deep)
        made.__dict__.pop("_by_name", None)
        return made
