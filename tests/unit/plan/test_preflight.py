from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import converged, facts, fleet, plan, server

from provisioner.fleet.models import Archive, Host, Image, Weights
from provisioner.plan.facts import Cached, Docker, Facts, Port
from provisioner.plan.preflight import fitness, obstacles

HOST = Host(name="gpu-01")


def test_a_fresh_host_is_fit() -> None:
    assert fitness(HOST, facts()) == ()
    assert obstacles(plan(), facts()) == ()


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        ({"sudo": False}, "no sudo: allow this user to run commands as root without a password (NOPASSWD)"),
        ({"machine": "ppc64le"}, "architecture ppc64le has no vLLM images; x86_64 and aarch64 do"),
        ({"systemd": False}, "systemd is not running as PID 1; servers are systemd services"),
        ({"gpus": ()}, "no NVIDIA GPU: nvidia-smi is missing or lists none; install the driver first"),
        (
            {"gpus": (), "gpu_error": "NVIDIA-SMI has failed\nDriver/library version mismatch\n"},
            "nvidia-smi fails: Driver/library version mismatch",
        ),
    ],
)
def test_what_makes_a_host_unfit(seen: dict[str, Any], problem: str) -> None:
    assert fitness(HOST, facts().model_copy(update=seen)) == (problem,)


def test_another_architecture_than_the_fleet_file_says() -> None:
    host = Host(name="gpu-01", platform="linux/arm64")
    assert fitness(host, facts()) == ("it is linux/amd64 but the fleet file says linux/arm64",)
    assert fitness(host, facts(machine="aarch64")) == ()


def test_all_problems_at_once() -> None:
    assert len(fitness(HOST, facts(gpus=(), sudo=False, systemd=False, machine="mips"))) == 4


def taken(port: int, process: str = "nginx") -> Port:
    return Port(port=port, address="0.0.0.0", process=process)


def test_a_port_in_use() -> None:
    assert obstacles(plan(), facts(ports=(taken(8000), taken(22, "sshd")))) == (
        "port 8000 of server nemotron is in use by nginx; free it or choose another port",
    )
    assert obstacles(plan(), facts(ports=(taken(8000, ""),))) == (
        "port 8000 of server nemotron is in use; free it or choose another port",
    )


def test_the_servers_own_port_is_no_obstacle() -> None:
    assert obstacles(plan(), converged(plan(), facts(ports=(taken(8000, "python3"),)))) == ()


def test_a_server_that_moves_to_a_port_that_is_taken() -> None:
    before = plan(fleet(server(port=9000)))
    seen = converged(before, facts(ports=(taken(9000, "python3"), taken(8000))))
    assert obstacles(plan(), seen) == (
        "port 8000 of server nemotron is in use by nginx; free it or choose another port",
    )


def test_a_stopped_container_holds_no_port() -> None:
    seen = converged(plan(), facts(ports=(taken(8000),)))
    stopped = tuple(one.model_copy(update={"running": False}) for one in seen.containers)
    assert len(obstacles(plan(), seen.model_copy(update={"containers": stopped}))) == 1


def full(free_mib: int, path: str = "/var/lib/docker", **seen: Any) -> Facts:
    return facts(disk_free_mib={path: free_mib}, **seen)


def test_a_full_disk() -> None:
    assert obstacles(plan(), full(5427)) == (
        "disk full: 5.3 GiB free under /var/lib/docker, 30 GiB are needed for an image; "
        "free some or set docker.min_free_gib",
    )
    assert obstacles(plan(), full(30 * 1024)) == ()


def test_the_disk_that_docker_uses_counts() -> None:
    docker = Docker(version="28", root_dir="/data/docker")
    assert obstacles(plan(), full(1024, "/data/docker", docker=docker))[0].startswith(
        "disk full: 1.0 GiB free under /data/docker,"
    )
    assert obstacles(plan(), full(1024, "/var/lib/docker", docker=docker)) == ()


def test_no_disk_is_needed_for_an_image_that_is_there() -> None:
    assert obstacles(plan(), converged(plan(), full(1))) == ()


ARCHIVE = Archive(path=Path("/mnt/images/vllm.tar.zst"), image="vllm/vllm-openai:v0.12.0", at="host")


@pytest.mark.parametrize("kind", ["", "directory", "other"])
def test_an_archive_that_is_not_on_the_host(kind: str) -> None:
    the_plan = plan(fleet(server(image={"default": Image(archive=ARCHIVE)})))
    assert obstacles(the_plan, facts(paths={"/mnt/images/vllm.tar.zst": kind})) == (
        "/mnt/images/vllm.tar.zst is not there, from which vllm/vllm-openai:v0.12.0 is to be loaded; put it there or "
        "mount it",
    )


def test_an_archive_that_is_there_or_not_needed_any_more() -> None:
    the_plan = plan(fleet(server(image={"default": Image(archive=ARCHIVE)})))
    assert obstacles(the_plan, facts(paths={"/mnt/images/vllm.tar.zst": "file"})) == ()
    assert obstacles(the_plan, facts()) == ()  # could not be looked at, of which a note tells
    assert obstacles(the_plan, converged(the_plan).model_copy(update={"paths": {"/mnt/images/vllm.tar.zst": ""}})) == ()


FP8 = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"


@pytest.mark.parametrize(
    ("cached", "what"),
    [
        ((), "it is not there"),
        ((Cached(repo=FP8),), "it has no main"),
        ((Cached(repo=FP8, refs={"main": "c1"}, snapshots={"c2": ""}),), "it has no main"),
        (
            (Cached(repo=FP8, refs={"main": "c1"}, snapshots={"c1": "config.json is missing"}),),
            "config.json is missing",
        ),
    ],
)
def test_a_model_that_somebody_else_has_not_brought(cached: tuple[Cached, ...], what: str) -> None:
    the_plan = plan(fleet(weights=Weights(cache_dir="/mnt/hf", download=False)))
    assert obstacles(the_plan, facts(cached=cached)) == (
        f"{FP8} is not whole in /mnt/hf ({what}), and weights.download is false; mount it, or fill it: "
        f"HF_HOME=/mnt/hf hf download {FP8}",
    )


def test_a_model_that_somebody_else_has_brought() -> None:
    the_plan = plan(fleet(weights=Weights(download=False)))
    assert obstacles(the_plan, facts(cached=(Cached(repo=FP8, refs={"main": "c1"}, snapshots={"c1": ""}),))) == ()
    assert obstacles(plan(), facts()) == ()
