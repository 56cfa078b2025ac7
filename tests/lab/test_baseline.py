"""A server that gets slow fails its baseline; the history shows when, and a loss can be accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import Lab

from provisioner.lab import faults

STEADY = {
    "random_input_len": 64,
    "random_output_len": 32,
    "num_prompts": 48,
    "max_concurrency": 8,
    "num_warmups": 2,
}
"""about a second of requests: long enough for figures to differ by some percent alone"""
SETTINGS = {"noise_percent": 5, "benchmarks": 3, "against": "host"}
"""other tests run beside this one on few processors"""
pytestmark = pytest.mark.usefixtures("as_planned")


@pytest.fixture
def fleet(lab: Lab, served: str) -> Path:
    """The served host in a fleet of its own: nothing was accepted there yet."""
    return lab.write_fleet("slow", [served], benchmark=STEADY, baseline=SETTINGS)


def test_a_slowed_server_fails_its_baseline(lab: Lab, served: str, fleet: Path) -> None:
    first = lab.run("validate", fleet)
    assert first.rc == 0, str(first)
    assert "no baseline yet, nothing of this workload on this host was accepted" in first.stderr
    again = lab.run("validate", fleet)
    assert again.rc == 0, str(again)
    assert "this host's baseline" in again.stderr

    with faults.slowed(served, "vllm-sim", 0.2):
        slow = lab.run("validate", fleet)
    assert slow.rc == 3, str(slow)
    assert "(2 accepted, noise " in slow.stdout
    assert "a loss of more than 3 % at 99 % confidence" in slow.stdout
    assert f"\n{served}: gate failed: baseline: output_throughput" in slow.stdout

    course = lab.run("history", served, "--fleet", "slow").stdout.splitlines()
    assert [line.split()[3] for line in course[2:]] == ["FAILED", "passed", "passed"], course
    before, after = (line.split()[0] for line in (course[3], course[2]))
    compared = json.loads(lab.run("compare", before, after, "--json").stdout)
    figures = {one["figure"]: one for one in compared["servers"][0]["differences"]}
    assert figures["output_throughput"]["beyond_noise"], figures
    assert figures["output_throughput"]["change"] < -0.1

    refused = lab.run("baseline", "accept", "latest", "--host", served)
    assert refused.rc == 2, str(refused)
    assert "--replace makes it the new baseline" in refused.stderr
    assert lab.run("baseline", "accept", "latest", "--replace", "--note", "known").rc == 0
    (shown,) = json.loads(lab.run("baseline", "show", served, "--fleet", "slow", "--json").stdout)
    assert shown["made_of"] == [after]
    entry = lab.run("history", "--audit", "--fleet", "slow", "--limit", "1").stdout
    assert "replaced" in entry
    assert "sim: known" in entry
