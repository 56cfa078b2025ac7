"""Who can reach a server, and whether it asks who they are."""

from __future__ import annotations

import ipaddress

from provisioner.fleet.models import Server


def exposure(server: Server) -> tuple[str, ...]:
    """A warning for a server that others than the host itself can reach and that serves everybody who does."""
    if server.api_key is not None or is_loopback(server.host):
        return ()
    return (
        f"listens at {server.host} without an API key: everybody who reaches port {server.port} of the host can use "
        "the model, and vLLM checks nothing else; set api_key, or host: 127.0.0.1 behind a proxy that asks",
    )


def is_loopback(address: str) -> bool:
    """Whether only the host itself reaches this address. A name is not looked up: only `localhost` is taken for one."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return address == "localhost"
