"""Fleets, facts and plans for tests: whole, valid, and changed by keywords where a test needs something else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provisioner.fleet.models import Fleet, Host, Server
from provisioner.fleet.recipes import Recipe, find_recipe
from provisioner.plan import render
from provisioner.plan.facts import Container, Docker, Facts, File, Gpu, ImageFacts, Unit
from provisioner.plan.lock import UNLOCKED, Lock, LockedImage, LockedPlugin
from provisioner.plan.model import HostPlan
from provisioner.plan.references import by_digest
from provisioner.plan.resolve import plan_host

RECIPE = "nemotron-3-nano"
IMAGE_ID = "sha256:" + "1" * 64


def recipes() -> dict[str, Recipe]:
    return {RECIPE: find_recipe(RECIPE)}


def server(name: str = "nemotron", **settings: Any) -> Server:
    return Server(name=name, recipe=RECIPE, **settings)


def fleet(*servers: Server, hosts: tuple[str, ...] = ("gpu-01",), **settings: Any) -> Fleet:
    return Fleet(
        path=Path("fleet.yaml"),
        hosts=tuple(Host(name=name) for name in hosts),
        servers=servers or (server(),),
        **settings,
    )


def facts(host: str = "gpu-01", *, gpus: tuple[str, ...] = ("NVIDIA H200",), **seen: Any) -> Facts:
    """A fresh host: a driver, no Docker."""
    values: dict[str, Any] = {
        "host": host,
        "hostname": host,
        "machine": "x86_64",
        "kernel": "6.8.0",
        "os_id": "ubuntu",
        "os_version": "24.04",
        "os_name": "Ubuntu 24.04.3 LTS",
        "sudo": True,
        "systemd": True,
        "cpus": 16,
        "memory_mib": 131072,
        "memory_available_mib": 120000,
        "disk_free_mib": {"/var/lib/docker": 512000, "/var/lib/vllm/huggingface": 512000},
        "gpus": tuple(Gpu(index=index, name=name, memory_mib=143771) for index, name in enumerate(gpus)),
        "driver_version": "580.95.05",
        "cuda_version": "13.0",
        "docker": Docker(version=None),
    }
    return Facts(**(values | seen))


def spark(host: str = "spark-01", **seen: Any) -> Facts:
    return facts(host, gpus=("NVIDIA GB10",), **{"machine": "aarch64", "os_name": "NVIDIA DGX Spark 7.2", **seen})


def plan(the_fleet: Fleet | None = None, seen: Facts | None = None, lock: Lock = UNLOCKED) -> HostPlan:
    the_fleet, seen = the_fleet or fleet(), seen or facts()
    return plan_host(the_fleet, the_fleet.host(seen.host), seen, recipes(), lock)


def lock(turn: str = "a") -> Lock:
    """Everything that fleets of `recipes()` name, as it stood at some time: `turn` is a hex digit of its hashes."""
    digest, commit = f"sha256:{turn * 64}", turn * 40
    bf16, fp8 = (f"nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-{kind}" for kind in ("BF16", "FP8"))
    both = {"linux/amd64": f"sha256:{turn * 63}1", "linux/arm64": f"sha256:{turn * 63}2"}
    return Lock(
        images={"vllm/vllm-openai:v0.12.0": LockedImage(digest=digest, platforms=both)},
        builds={"https://github.com/vllm-project/vllm.git": {"v0.12.0": commit}},
        models={bf16: {"main": commit}, fp8: {"main": commit}},
        plugins={bf16: {"nano_v3_reasoning_parser.py": LockedPlugin(revision="main", commit=commit, sha256=turn * 64)}},
        recipes={recipe.id: recipe.sha256 for recipe in recipes().values()},
    )


def converged(of: HostPlan, seen: Facts | None = None, secrets: Mapping[str, str] | None = None) -> Facts:
    """The host once everything is as `of` says: files, images, weights, units and containers."""
    seen = seen or facts(of.host)
    files = [file(one.unit_file.path, one.unit_file.content) for one in of.servers]
    for one in of.servers:
        if one.secret_file:
            text = render.secrets_text({key: (secrets or {})[ref] for key, ref in one.secret_file.entries.items()})
            files.append(file(one.secret_file.path, text, mode="0600").model_copy(update={"content": None}))
    plugins = [(one, file(f"{of.plugin_dir}/{one.file}", "plugin")) for one in of.plugins]
    files += [there.model_copy(update={"sha256": one.sha256 or there.sha256}) for one, there in plugins]
    return seen.model_copy(
        update={
            "docker": Docker(version="28.5.1", client_version="28.5.1", package="docker-ce", buildx=True),
            "toolkit_version": "1.17.8",
            "gpu_runtime": True,
            "files": tuple(files),
            "images": tuple(
                ImageFacts(
                    id=IMAGE_ID,
                    tags=tuple(tag for tag in (one.reference, one.deploy_tag) if tag and "@" not in tag),
                    digests=(by_digest(one.reference),) if "@" in one.reference else (),
                )
                for one in of.images
            ),
            "weights": {one.repo: "c0ffee" if one.revision == "main" else one.revision for one in of.weights},
            "units": tuple(unit(one.unit) for one in of.servers),
            "containers": tuple(
                Container(
                    name=one.container,
                    id="c" * 64,
                    image_id=IMAGE_ID,
                    argv=("serve", *one.argv),
                    running=True,
                    started_at="2026-01-01T00:00:00Z",
                )
                for one in of.servers
            ),
            "health": {one.port: 200 for one in of.servers},
        }
    )


def unit(name: str, **state: Any) -> Unit:
    values = {"load_state": "loaded", "active_state": "active", "sub_state": "running", "enabled": True}
    return Unit(name=name, **(values | state))


def file(path: str, content: str, mode: str = "0644") -> File:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return File(path=path, sha256=sha256, mode=mode, owner="root", content=content)
