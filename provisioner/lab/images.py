"""Docker images of the lab hosts, made from the cached root file systems; named by the hash of their inputs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import IO, cast

from provisioner.errors import LabError
from provisioner.lab.binfmt import native_arch
from provisioner.lab.context import Arch, Report
from provisioner.lab.docker import docker, exists
from provisioner.lab.engine import docker_env

_CONTEXT = Path(__file__).parent / "host_image"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# same root file system, same bytes, same image id: whenever it is loaded
_CREATED = "2026-01-01T00:00:00Z"


def base_ref(rootfs: Path, arch: Arch) -> str:
    """Reference of the base image of a root file system: provision-lab/base:trixie-amd64-<hash>."""
    return f"provision-lab/base:{rootfs.stem}" if arch in rootfs.stem else f"provision-lab/base:{arch}-{rootfs.stem}"


def ensure_base_image(rootfs: Path, arch: Arch, report: Report) -> str:
    """The reference of the plain Debian image, loaded if the engine does not have it. Raises LabError."""
    ref = base_ref(rootfs, arch)
    if not exists("image", ref):
        report(f"image {ref}: loading")
        _load(rootfs, arch, ref)
    return ref


def ensure_host_image(base: str, arch: Arch, helpers: Path | None, report: Report) -> str:
    """The reference of the lab host's image, built if the engine does not have it. Raises LabError.

    `helpers` is the tar of amd64 programs that an emulated arm64 host needs; None for hosts that run natively.
    """
    ref = f"provision-lab/host:{arch}-{_hash_of(base, _CONTEXT, helpers)}"
    if exists("image", ref):
        return ref
    report(f"image {ref}: building")
    with tempfile.TemporaryDirectory() as place:
        context = Path(place) / "context"
        shutil.copytree(_CONTEXT, context)
        for program in ("nvidia-smi", "nvidia-ctk", "nvidia-container-runtime-hook", "runc-front", "lab-init"):
            (context / program).chmod(0o755)  # a wheel does not keep modes
        if helpers is None:
            _build(context, "Dockerfile", base, arch, ref)
            return ref
        shutil.copy(helpers, context / "helpers.tar")
        _build(context, "Dockerfile", base, arch, f"{ref}-plain")
        _build(context, "Dockerfile.emulated", f"{ref}-plain", arch, ref)
    return ref


def is_emulated(arch: Arch) -> bool:
    """Whether hosts of this architecture run under qemu-user here. Raises LabError where they cannot run."""
    if arch == native_arch():
        return False
    if arch == "arm64" and native_arch() == "amd64":
        return True
    raise LabError(
        f"this machine ({native_arch()}) cannot run {arch} lab hosts",
        hint="ask for hosts of this machine's own architecture, for example --hosts gb10:1",
    )


def _build(context: Path, dockerfile: str, base: str, arch: Arch, ref: str) -> None:
    argv = ["build", "-q", "--platform", f"linux/{arch}", "--build-arg", f"BASE={base}"]
    argv += ["-t", ref, "-f", str(context / dockerfile), str(context)]
    docker(argv, what=f"building {ref}", timeout=900)


def _load(rootfs: Path, arch: Arch, ref: str) -> None:
    """`docker import --platform` of dockerd before 23 stamps its own architecture; an archive says what it is."""
    with rootfs.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = json.dumps(
        {
            "architecture": arch,
            "os": "linux",
            "created": _CREATED,
            "config": {"Env": [_PATH], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": _CREATED, "created_by": "provision lab"}],
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [ref], "Layers": ["layer.tar"]}]
    with subprocess.Popen(
        ["docker", "load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=docker_env()
    ) as load:
        with tarfile.open(fileobj=cast("IO[bytes]", load.stdin), mode="w|") as archive:
            _add(archive, "manifest.json", json.dumps(manifest).encode())
            _add(archive, f"{name}.json", config)
            archive.add(rootfs, "layer.tar")
        words, _ = load.communicate()
    if load.returncode:
        raise LabError(f"loading {ref}: docker load failed: {words.decode(errors='replace').strip()}")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _hash_of(base: str, context: Path, helpers: Path | None) -> str:
    digest = hashlib.sha256(base.encode())
    for file in sorted(path for path in context.iterdir() if path.is_file()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    digest.update(helpers.name.encode() if helpers else b"")
    return digest.hexdigest()[:12]
