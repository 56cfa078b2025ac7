"""The lab's SSH keys, made by the real ssh-keygen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from provisioner.lab.keys import ensure_key


def test_hosts_started_side_by_side_get_one_key(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "id_ed25519"
    with ThreadPoolExecutor(max_workers=8) as pool:
        publics = list(pool.map(lambda _: ensure_key(path, "lab"), range(8)))
    assert len(set(publics)) == 1
    assert publics[0].startswith("ssh-ed25519 ")
    assert path.stat().st_mode & 0o777 == 0o600
