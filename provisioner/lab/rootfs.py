"""Debian root file systems, one tar per suite and architecture, cached by the hash of what went in."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from provisioner.lab.context import Arch, Report, Suite
from provisioner.lab.debs import MIRROR_HINT, SUITE
from provisioner.lab.machine import Mirror
from provisioner.lab.process import run

# What a GPU host has before the provisioner touches it. No Docker, no git.
PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
)
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
_TYPICAL = {"amd64": "about 40 s", "arm64": "about 4 min"}
_TIMEOUT = 1800.0


def build_argv(arch: Arch, mirror: Mirror, target: Path, suite: Suite = SUITE) -> list[str]:
    """The mmdebstrap command that writes `target`, a tar of a whole root file system."""
    argv = ["mmdebstrap", "--variant=minbase", f"--architectures={arch}", f"--include={','.join(PACKAGES)}"]
    # we know that the other architecture runs: the check insists on arch-test and on Debian's own registration
    argv += ["--skip=check/qemu"]
    argv += ['--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "3"']
    argv += [f"--aptopt={option}" for option in mirror.aptopts]
    argv += [f'--aptopt=Acquire::http::Proxy "{mirror.proxy}"'] if mirror.proxy else []
    argv += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    argv += ['--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin']
    return [*argv, suite, str(target), mirror.source(suite)]


def rootfs_file(cache: Path, arch: Arch, mirror: Mirror, suite: Suite = SUITE) -> Path:
    """Where the tar of these inputs is, built or not."""
    inputs = json.dumps([build_argv(arch, mirror, Path("target"), suite)])
    return cache / "rootfs" / f"{suite}-{arch}-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}.tar"


def ensure_rootfs(cache: Path, arch: Arch, mirror: Mirror, report: Report, suite: Suite = SUITE) -> Path:
    """The tar, built now if it is not in the cache. arm64 needs `register_arm64` first. Raises LabError."""
    target = rootfs_file(cache, arch, mirror, suite)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    report(f"rootfs {suite} {arch}: building with mmdebstrap ({_TYPICAL[arch]}, first time only)")
    began = time.monotonic()
    work = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        run(
            ["nice", *build_argv(arch, mirror, work, suite)],
            timeout=_TIMEOUT,
            what=f"building the {suite} {arch} root file system",
            hint=MIRROR_HINT,
        )
        work.rename(target)
    finally:
        work.unlink(missing_ok=True)
    report(f"rootfs {suite} {arch}: built in {time.monotonic() - began:.0f} s ({target.stat().st_size >> 20} MB)")
    return target
