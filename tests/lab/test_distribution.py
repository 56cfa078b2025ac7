"""Hosts that give each other what one of them fetched: counted where everything comes from.

Three hosts, in this order: each new image is brought to them in another way.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import (
    DEPLOY_TAG,
    FP8,
    SIM_IMAGE,
    SLOW_VARIABLE,
    Done,
    Lab,
    chat,
    read_json,
    shell,
    show,
    slow_jobs,
    wait_for,
)

from provisioner.lab import uplink
from provisioner.lab.docker import docker
from provisioner.lab.hosts import current_hosts
from provisioner.lab.paths import state_dir
from provisioner.lab.registry import PULL_PORT

HOSTS = ("lab-h100-1", "lab-h100-2", "lab-h100-4")
FIRST = HOSTS[0]
pytestmark = pytest.mark.skipif(not slow_jobs(), reason=f"a job of its own ({SLOW_VARIABLE}=1)")
MIB = 2**20
SIZE = 40 * MIB
"""of what each image has that the others have not; it cannot be made smaller"""
FEW = MIB
"""bytes that a host may ask registry and hub for: manifests, lists of files, a parser plugin"""


@dataclass(frozen=True)
class Flow:
    """Bytes from registry and hub while something was done, by host."""

    registry: dict[str, int]
    hub: dict[str, int]


@pytest.fixture(scope="module")
def three(lab: Lab, served: str, free_host: str) -> Lab:
    """Two new images in the registry, on no host; and no host has the model."""
    assert (served, free_host) == HOSTS[:2]
    for number in (1, 2):
        _publish(lab, number)
    for host in HOSTS:
        shell(host, "rm -rf /var/lib/vllm/huggingface")
    return lab


def _image(number: int) -> str:
    return f"{SIM_IMAGE}-distribution{number}"


def _publish(lab: Lab, number: int) -> None:
    """The same bytes each time: the registry's store is kept with the lab's caches."""
    file = lab.folder / "content"
    file.write_bytes(random.Random(number).randbytes(SIZE))  # noqa: S311 - content, no secret
    shell(FIRST, "rm -rf /root/image && mkdir /root/image")
    docker(["cp", str(file), f"{FIRST}:/root/image/content"], what="giving the host an image's content", timeout=60)
    shell(FIRST, "touch -d 2026-01-01 /root/image/content")
    name = f"{lab.gateway}:{PULL_PORT}/{_image(number)}"
    text = f"FROM {SIM_IMAGE}\\nCOPY content /content\\n"
    shell(
        FIRST, f"cd /root/image && printf '{text}' > Dockerfile && DOCKER_BUILDKIT=0 docker build -q -t {name} .", 120
    )
    shell(FIRST, f"docker push -q {name} && docker image rm {name} && rm -rf /root/image", timeout=120)
    file.unlink()


def _fleet(lab: Lab, name: str, number: int, hosts: tuple[str, ...] = HOSTS, **distribution: object) -> Path:
    return lab.write_fleet(
        name, hosts, image={"default": _image(number)}, top_distribution={"mode": "peers", **distribution}
    )


def _counted() -> Flow:
    """What has come so far, once nothing comes any more."""
    before: dict[str, dict[str, int]] = {}

    def still() -> bool:
        nonlocal before
        now = uplink.counts(state_dir())
        same, before = now == before, now
        return same

    wait_for(still, 20, "bytes from registry and hub to stand still", every=0.5)
    address = {host.name: host.address for host in current_hosts()}
    told = {kind: {host: by.get(address[host], 0) for host in HOSTS} for kind, by in before.items()}
    return Flow(**told)


def _since(before: Flow) -> Flow:
    now = _counted()
    registry = {host: now.registry[host] - before.registry[host] for host in HOSTS}
    hub = {host: now.hub[host] - before.hub[host] for host in HOSTS}
    show(f"from the registry {registry}, from the hub {hub}")
    return Flow(registry, hub)


def _serving(lab: Lab, done: Done, number: int) -> None:
    assert done.rc == 0, str(done)
    for host in HOSTS:
        assert chat(host, FP8)[0] == 200
        assert _image(number) in shell(host, "docker inspect vllm-sim --format '{{.Config.Image}}'")
        # nothing of it stays: no port, no key, no archive
        assert shell(host, "ls -d /run/vllm-peers /var/lib/vllm/peers 2>/dev/null; true") == ""
        assert shell(host, "ss -Hltn 'sport = :7717'") == ""


def test_what_one_host_fetched_reaches_the_others(three: Lab) -> None:
    fleet = _fleet(three, "distribution", 1)
    planned = three.run("plan", fleet)
    assert f"{_image(1)}: not there; will be pulled" in planned.stdout, str(planned)
    assert planned.stdout.count(f"{_image(1)}: not there; will come from {FIRST}") == 2, str(planned)
    assert planned.stdout.count(f"{FP8}: not there; will come from {FIRST}") == 2, str(planned)
    before = _counted()
    done = three.run(fleet, "--yes", "--smoke")
    flow = _since(before)
    _serving(three, done, 1)
    assert flow.registry[FIRST] > SIZE
    assert all(flow.registry[host] < FEW for host in HOSTS[1:])
    model = int(shell(FIRST, "du -sb /var/lib/vllm/huggingface/hub | cut -f1"))
    assert flow.hub[FIRST] > model / 2
    assert all(flow.hub[host] < min(FEW, model / 2) for host in HOSTS[1:])


def test_a_model_is_in_the_cache_as_the_hub_names_it(three: Lab) -> None:
    place = f"/var/lib/vllm/huggingface/hub/models--{FP8.replace('/', '--')}"
    listed = {
        shell(host, f"cd {place} && find blobs refs snapshots ! -type d -printf '%p %l\\n' | sort") for host in HOSTS
    }
    assert len(listed) == 1, listed
    assert "blobs/" in listed.pop()
    again = three.run("plan", _fleet(three, "distribution", 1))
    assert "  ~ " not in again.stdout, str(again)


def test_a_locked_image_is_confirmed_by_the_registry_and_not_fetched(three: Lab) -> None:
    second = HOSTS[1]
    shell(second, f"systemctl stop vllm-sim; docker image rm -f {_image(1)} {DEPLOY_TAG}")
    fleet = _fleet(three, "distribution-locked", 1, HOSTS[:2])
    locked = three.run("lock", fleet)
    assert locked.rc == 0, str(locked)
    before = _counted()
    done = three.run(fleet, "--yes", "--smoke")
    flow = _since(before)
    assert done.rc == 0, str(done)
    assert flow.registry[second] < FEW
    image = shell(second, "docker inspect vllm-sim --format '{{.Config.Image}}'")
    assert f"{_image(1)}@sha256:" in image
    assert "came from" in _log(second)
    fleet.with_suffix(".lock").unlink()


def test_a_build_is_made_once(three: Lab) -> None:
    build = {
        "git": f"git://{three.gateway}/vllm",
        "ref": "v0.12.0",
        "dockerfile": "docker/Dockerfile",
        "target": "vllm-openai",
        "args": {"CUDA_VERSION": "13.0.1"},  # the base image that the lab has
    }
    image = {"default": {"build": build}}
    done = three.run(
        three.write_fleet("distribution-built", HOSTS[:2], image=image, top_distribution="peers"), "--yes", "--smoke"
    )
    assert done.rc == 0, str(done)
    logs = [_log(host) for host in HOSTS[:2]]
    assert "[internal] load build definition" in logs[0]
    assert "[internal]" not in logs[1]
    assert f"came from {FIRST}" in logs[1]
    ids = [shell(host, "docker inspect vllm-sim --format '{{.Image}}'") for host in HOSTS[:2]]
    assert ids[0] == ids[1]


def _log(host: str) -> str:
    """Of the image that came last."""
    return shell(host, "cat $(ls -t /var/log/vllm/vllm-image-*.log | head -1)")


def test_a_peer_that_dies_in_the_middle_is_told_and_done_without(three: Lab) -> None:
    """The first host has the new image and gives it slowly; then its program is killed."""
    alone = three.run(_fleet(three, "distribution-first", 2, (FIRST,)), "--yes", "--smoke")
    assert alone.rc == 0, str(alone)
    fleet = _fleet(three, "distribution-dies", 2, limit_mib_s=4)
    before = _counted()
    known = three.runs("distribution-dies")
    with three.started(fleet, "--yes", "--smoke") as started:
        started.wait_for_task("distribution-dies", known, "Copy")
        half = "find /var/lib/vllm/peers/take -name '*.tar' -size +1M 2>/dev/null | grep -q . && echo half"
        wait_for(lambda: any("half" in shell(host, f"{half} || true") for host in HOSTS[1:]), 90, "half of an archive")
        shell(FIRST, "systemctl kill --signal=KILL vllm-peers")
        done = started.done(240)
    flow = _since(before)
    _serving(three, done, 2)
    assert f"{_image(2)} does not come from another host: {FIRST}: does not answer" in done.text, str(done)
    assert all(flow.registry[host] > SIZE for host in HOSTS[1:])
    events = (three.latest_run("distribution-dies") / "events.jsonl").read_text().splitlines()
    assert sum("does not come from another host" in line for line in events) == 2
    assert read_json(three.latest_run("distribution-dies") / "record.json")["exit_code"] == 0
