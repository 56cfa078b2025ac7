"""The wheel of this checkout, and a clean environment that has it."""

from __future__ import annotations

import venv
from dataclasses import dataclass
from pathlib import Path

from support import BIN, ROOT, run


@dataclass(frozen=True)
class Installed:
    """A wheel in an environment of its own, with what it depends on."""

    wheel: Path
    program: Path
    """bin/provision of the environment"""


def build(folder: Path) -> Path:
    """The wheel, in the folder. AssertionError with the build's words when it fails."""
    done = run([str(BIN / "python"), "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)])
    assert done.rc == 0, str(done)
    (built,) = folder.glob("*.whl")
    return built


def install(folder: Path) -> Installed:
    """The wheel and an environment with it, in the folder. AssertionError with pip's words when it fails."""
    wheel, place = build(folder), folder / "venv"
    venv.create(place)
    pip = [str(BIN / "python"), "-m", "pip", "--python", str(place / "bin" / "python")]
    done = run([*pip, "install", "-q", "--no-compile", str(wheel)], timeout=900)
    assert done.rc == 0, str(done)
    return Installed(wheel, place / "bin" / "provision")
