"""The amd64 programs inside an emulated arm64 host: runc and iptables, with the libraries they need.

qemu-user lacks clone(CLONE_NEW*) and nfnetlink, so these two run natively; everything that the provisioner
installs or looks at is arm64.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from provisioner.lab import debs
from provisioner.lab.machine import Mirror

_PACKAGES = (
    "runc",
    "iptables",
    "libc6",
    "libseccomp2",
    "libxtables12",
    "libnftnl11",
    "libmnl0",
    "libip4tc2",
    "libip6tc2",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libgcc-s1",
)
_IPTABLES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


def helpers_tar(cache: Path, mirror: Mirror) -> Path:
    """A tar to unpack over an arm64 host's root; made once. Raises LabError."""
    target = cache / "debs" / "amd64-helpers.tar"
    if target.exists():
        return target
    root = debs.unpacked(cache, mirror, "amd64-helpers", _PACKAGES)
    work = target.with_name(f".{os.getpid()}.helpers")
    shutil.rmtree(work, ignore_errors=True)
    programs = work / "usr/local/lib/lab/x86"
    front = work / "usr/local/sbin"  # first on systemd's PATH
    for folder in (programs, front, work / "usr/lib64"):
        folder.mkdir(parents=True)
    shutil.copytree(
        debs.program(root, "usr/lib/x86_64-linux-gnu"),
        work / "usr/lib/x86_64-linux-gnu",
        symlinks=True,
        ignore=shutil.ignore_patterns("gconv", "audit"),
    )
    loader = "usr/lib64/ld-linux-x86-64.so.2"
    shutil.copy(debs.program(root, loader).resolve(), work / loader)
    shutil.copy(debs.program(root, "usr/sbin/runc"), programs)
    shutil.copy(debs.program(root, "usr/sbin/xtables-nft-multi"), programs)
    for name in _IPTABLES:
        (front / name).symlink_to("../lib/lab/x86/xtables-nft-multi")
    packed = work.with_suffix(".tar")
    with tarfile.open(packed, "w") as archive:
        archive.add(work, ".", filter=_of_root)
    packed.rename(target)
    shutil.rmtree(work)
    return target


def _of_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
