"""Packages unpacked into the cache: one apt at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from provisioner.lab import debs
from provisioner.lab.machine import Mirror


def test_apt_is_never_run_twice_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where caches are empty, threads fetch the registry's, the emulator's and the helpers' packages."""
    busy, clashes = threading.Lock(), []
    begun = threading.Barrier(3, timeout=10)

    def run(argv: list[str], **_: Any) -> str:
        free = busy.acquire(blocking=False)
        if not free:
            clashes.append(argv)
            return ""
        if argv[0] == "env":
            (Path(argv[2]) / "root" / "file").touch()
        time.sleep(0.005)  # long enough for another one to come in between
        busy.release()
        return ""

    def fetch(name: str) -> Path:
        begun.wait()
        return debs.unpacked(tmp_path, mirror, name, [name])

    monkeypatch.setattr(debs, "run", run)
    mirror = Mirror(url="http://mirror.invalid/debian", keyring=Path("/k"), proxy=None, aptopts=())
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(fetch, ["registry", "qemu-user", "helpers"]))
    assert not clashes
    assert [(folder.name, (folder / "file").exists()) for folder in folders] == [
        ("registry", True),
        ("qemu-user", True),
        ("helpers", True),
    ]
