"""The git repository that stands for the vLLM source tree, and the simulated engine's file tree for images."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab import wheels
from provisioner.lab.context import Arch
from provisioner.lab.process import run

TAG = "v0.12.0"
MACHINES: dict[Arch, str] = {"amd64": "x86_64", "arm64": "aarch64"}
_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "data" / "requirements-hub-client.txt"
_PYTHON, _GLIBC = "3.13", 41  # Debian trixie's
_STAMP = "provision-inputs"
_WHO = "provision lab"


def ensure_wheels(cache: Path) -> Path:
    """The folder with the hub client's wheels for both architectures. Raises LabError."""
    stamp = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache / "wheels" / stamp
    if folder.exists():
        return folder
    work = folder.with_name(f".{os.getpid()}.{stamp}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for machine in MACHINES.values():
        wheels.download(_REQUIREMENTS, work, wheels.target_flags(_PYTHON, machine, _GLIBC))
    work.rename(folder)
    return folder


def write_tree(folder: Path, wheel_folder: Path) -> None:
    """Write the source tree: Dockerfile, simulated engine, wheels."""
    shutil.copytree(_HERE / "source_tree", folder, dirs_exist_ok=True)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_HERE / "sim", folder / "provision_sim", ignore=skip, dirs_exist_ok=True)
    shutil.copytree(wheel_folder, folder / "wheels", dirs_exist_ok=True)


def tree_hash(folder: Path) -> str:
    """A hash over names and contents, .git left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] != ".git":
            digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def ensure_repository(repo: Path, tree: Path) -> str:
    """A git repository with `tree` committed on main and tagged; the commit. The same tree, the same commit."""
    stamp, wanted = repo / ".git" / _STAMP, tree_hash(tree)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(repo, ignore_errors=True)
        shutil.copytree(tree, repo)
        _git(repo, "init", "-q", "-b", "main")
        _git(repo, "add", "-A")
        _git(repo, "commit", "-q", "-m", "A stand-in for vLLM's source tree: provision's simulated engine")
        _git(repo, "tag", TAG)
        stamp.write_text(wanted)
    return _git(repo, "rev-parse", "HEAD").strip()


def install_engine(tree: Path, root: Path, arch: Arch) -> None:
    """Lay the simulated engine out below `root`, with the same script that the Dockerfile runs."""
    script = tree / "docker" / "install.py"
    argv = [sys.executable, str(script), "--root", str(root), "--machine", MACHINES[arch]]
    run(argv, timeout=120, what="laying out the simulated engine")


def _git(repo: Path, *words: str) -> str:
    if not shutil.which("git"):
        raise LabError("git is not on this machine", hint="apt-get install git")
    when = "2026-01-01T00:00:00Z"  # commits are named by their content alone
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(repo),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{role}_NAME": _WHO for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": "lab@provision.invalid" for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_DATE": when for role in ("AUTHOR", "COMMITTER")},
    }
    return run(["git", "-C", str(repo), *words], timeout=60, what=f"git {words[0]} in {repo}", env=env)
