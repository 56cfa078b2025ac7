"""Programs out of Debian trixie packages, unpacked into the cache: nothing is installed on this machine.

Why trixie whatever this machine is: qemu-user must be 10 or later to run systemd, and one docker-registry
for all is one less thing that differs.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab.context import Arch, Suite
from provisioner.lab.machine import Mirror
from provisioner.lab.process import run

SUITE: Suite = "trixie"
MIRROR_HINT = "is the Debian mirror of this machine's apt configuration reachable?"

# apt takes its lists for itself: what is brought up side by side takes turns here
_ONE_APT = threading.Lock()


def unpacked(cache: Path, mirror: Mirror, name: str, packages: Sequence[str], arch: Arch = "amd64") -> Path:
    """The folder CACHE/debs/NAME holding the files of `packages`; made once. Raises LabError."""
    target = cache / "debs" / name
    with _ONE_APT:
        if not target.exists():
            _unpack(target, _private_apt(cache / "apt" / arch, mirror, arch), packages)
    return target


def program(root: Path, path: str) -> Path:
    """A file inside an unpacked tree. Raises LabError when the package no longer has it."""
    found = root / path
    if not found.exists():
        raise LabError(f"the package has no {path}", hint=f"remove {root} and try again")
    return found


def _unpack(target: Path, apt: Sequence[str], packages: Sequence[str]) -> None:
    work = target.with_name(f".{target.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    (work / "root").mkdir(parents=True)
    run(["apt-get", "-q", *apt, "update"], timeout=180, what=f"reading {SUITE}'s package lists", hint=MIRROR_HINT)
    download = ["apt-get", "-q", *apt, "download", *packages]
    run(["env", "-C", str(work), *download], timeout=300, what=f"downloading {', '.join(packages)}", hint=MIRROR_HINT)
    for deb in sorted(work.glob("*.deb")):
        run(["dpkg-deb", "-x", str(deb), str(work / "root")], timeout=120, what=f"unpacking {deb.name}")
    (work / "root").rename(target)
    shutil.rmtree(work)


def _private_apt(place: Path, mirror: Mirror, arch: Arch) -> list[str]:
    """apt options that read another suite and leave the machine's own apt state alone."""
    for folder in ("state/lists/partial", "cache/archives/partial", "etc"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    sources = place / "etc" / "sources.list"
    sources.write_text(mirror.source(SUITE, arch) + "\n")
    options = {
        "Dir::State": place / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": place / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Update::Error-Mode": "any",  # a list that cannot be fetched is an error, not a warning
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
