"""What real H100 and H200 machines said to the probe (tests/recorded/gpu), up to the hardware profile and the plan."""

from __future__ import annotations

import json
from pathlib import Path

import builders
import pytest

from provisioner.fleet.taxonomy import match_hardware
from provisioner.hosts.parse import parse_facts
from provisioner.plan.facts import Facts
from provisioner.plan.resolve import plan_host

RECORDED = Path(__file__).parents[2] / "recorded" / "gpu"


@pytest.fixture(params=["h100", "h200"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def facts(kind: str) -> Facts:
    return parse_facts("gpu-01", json.loads((RECORDED / kind / "probe.json").read_text()))


def test_they_are_recognised(kind: str, facts: Facts) -> None:
    profile = match_hardware(facts.gpus[0].name, len(facts.gpus))
    assert profile is not None
    assert profile.id == kind
    memory_mib = {"h100": 81559, "h200": 143771}
    assert [gpu.memory_mib for gpu in facts.gpus] == [memory_mib[kind]]
    assert (facts.driver_version, facts.cuda_version) == ("580.159.04", "13.0")
    assert facts.platform == "linux/amd64"
    assert not facts.simulated


def test_they_get_the_guides_launch(facts: Facts) -> None:
    fleet = builders.fleet()
    seen = facts.model_copy(update={"sudo": True, "systemd": True})
    plan = plan_host(fleet, fleet.hosts[0], seen, builders.recipes())
    assert plan.servers[0].argv[:6] == (
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8",
        "--trust-remote-code",
        "--async-scheduling",
        "--kv-cache-dtype",
        "fp8",
        "--tensor-parallel-size",
    )
