"""Releases on a host, kept by the very scripts that a host is given, in a folder of this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from builders import fleet, plan, server

from provisioner.errors import HostError
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.transport import Result
from provisioner.plan.model import HostPlan
from provisioner.plan.release import CURRENT, parsed_current, release_id
from provisioner.rollout import releases

PLANS = [plan(fleet(server(max_num_seqs=number))) for number in range(1, 9)]


@pytest.fixture
def host(tmp_path: Path) -> FakeTransport:
    """Its commands run here, without sudo, with `tmp_path` in place of /var/lib/vllm."""

    def answer(command: str, stdin: bytes) -> Result:
        words = command.replace("/var/lib/vllm", str(tmp_path / "vllm")).removeprefix("sudo -n ")
        done = subprocess.run(words, shell=True, input=stdin, capture_output=True, check=False)  # noqa: S602 - our own
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return FakeTransport("gpu-01", [("", answer)])


def accepted(host: FakeTransport, folder: Path, plans: list[HostPlan]) -> None:
    for number, of in enumerate(plans):
        made = releases.accept(host, of, f"r-{number}")
        # accepted within the same moment here, hours apart on hosts
        at = 1_000_000_000 + number
        os.utime(folder / "vllm" / "releases" / f"{made.id}.json", (at, at))


def test_a_host_without_releases(host: FakeTransport) -> None:
    assert releases.kept(host) == releases.Kept(None, ())
    with pytest.raises(HostError) as told:
        releases.read(host, "0123")
    assert str(told.value) == "gpu-01: has no release 0123; it keeps: none"


def test_what_is_accepted_serves_and_can_be_read_back(host: FakeTransport, tmp_path: Path) -> None:
    accepted(host, tmp_path, PLANS[:2])
    kept = releases.kept(host)
    assert kept.serving == release_id(PLANS[1])
    assert [one.plan for one in kept.releases] == [PLANS[1], PLANS[0]]
    assert kept.before == releases.read(host, release_id(PLANS[0]))
    named = parsed_current((tmp_path / "vllm" / Path(CURRENT).name).read_text())
    assert named is not None
    assert named.images == ("vllm/vllm-openai:v0.12.0",)


def test_the_one_before_serves_again(host: FakeTransport, tmp_path: Path) -> None:
    accepted(host, tmp_path, PLANS[:3])
    releases.name(host, releases.read(host, release_id(PLANS[1])))
    kept = releases.kept(host)
    assert kept.serving == release_id(PLANS[1])
    assert kept.before is not None
    assert kept.before.id == release_id(PLANS[0])


def test_those_that_served_last_stay(host: FakeTransport, tmp_path: Path) -> None:
    accepted(host, tmp_path, PLANS[:5])
    releases.name(host, releases.read(host, release_id(PLANS[0])))
    accepted(host, tmp_path, PLANS[5:7])
    assert len(releases.kept(host).releases) == releases.KEPT
    assert release_id(PLANS[0]) in {one.id for one in releases.kept(host).releases}
    assert release_id(PLANS[1]) not in {one.id for one in releases.kept(host).releases}


def test_one_of_another_version(host: FakeTransport, tmp_path: Path) -> None:
    accepted(host, tmp_path, PLANS[:1])
    (tmp_path / "vllm" / "releases" / f"{release_id(PLANS[0])}.json").write_text('{"id": "x", "novel": 1}')
    with pytest.raises(HostError) as told:
        releases.read(host, release_id(PLANS[0]))
    assert str(told.value) == (
        f"gpu-01: release {release_id(PLANS[0])} cannot be read: another version of this program wrote it, or it was "
        "changed by hand\n  hint: it is in /var/lib/vllm/releases on the host"
    )
