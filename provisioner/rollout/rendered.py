"""Writing what a run would do: the inventory, and every file as it will stand on each host."""

from __future__ import annotations

import shutil
from pathlib import Path

from provisioner.apply.inventory import write_inventory
from provisioner.plan.hostfiles import HostFile, host_files
from provisioner.rollout.survey import Survey


def write_rendered(folder: Path, seen: Survey) -> int:
    """Writes `folder`/inventory and the files under `folder`/files/HOST/; gives the number of files.

    They lie side by side since Ansible would take every file in an inventory's folder for an inventory.

    What an earlier rendering left under files/ for these hosts goes away first: a file that would not be written any
    more should not look as if it would. Of secrets there are stand-ins with their references.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_inventory(folder / "inventory", seen.fleet, [host.plan for host in seen.hosts if host.plan])
    count = 0
    for host in seen.hosts:
        if host.plan is None or host.facts is None:
            continue
        root = folder / "files" / host.host.name
        if root.exists():
            shutil.rmtree(root)
        for file in host_files(host.plan, host.facts):
            _write(root, file)
            count += 1
    return count


def _write(root: Path, file: HostFile) -> None:
    path = root / file.path.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.content.encode())
    path.chmod(int(file.mode, 8))
