"""A lock against a registry, a hub and a git server whose names move: what is locked stays, until it is moved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import DEPLOY_TAG, Lab, shell

from provisioner.lab.engines import SIM_REPO, SIM_TAG
from provisioner.lab.hub import keep_commit
from provisioner.lab.model import PLUGIN, write_model
from provisioner.lab.ocipush import Store, config_on
from provisioner.lab.paths import state_dir
from provisioner.plan.lock import Lock, read_lock

NAME, UNIT, PORT = "locked", "vllm-locked", 8100
TAG = f"{SIM_TAG}-lock-test"
IMAGE = f"{SIM_REPO}:{TAG}"
MODEL = "lab/lock-test"
PLUGIN_PATH = f"/var/lib/vllm/plugins/{PLUGIN}"
RECIPE = f"""---
meta: {{title: Lock test, slug: lock-test, hardware: {{h100: verified}}}}
model: {{model_id: {MODEL}, docker_image: "{IMAGE}", base_args: [--trust-remote-code]}}
features:
  reasoning: {{args: [--reasoning-parser-plugin, {PLUGIN}, --reasoning-parser, nano_v3]}}
variants:
  default: {{precision: bf16, vram_minimum_gb: 1}}
"""


@dataclass
class Upstream:
    """The names of this test at the lab's servers. `move` lets each of them stand for something else."""

    store: Store
    model: Path
    source: Path
    turn: int = 0

    def move(self) -> None:
        self.turn += 1
        note = f"turn {self.turn}"
        engine = self.store.image(SIM_REPO, SIM_TAG, "amd64")
        assert engine is not None
        config = config_on(engine, "amd64", [], labels={"lock-test": note}, created_by="lock test")
        image = self.store.put_image(SIM_REPO, f"{TAG}-amd64", engine, SIM_REPO, [], config)
        self.store.put_list(SIM_REPO, TAG, {"amd64": image})
        if self.turn > 1:
            keep_commit(self.model)
        (self.model / "README.md").write_text(note)
        with (self.model / PLUGIN).open("a") as plugin:
            plugin.write(f"# {note}\n")
        self.git("commit", "-q", "--allow-empty", "-m", note)
        self.git("tag", "-f", "v1")

    def git(self, *words: str) -> str:
        who = {
            f"GIT_{role}_{key}": "lab@provision.invalid"
            for role in ("AUTHOR", "COMMITTER")
            for key in ("NAME", "EMAIL")
        }
        env = {**os.environ, **who}
        done = subprocess.run(
            ["git", "-C", str(self.source), *words], env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


@pytest.fixture(scope="module")
def upstream(lab: Lab) -> Iterator[Upstream]:
    state = state_dir()
    model, source = state / "hub" / MODEL, state / "git" / "lock-test"
    shutil.rmtree(model, ignore_errors=True)
    write_model(model)
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    made = Upstream(Store((state / "registry-push.address").read_text()), model, source)
    made.git("init", "-q", "-b", "main")
    made.move()
    yield made
    shutil.rmtree(model)
    shutil.rmtree(source)


@pytest.fixture(scope="module")
def fleet(lab: Lab, served: str) -> Iterator[Path]:
    """A second server on the host that serves already; it is taken away again."""
    path = _fleet(lab, "lock", served, port=PORT, image={"default": IMAGE})
    yield path
    shell(
        served,
        f"systemctl disable --now {UNIT}; rm -f /etc/systemd/system/{UNIT}.service {PLUGIN_PATH}; "
        "systemctl daemon-reload",
    )


def _fleet(lab: Lab, name: str, host: str, **server: Any) -> Path:
    recipes = lab.folder / "lock-recipes" / "lab"
    recipes.mkdir(parents=True, exist_ok=True)
    (recipes / "lock-test.yaml").write_text(RECIPE)
    path = lab.write_fleet(name, [host], recipe="lock-test", top_recipes=str(recipes.parent), **server)
    content = yaml.safe_load(path.read_text())
    content["servers"] = {NAME: content["servers"]["sim"]}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_the_locked_ones_are_installed_until_the_lock_moves(
    lab: Lab, served: str, upstream: Upstream, fleet: Path
) -> None:
    first = _locked(lab, fleet)
    assert (first.images[IMAGE].platforms.keys(), first.models[MODEL].keys()) == ({"linux/amd64"}, {"main"})
    upstream.move()
    check = lab.run("lock", fleet, "--check")
    assert (check.rc, "nothing to change" in check.stdout) == (0, True), str(check)

    done = lab.run(fleet, "--yes")
    assert done.rc == 0, str(done)
    _runs(served, first)
    planned = lab.run("plan", fleet)
    assert planned.rc == 0, str(planned)
    assert f"image {IMAGE}: {first.images[IMAGE].digest[:19]}" in planned.stdout

    # what a branch stood for when somebody downloaded it is not what is locked
    cache = f"/var/lib/vllm/huggingface/hub/models--{MODEL.replace('/', '--')}"
    shell(served, f"mkdir -p {cache}/refs && printf %s {first.models[MODEL]['main']} > {cache}/refs/main")
    moved = lab.run(fleet, "--yes", "--update-lock", "--smoke")
    assert moved.rc == 0, str(moved)
    second = read_lock(fleet)
    assert second is not None
    assert f"~ image {IMAGE}" in moved.stderr
    assert second.models[MODEL]["main"] == keep_commit(upstream.model)
    assert second.images[IMAGE].digest != first.images[IMAGE].digest
    assert second.plugins[MODEL][PLUGIN].sha256 != first.plugins[MODEL][PLUGIN].sha256
    _runs(served, second)


def test_a_source_is_locked_to_its_commit(lab: Lab, served: str, upstream: Upstream) -> None:
    git = f"git://{lab.gateway}/lock-test"
    build = {"git": git, "ref": "v1", "dockerfile": "docker/Dockerfile", "target": "vllm-openai"}
    fleet = _fleet(lab, "lock-source", served, port=PORT, image={"default": {"build": build}})
    commit = upstream.git("rev-parse", "v1")
    lock = _locked(lab, fleet)
    assert lock.builds == {git: {"v1": commit}}
    upstream.move()
    planned = lab.run("plan", fleet, "--json")
    assert planned.rc == 5, str(planned)
    (image,) = json.loads(planned.stdout)["hosts"][served]["plan"]["images"]
    assert image["build"]["ref"] == commit
    check = lab.run("lock", fleet, "--update-lock", "--check")
    assert check.rc == 5, str(check)
    assert f"~ build of {git} at v1: {commit[:12]} -> {upstream.git('rev-parse', 'v1')[:12]}" in check.stdout


def _locked(lab: Lab, fleet: Path) -> Lock:
    done = lab.run("lock", fleet)
    assert done.rc == 0, str(done)
    lock = read_lock(fleet)
    assert lock is not None
    return lock


def _runs(host: str, lock: Lock) -> None:
    """The image, the model's files, its tokenizer at the benchmark, and the plugin, as the server has them."""
    image = shell(host, f"docker inspect -f '{{{{.Image}}}}' {UNIT}").strip()
    digests = shell(host, f"docker image inspect -f '{{{{json .RepoDigests}}}}' {image}")
    assert f"{SIM_REPO}@{lock.images[IMAGE].digest}" in json.loads(digests)
    assert shell(host, f"docker image inspect -f '{{{{.Id}}}}' {DEPLOY_TAG}").strip() == image
    started = shell(host, f"docker inspect -f '{{{{.State.StartedAt}}}}' {UNIT}").strip()
    journal = shell(
        host, f"journalctl -u {UNIT} --since {started[:10]} --output cat | grep 'Loading weights from' | tail -1"
    )
    assert f"/snapshots/{lock.models[MODEL]['main']} " in journal
    assert shell(host, f"sha256sum {PLUGIN_PATH}").split()[0] == lock.plugins[MODEL][PLUGIN].sha256
    inside = shell(host, f"docker exec {UNIT} sha256sum /vllm-workspace/{PLUGIN}").split()[0]
    assert inside == lock.plugins[MODEL][PLUGIN].sha256
