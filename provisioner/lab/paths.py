"""Where the lab keeps its things: state (removed by `down`) and caches (kept)."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_state_path

STATE_VARIABLE = "PROVISION_LAB_STATE"
CACHE_VARIABLE = "PROVISION_LAB_CACHE"


def state_dir() -> Path:
    """Keys, known hosts, pid files, logs: exists while the lab is up; `down` removes it."""
    return Path(os.environ.get(STATE_VARIABLE) or user_state_path("provision") / "lab").absolute()


def cache_dir() -> Path:
    """Root file systems, packages, images: whatever is slow to make and can be made again."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_path("provision") / "lab").absolute()


def make_private(path: Path) -> Path:
    """The folder, made for its owner alone (0700)."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path
