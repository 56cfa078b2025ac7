"""Running arm64 programs on this machine: qemu-user, registered with the kernel for the lab's lifetime.

Flags: F opens the interpreter at registration, so containers need no copy of it; C honours setuid (sudo);
O hands over an open file, which systemd >= 254 needs because it executes systemd-executor through a
close-on-exec descriptor; P keeps argv[0].
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab import debs
from provisioner.lab.machine import Mirror
from provisioner.lab.process import run

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_OURS = "provision-lab-arm64"
_MAGIC = (
    r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
)
_MOUNT_RECORD, _ENTRY_RECORD = "binfmt-mounted", "binfmt-registered"


def native_arch() -> str:
    """Debian's word for this machine's architecture: "amd64", "arm64" or what uname says."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def registration(interpreter: Path) -> str:
    """The line that makes the kernel run aarch64 ELF programs with `interpreter`."""
    return f":{_OURS}:M::{_MAGIC}:{interpreter}:OCPF"


def register_arm64(state: Path, cache: Path, mirror: Mirror) -> bool:
    """Let this machine run arm64 programs. False when it could already. Raises LabError.

    Ours is entered last and so is looked at first: a registration by an older qemu stays untouched below it.
    """
    if native_arch() == "arm64" or (_BINFMT / _OURS).exists():
        return False
    root = debs.unpacked(cache, mirror, "qemu-user", ["qemu-user"])
    interpreter = debs.program(root, "usr/bin/qemu-aarch64")
    if not (_BINFMT / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], timeout=20, what="mounting binfmt_misc")
        (state / _MOUNT_RECORD).touch()
    try:
        (_BINFMT / "register").write_text(registration(interpreter))
    except OSError as error:
        raise LabError(
            f"the kernel does not take a binfmt_misc registration: {error.strerror}",
            hint="aarch64 lab hosts need it; `provision lab up --hosts h200:2` works without",
        ) from error
    (state / _ENTRY_RECORD).touch()
    return True


def unregister_arm64(state: Path) -> bool:
    """Take our registration (and our mount) away. Whether there was one."""
    entry, record = _BINFMT / _OURS, state / _ENTRY_RECORD
    ours = record.exists()
    if ours:
        if entry.exists():
            entry.write_text("-1")
        record.unlink()
    if (state / _MOUNT_RECORD).exists():
        if os.path.ismount(_BINFMT):
            run(["umount", str(_BINFMT)], timeout=20, what="unmounting binfmt_misc")
        (state / _MOUNT_RECORD).unlink()
    return ours
