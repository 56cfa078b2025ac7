"""Wheels for the images, with the pip and the package index that this machine is configured for."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab.process import run

_HINT = "is the package index of this machine's pip configuration reachable?"


def pip_argv() -> list[str]:
    """How to start pip: with this Python when it has one, else with the system's. Raises LabError."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if not found:
        raise LabError("no pip on this machine", hint="apt-get install python3-pip")
    return [found]


def target_flags(python: str, machine: str, glibc: int) -> list[str]:
    """pip's options for wheels of another machine: CPython `python` ("3.11") with glibc 2.`glibc`."""
    abi = f"cp{python.replace('.', '')}"
    flags = ["--only-binary=:all:", "--no-deps", f"--python-version={python}", "--implementation=cp"]
    flags += [f"--abi={abi}", "--abi=abi3", "--abi=none"]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 4, -1)]
    platforms += [f"manylinux{year}_{machine}" for year in (2014, 2010, 1)] + [f"linux_{machine}", "any"]
    return flags + [f"--platform={platform}" for platform in platforms]


def download(requirements: Path, folder: Path, flags: Sequence[str]) -> None:
    """Download the wheels of a requirements file into `folder`. Raises LabError."""
    argv = [*pip_argv(), "download", "-q", "-d", str(folder), *flags, "-r", str(requirements)]
    run(argv, timeout=900, what=f"downloading {requirements.stem}", env=_environ(), hint=_HINT)


def install(words: Sequence[str], target: Path, flags: Sequence[str], *, what: str, hint: str = _HINT) -> None:
    """Install into a folder, for another machine. `words`: requirements or options. Raises LabError."""
    argv = ["nice", *pip_argv(), "install", "-q", "--no-compile", "--target", str(target), *flags, *words]
    run(argv, timeout=3600, what=what, env=_environ(), hint=hint)


def _environ() -> dict[str, str]:
    return {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
