"""The lab's own network: a bridge whose gateway address is this machine, and fixed addresses for hosts."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab.docker import LABEL, docker, exists, inspect
from provisioner.lab.process import run

NETWORK = "provision-lab"
_CANDIDATES = tuple(
    IPv4Network(text) for text in ("172.30.77.0/24", "172.29.77.0/24", "10.213.77.0/24", "192.168.213.0/24")
)
_FIRST_HOST = 11


@dataclass(frozen=True)
class LabNetwork:
    """The bridge: hosts reach this machine's services at `gateway`."""

    subnet: IPv4Network
    gateway: IPv4Address


def ensure_network() -> LabNetwork:
    """The lab's network, made with a subnet that this machine has no route to yet. Raises LabError."""
    if not exists("network", NETWORK):
        subnet = free_subnet(_CANDIDATES, _routes())
        argv = ["network", "create", "--subnet", str(subnet), "--gateway", str(subnet[1]), "--label", f"{LABEL}=1"]
        docker([*argv, NETWORK], what="making the lab's network")
    return current_network()


def current_network() -> LabNetwork:
    """The lab's network as it is. Raises LabError where there is none."""
    config = inspect("network", [NETWORK])[0]["IPAM"]["Config"][0]
    return LabNetwork(subnet=IPv4Network(config["Subnet"]), gateway=IPv4Address(config["Gateway"]))


def free_subnet(candidates: Iterable[IPv4Network], taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first candidate that overlaps nothing. Raises LabError when all do."""
    used = list(taken)
    tried = list(candidates)
    for subnet in tried:
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise LabError(f"no free network for the lab: this machine has routes into {', '.join(map(str, tried))}")


def free_addresses(network: LabNetwork, taken: Iterable[IPv4Address], count: int) -> list[IPv4Address]:
    """The lowest addresses for new hosts, from .11 on. Raises LabError when the network is full."""
    used = set(taken)
    free = [address for address in list(network.subnet.hosts())[_FIRST_HOST - 1 :] if address not in used]
    if len(free) < count:
        raise LabError(f"the lab's network {network.subnet} has {len(free)} addresses left, {count} are needed")
    return free[:count]


def nameservers() -> list[str]:
    """This machine's name servers that a container can reach too: no loopback address."""
    places = [Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")]
    for place in places:
        lines = place.read_text().splitlines() if place.exists() else []
        words = [line.split()[1] for line in lines if line.startswith("nameserver ")]
        servers = [word for word in words if not ipaddress.ip_address(word.partition("%")[0]).is_loopback]
        if servers:
            return servers
    return []


def _routes() -> list[IPv4Network]:
    told = json.loads(run(["ip", "-j", "-4", "route"], timeout=20, what="reading this machine's routes"))
    return [IPv4Network(route["dst"]) for route in told if route["dst"] != "default"]
