"""Where the lab keeps its things: state (removed by `down`) and caches (kept)."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_state_path

STATE_VARIABLE = "PROVISION_LAB_STATE"
CACHE_VARIABLE = "PROVISION_LAB_CACHE"


def state_dir() -> Path:
    """Keys, known hosts, pid files, logs: 0700, made on first use, removed by `down`."""
    return _own(STATE_VARIABLE, user_state_path("provision") / "lab")


def cache_dir() -> Path:
    """Root file systems, packages, images: whatever is slow to make and can be made again."""
    return _own(CACHE_VARIABLE, user_cache_path("provision") / "lab")


def _own(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable) or default).absolute()
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path
