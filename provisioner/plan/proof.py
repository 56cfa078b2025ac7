"""What a server was when it passed validation, and whether that still speaks for what it is now. Pure."""

from __future__ import annotations

from provisioner.fleet.base import Frozen
from provisioner.plan.diff import server_fingerprint
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan, Server

HTTP_OK = 200


class Proof(Frozen):
    """What was proven: a plan, with the driver and the very image that it ran on."""

    fingerprint: str
    """of the plan, see `server_fingerprint`"""
    driver: str | None
    """version of the GPUs' driver"""
    image_id: str | None
    """sha256:… of the image that the container ran"""


def doubt(plan: HostPlan, server: Server, facts: Facts, proof: Proof | None) -> str | None:
    """Why a server that runs as planned must be validated (again); None when its proof holds."""
    if proof is None:
        return "runs as planned but is not validated yet"
    if proof.fingerprint != server_fingerprint(plan, server):
        return "validate again: what was proven is not what is planned now"
    if proof.driver != facts.driver_version:
        return f"validate again: it was proven with driver {proof.driver}, now it is {facts.driver_version}"
    running = next((one.image_id for one in facts.containers if one.name == server.container), None)
    if proof.image_id != running:
        return f"validate again: it was proven with image {_short(proof.image_id)}, now it runs {_short(running)}"
    # One that was proven but does not answer now may be starting, or sick: either way it must show that it serves.
    if facts.health.get(server.port) != HTTP_OK:
        return "validate again: it does not answer /health"
    return None


def _short(image_id: str | None) -> str:
    return (image_id or "none").removeprefix("sha256:")[:12]
