"""Releases: host plans that passed their gate. What a release is called, and which one a host serves. Pure."""

from __future__ import annotations

import hashlib
import json

from pydantic import AwareDatetime, ValidationError

from provisioner.fleet.base import Frozen
from provisioner.plan.diff import server_fingerprint
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan

CURRENT = "/var/lib/vllm/release"
"""on a host: which release it serves"""


class Release(Frozen):
    """One host plan that passed its gate, as its host keeps it. It holds references to secrets, never secrets."""

    id: str
    accepted_at: AwareDatetime
    run: str
    """the run that brought it"""
    plan: HostPlan


class Current(Frozen):
    """What is kept at `CURRENT`."""

    id: str
    images: tuple[str, ...]
    """references of its images: they stay on the host for as long as this is its release"""


def release_id(plan: HostPlan) -> str:
    """The same for plans whose servers are the same to whoever asks them, on any host. How it is measured, fetched or
    installed does not count, nor does what is merely said about it."""
    servers = {server.name: server_fingerprint(plan, server) for server in plan.servers}
    files = [part.model_dump(exclude={"image"}) for part in (*plan.weights, *plan.plugins)]
    text = json.dumps([servers, files, plan.cache_dir, plan.plugin_dir], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def current(facts: Facts) -> Current | None:
    """The release that the host serves, as the probe saw it; None before the first."""
    return parsed_current(facts.content(CURRENT) or "")


def parsed_current(text: str) -> Current | None:
    """The content of `CURRENT`."""
    try:
        return Current.model_validate_json(text)
    except ValidationError:
        return None  # none yet, cut short by hand, or of another version: as good as none
