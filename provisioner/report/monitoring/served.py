"""What is served where, and what was last found out about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from provisioner.fleet.base import Frozen
from provisioner.history.verdict import ServerVerdict
from provisioner.plan.exposure import is_loopback
from provisioner.plan.model import HostPlan

LABELS = ("fleet", "host", "server")
"""what every series of a server has, whoever scrapes it"""
EVERY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound


class Served(Frozen):
    """One server as it was last planned on its host."""

    fleet: str
    host: str
    server: str
    address: str
    """where the scraper finds it: the host's address, or the one that the server alone listens at"""
    port: int
    loopback: bool
    """only its own host reaches it"""
    hardware: str
    model: str
    variant: str

    @property
    def target(self) -> str:
        """address:port"""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class LastVerdict(Frozen):
    """The newest verdict of a server, and when its run began."""

    fleet: str
    at: datetime
    verdict: ServerVerdict
    driver: str | None = None


def served(fleet: str, plan: HostPlan, address: str) -> tuple[Served, ...]:
    """The servers of a host. `address`: where the host is."""
    return tuple(
        Served(
            fleet=fleet,
            host=plan.host,
            server=server.name,
            address=address if server.host in EVERY_ADDRESS else server.host,
            port=server.port,
            loopback=is_loopback(server.host),
            hardware=plan.hardware,
            model=server.served_model_name,
            variant=server.variant,
        )
        for server in plan.servers
    )


def newest(verdicts: Iterable[LastVerdict]) -> tuple[LastVerdict, ...]:
    """The first of each server, by host and server. `verdicts`: newest first."""
    found: dict[tuple[str, str], LastVerdict] = {}
    for one in verdicts:
        found.setdefault((one.verdict.host, one.verdict.server), one)
    return tuple(found[key] for key in sorted(found))


def selector(fleet: str, *matchers: str) -> str:
    """The series of a fleet's servers in PromQL: `{fleet="lab",server!=""}`."""
    quoted = fleet.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "{" + ",".join((f'fleet="{quoted}"', *matchers)) + "}"


def by(names: Sequence[str] = LABELS) -> str:
    """`by (fleet, host, server)`: vLLM's own labels (engine, model) are added up."""
    return f"by ({', '.join(names)})"
