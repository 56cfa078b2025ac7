"""A web proxy for the lab: Debian's tinyproxy at the bridge's gateway, the only way out that some networks have."""

from __future__ import annotations

from pathlib import Path

from provisioner.lab import debs, services
from provisioner.lab.context import Report
from provisioner.lab.machine import Mirror
from provisioner.lab.registry import wait_for_port

PORT = 3128
SERVICE = "proxy"


def ensure_proxy(state: Path, cache: Path, mirror: Mirror, gateway: str, report: Report) -> None:
    """Starts it unless it runs. Raises LabError when it does not come up."""
    if services.is_running(state, SERVICE):
        return
    # with a C library of its own: this machine's may be older
    root = debs.unpacked(cache, mirror, "tinyproxy", ["tinyproxy-bin", "libc6"])
    loader = debs.program(root, "usr/lib64/ld-linux-x86-64.so.2")
    program = debs.program(root, "usr/bin/tinyproxy")
    argv = [str(loader), "--library-path", str(root / "usr/lib/x86_64-linux-gnu"), str(program)]
    config = state / "proxy.conf"
    config.write_text(config_text(gateway))
    services.start(state, SERVICE, [*argv, "-d", "-c", str(config)])
    wait_for_port(state, SERVICE, gateway, PORT)
    report(f"{SERVICE}: answers at {gateway}:{PORT}")


def config_text(gateway: str) -> str:
    """Configuration of tinyproxy: whoever reaches the gateway may use it. Every request is a line of its log."""
    return f"Listen {gateway}\nPort {PORT}\nTimeout 600\nLogLevel Connect\nMaxClients 100\n"
