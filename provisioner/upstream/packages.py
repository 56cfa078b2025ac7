"""Packages of a host's system with all that they need, as a small repository: by this machine's apt, from the archives
that the host itself names. Nothing of this machine's own package state is read or changed, root is not needed.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from provisioner.errors import UpstreamError, UsageError
from provisioner.plan.packages import System

TIMEOUT_S = 1800
READ_SOURCES = (
    "cd / && tar -czf - $(ls -d etc/apt/sources.list etc/apt/sources.list.d etc/apt/trusted.gpg etc/apt/trusted.gpg.d "
    "etc/apt/keyrings usr/share/keyrings 2>/dev/null) | base64"
)
"""sh, on a host: where its apt gets packages from, and whom it trusts"""
_SIGNED_BY = re.compile(r"(?im)(signed-by\s*[:=]\s*)(/[^\s\],]+)")
_URI = re.compile(r"(?m)^'[^']+' (\S+\.deb) \d+")


def fetch(
    system: System, names: Sequence[str], sources: bytes, folder: Path, on_host: PurePosixPath, work: Path
) -> None:
    """Fills `folder` with the packages, an index of them, and the two files that make apt read it on a host.

    `sources`: what READ_SOURCES gives, decoded. `on_host`: where the folder will lie. `work` keeps what was downloaded
    for the next try. Raises UsageError without apt here, UpstreamError when the archives do not give the packages.
    """
    if not shutil.which("apt-get"):
        raise UsageError(
            f"packages for {system.words} are resolved with apt, which is not on this machine",
            hint="make the bundle on a Debian or Ubuntu machine, or install Docker on the hosts by hand",
        )
    options = _private(system, sources, work)
    _apt([*options, "update"], f"reading the package lists of {system.words}")
    install = [*options, "--yes", "--no-install-recommends", "install", *names]
    what = f"downloading {', '.join(names)} for {system.words}"
    # asked before anything is there, since apt does not tell what it need not fetch
    archives = work / "cache/archives"
    wanted = _URI.findall(_apt([*options, "-o", f"Dir::Cache::archives={work}/empty", "--print-uris", *install], what))
    _apt(["--download-only", *install], what)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # apt writes the colon of an epoch as %3a, and would take that for an escape when it reads the index
    debs = [Path(shutil.copyfile(archives / name, folder / name.replace("%3a", "_"))) for name in sorted(wanted)]
    (folder / "Packages").write_text("\n".join(_stanza(deb) for deb in debs), encoding="utf-8")
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{on_host} ./\n", encoding="utf-8")
    (folder / "apt.conf").write_text(_on_the_host(on_host), encoding="utf-8")


def _on_the_host(folder: PurePosixPath) -> str:
    """What a host's apt is told (APT_CONFIG): this repository and no other. Its own lists stay as they are."""
    return (
        f'Dir::Etc::sourcelist "{folder}/sources.list";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{folder}/lists/";\n'
        'Dir::Cache::pkgcache "";\n'
        'Dir::Cache::srcpkgcache "";\n'
        'APT::Sandbox::User "root";\n'
    )


def _private(system: System, sources: bytes, work: Path) -> list[str]:
    """Options of an apt that has the host's sources and an empty system: what is needed does not depend on a host."""
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    for place in ("root/etc/apt/sources.list.d", "root/etc/apt/trusted.gpg.d", "state/lists/partial"):
        (work / place).mkdir(parents=True, exist_ok=True)
    for place in ("cache/archives/partial", "empty/partial"):
        (work / place).mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(sources)) as archive:
        archive.extractall(root, filter="data")
    apt = root / "etc/apt"
    for file in (apt / "sources.list", *(apt / "sources.list.d").iterdir()):
        if file.is_file():
            text = _SIGNED_BY.sub(lambda found: f"{found[1]}{root}{found[2]}", file.read_text(encoding="utf-8"))
            file.write_text(text, encoding="utf-8")
    options: Mapping[str, object] = {
        "Dir::State": work / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": apt / "sources.list.d",
        "Dir::Etc::trusted": apt / "trusted.gpg",
        "Dir::Etc::trustedparts": apt / "trusted.gpg.d",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": system.arch,
        "APT::Architectures": system.arch,
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "true",
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _apt(words: Sequence[str], what: str) -> str:
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", "-q", *words], env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it printed nothing"]
        raise UpstreamError(
            f"{what}: apt failed (exit {done.returncode}): {' '.join(said[-3:])}",
            hint="the archives that the hosts' apt names must be reachable from this machine",
        )
    return done.stdout


def _stanza(deb: Path) -> str:
    """An entry of the index."""
    told = subprocess.run(["dpkg-deb", "--field", str(deb)], capture_output=True, text=True, check=True).stdout
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    return f"{told.rstrip()}\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256}\n"
