"""Surveys without SSH: facts by host are what the probes found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from builders import IMAGE_ID, file, recipes

from provisioner.errors import ProvisionError
from provisioner.fleet.models import Fleet, Host
from provisioner.history.events import Event
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.probe import ProbeRequest, ProbeResult
from provisioner.hosts.probe_script import BEGIN, END
from provisioner.plan.diff import server_fingerprint
from provisioner.plan.facts import Facts, File
from provisioner.plan.model import HostPlan
from provisioner.plan.proof import Proof
from provisioner.plan.release import CURRENT, Current, release_id
from provisioner.rollout import survey as module
from provisioner.rollout.connections import Connections
from provisioner.rollout.proofs import proof_path
from provisioner.rollout.survey import Survey, survey

RECORDED = Path(__file__).parent / "recorded"


def answer(path: str, **changes: dict[str, Any]) -> str:
    """What a host's python3 prints for a recorded probe; `changes` go into its sections."""
    document = json.loads((RECORDED / path).read_text(encoding="utf-8"))
    for section, values in changes.items():
        document[section] = {**document[section], **values}
    return f"Welcome!\n{BEGIN}\n{json.dumps(document)}\n{END}\n"


@dataclass
class World:
    """Hosts by name: facts, or the error of a probe. `events` are those of the survey."""

    hosts: Mapping[str, Facts | ProvisionError]
    events: list[Event] = field(default_factory=list)
    requests: dict[str, ProbeRequest] = field(default_factory=dict)
    transports: dict[str, FakeTransport] = field(default_factory=dict)

    def probe_all(
        self, hosts: Sequence[Host], connect: Callable[[Host], Any], requests: Mapping[str, ProbeRequest]
    ) -> Iterator[ProbeResult]:
        self.requests = dict(requests)
        for host in reversed(hosts):  # results come as they come, not in the fleet's order
            found = self.hosts[host.name]
            if isinstance(found, ProvisionError):
                yield ProbeResult(host.name, None, found, 0.1)
            else:
                yield ProbeResult(host.name, found, None, 0.1)

    def connections(self) -> Connections:
        def open_one(host: Host) -> FakeTransport:
            found = self.transports.setdefault(host.name, FakeTransport(host.name, [("", "")]))
            found.closed = False
            return found

        return Connections(open_one)

    def survey(self, monkeypatch: pytest.MonkeyPatch, fleet: Fleet) -> Survey:
        monkeypatch.setattr(module, "probe_all", self.probe_all)
        return survey(fleet, recipes(), self.connections(), on_event=self.events.append)


def proven(seen: Facts, of: HostPlan) -> Facts:
    """The same host after its servers have passed validation, with the plan as its release."""
    proofs = tuple(
        file(proof_path(one.name), proof(seen, of, position).model_dump_json())
        for position, one in enumerate(of.servers)
    )
    return seen.model_copy(update={"files": (*seen.files, *proofs, release(of))})


def release(of: HostPlan) -> File:
    """The file that names a plan as its host's release."""
    images = tuple(image.reference for image in of.images)
    return file(CURRENT, Current(id=release_id(of), images=images).model_dump_json())


def proof(seen: Facts, of: HostPlan, position: int = 0) -> Proof:
    """What passes validation when a server of this plan does, on a converged host."""
    fingerprint = server_fingerprint(of, of.servers[position])
    return Proof(fingerprint=fingerprint, driver=seen.driver_version, image_id=IMAGE_ID)
