#!/usr/bin/python3
"""Makes a stand-in for docker.com's or NVIDIA's package repository on a rehearsal host: argument docker or nvidia.

Real: apt, signatures, versions, dependencies; Docker is Debian's build of the version that is told, under docker.com's
package names. NVIDIA's packages hold the rehearsal host's own stand-ins, which are taken off the host: without the
package it has no toolkit. The result is /srv/repository, to be served over HTTP.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path("/srv/repository")
DOCKER_NAMES = {
    "docker.io": "docker-ce",
    "docker-cli": "docker-ce-cli",
    "containerd": "containerd.io",
    "docker-buildx": "docker-buildx-plugin",
}
NVIDIA_VERSIONS = ("1.17.8", "1.18.0")


def docker() -> None:
    """Two versions: the engine of Debian 12 and that of Debian 13."""
    arch = output("dpkg", "--print-architecture").strip()
    place = ROOT / "debian/dists/trixie/stable" / f"binary-{arch}"
    place.mkdir(parents=True)
    for suite, version, packages in (
        ("bookworm", "20.10.24", ["docker.io"]),
        ("trixie", "26.1.5", list(DOCKER_NAMES)),
    ):
        folder = Path(tempfile.mkdtemp())
        download(suite, packages, folder)
        for deb in sorted(folder.glob("*.deb")):
            tree = folder / "tree"
            output("dpkg-deb", "-R", str(deb), str(tree))
            name = deb.name.partition("_")[0]
            renamed = DOCKER_NAMES[name]
            label = f"5:{version}-1~debian.13~trixie" if renamed.startswith("docker-ce") else "1.7.24-1"
            if suite == "bookworm":  # its client is part of docker.io
                client = folder / "client"
                (client / "usr/bin").mkdir(parents=True)
                shutil.move(tree / "usr/bin/docker", client / "usr/bin/docker")
                build(client, {"Package": "docker-ce-cli", "Version": label, "Architecture": arch}, place)
            build(tree, renamed_fields(tree / "DEBIAN/control", label), place)
            shutil.rmtree(tree)
    packages = index(place, "dists/trixie/stable/" + place.name)
    release = ROOT / "debian/dists/trixie"
    told = f"Suite: trixie\nCodename: trixie\nComponents: stable\nArchitectures: {arch}\n"
    sign(release, told, {f"stable/{place.name}/Packages": packages}, ROOT / "debian/gpg")


def nvidia() -> None:
    """A flat repository, as NVIDIA's is; the packages of a release know nothing of each other's versions."""
    arch = output("dpkg", "--print-architecture").strip()
    place = ROOT / "stable/deb" / arch
    place.mkdir(parents=True)
    ours = [Path("/usr/bin/nvidia-ctk"), Path("/usr/bin/nvidia-container-runtime-hook")]
    for version in NVIDIA_VERSIONS:
        for name in ("nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1"):
            build(Path(tempfile.mkdtemp()), {"Package": name, "Version": f"{version}-1", "Architecture": arch}, place)
        tree = Path(tempfile.mkdtemp())
        (tree / "usr/bin").mkdir(parents=True)
        for program in ours:
            copy = tree / "usr/bin" / program.name
            shutil.copy(program, copy)
            copy.write_text(re.sub(r"CLI version [\d.]+", f"CLI version {version}", copy.read_text()))
        depends = "nvidia-container-toolkit-base, libnvidia-container-tools, libnvidia-container1"
        fields = {"Package": "nvidia-container-toolkit", "Version": f"{version}-1", "Architecture": arch}
        build(tree, {**fields, "Depends": depends}, place)
    for program in ours:
        program.unlink()
    sign(place, "", {"Packages": index(place, ".")}, ROOT / "gpgkey")


def download(suite: str, packages: list[str], folder: Path) -> None:
    """The suite's packages, with lists of their own: the host's apt does not see the suite."""
    source = Path("/etc/apt/sources.list").read_text().replace("trixie", suite)
    lists = folder / "sources.list"
    lists.write_text(source)
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": lists,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    output("apt-get", "-q", *words, "update")
    output("apt-get", "-q", *words, "download", *packages, cwd=folder)


def renamed_fields(control: Path, version: str) -> dict[str, str]:
    """The fields of a control file under docker.com's names."""
    text = re.sub(r"\n[ \t]+", " ", control.read_text())
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    for key in (
        "Source",
        "Breaks",
        "Replaces",
        "Conflicts",
        "Recommends",
        "Suggests",
        "Enhances",
        "Built-Using",
        "Provides",
    ):
        fields.pop(key, None)
    fields["Version"] = version
    for key in ("Package", "Depends"):
        names = "|".join(map(re.escape, DOCKER_NAMES))
        fields[key] = re.sub(
            rf"(?<![\w.-])({names})(?![\w.-])(\s*\([^)]*\))?", lambda found: DOCKER_NAMES[found[1]], fields.get(key, "")
        )
    return fields


def build(tree: Path, fields: dict[str, str], place: Path) -> None:
    """One package, uncompressed."""
    (tree / "DEBIAN").mkdir(exist_ok=True)
    fields = {"Maintainer": "provision lab <lab@provision.invalid>", "Description": "stand-in", **fields}
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items() if value))
    output("dpkg-deb", "-Znone", "--root-owner-group", "-b", str(tree), str(place))


def index(place: Path, where: str) -> bytes:
    """Packages of a folder; written there too."""
    entries = []
    for deb in sorted(place.glob("*.deb")):
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        control = output("dpkg-deb", "-f", str(deb)).strip()
        entries.append(f"{control}\nFilename: {where}/{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")
    data = "\n".join(entries).encode()
    (place / "Packages").write_bytes(data)
    return data


def sign(folder: Path, head: str, files: dict[str, bytes], public: Path) -> None:
    """InRelease over these files, and the public key that apt checks it with."""
    sums = "".join(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n" for name, data in files.items())
    release = folder / "Release"
    release.write_text(f"{head}Date: {output('date', '-Ru').strip()}\nSHA256:\n{sums}")
    gpg = ["gpg", "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]
    output(*gpg, "--quick-gen-key", "stand-in@provision.invalid", "rsa2048", "sign", "never")
    output(*gpg, "--clearsign", "--output", str(folder / "InRelease"), str(release))
    public.write_text(output("gpg", "--armor", "--export", "stand-in@provision.invalid"))


def output(*argv: str, cwd: Path | None = None) -> str:
    """stdout of a program; its stderr is where ours goes."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd).stdout


{"docker": docker, "nvidia": nvidia}[sys.argv[1]]()
