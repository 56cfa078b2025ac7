"""What a Docker engine leaves behind on a machine that had none: noted before ours starts, undone after it stops.

dockerd keeps its bridge, its iptables chains, ip_forward, empty cgroups and an empty /etc/docker after its end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from provisioner.lab.process import run, succeeds

_RECORD = "before-engine.json"
_BRIDGE = "docker0"
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_ETC = Path("/etc/docker")
_TABLES = (("iptables-save", "iptables-restore"), ("ip6tables-save", "ip6tables-restore"))


def note(state: Path) -> None:
    """Remember how the machine is before our engine starts; the first note stands until it is undone."""
    record = state / _RECORD
    if record.exists():
        return
    before = {
        "bridge": _has_bridge(),
        "etc": _ETC.exists(),
        "ip_forward": _FORWARD.read_text().strip(),
        "chains": "DOCKER" in run(["iptables-save"], timeout=20, what="reading iptables"),
        "policy": _forward_policy(),
        "cgroups": [str(path) for path in _cgroups()],
    }
    record.write_text(json.dumps(before))


def noted(state: Path) -> bool:
    """Whether an engine of ours was started and what it left is not undone yet."""
    return (state / _RECORD).exists()


def undo(state: Path, roots: Sequence[Path]) -> None:
    """Take away what was not there before, of the engine that kept its data in the folders `roots`.

    Does nothing without a note.
    """
    record = state / _RECORD
    if not record.exists():
        return
    before = json.loads(record.read_text())
    for place in mounts_below(Path("/proc/self/mountinfo").read_text(), roots):
        run(["umount", place], timeout=20, what=f"unmounting {place}")  # left by a dockerd that died
    if not before["bridge"] and _has_bridge():
        run(["ip", "link", "delete", _BRIDGE], timeout=20, what=f"removing {_BRIDGE}")
    if not before["chains"]:
        for save, restore in _TABLES:
            _restore_without_docker(save, restore)
        run(["iptables", "-P", "FORWARD", before["policy"]], timeout=20, what="restoring iptables")
    _FORWARD.write_text(before["ip_forward"])
    if not before["etc"] and _ETC.exists():
        (_ETC / "key.json").unlink(missing_ok=True)  # dockerd before 23 writes one
        if not any(_ETC.iterdir()):
            _ETC.rmdir()
    for path in _cgroups():
        if str(path) not in before["cgroups"] and not any(child.is_dir() for child in path.iterdir()):
            path.rmdir()
    record.unlink()


def without_docker(rules: str) -> str:
    """The text of iptables-save without Docker's chains and rules; everything else stays as it is."""
    kept = [line for line in rules.splitlines() if not re.search(r"\bDOCKER\b|\bDOCKER-|\bdocker0\b", line)]
    return "".join(f"{line}\n" for line in kept)


def mounts_below(mountinfo: str, roots: Sequence[Path]) -> list[str]:
    """Mount points at or below `roots`, the last mounted first; one that is mounted twice comes twice."""
    places = [line.split()[4].replace(r"\040", " ") for line in mountinfo.splitlines()]
    return [place for place in reversed(places) if any(Path(place).is_relative_to(root) for root in roots)]


def _restore_without_docker(save: str, restore: str) -> None:
    if not succeeds([save], timeout=20):
        return  # no IPv6 tables here, so nothing of Docker's in them
    rules = run([save], timeout=20, what=f"reading {save}")
    kept = without_docker(rules)
    if kept != rules:
        run([restore], timeout=20, what=f"writing {restore}", data=kept.encode())


def _cgroups() -> list[Path]:
    """dockerd's parent groups: one in each hierarchy of cgroup v1, or one in all of v2."""
    root = Path("/sys/fs/cgroup")
    return [path for pattern in ("docker", "*/docker") for path in sorted(root.glob(pattern))]


def _has_bridge() -> bool:
    return succeeds(["ip", "link", "show", _BRIDGE], timeout=20)


def _forward_policy() -> str:
    rules = run(["iptables", "-S", "FORWARD"], timeout=20, what="reading iptables")
    found = re.search(r"^-P FORWARD (\S+)", rules, re.MULTILINE)
    return found.group(1) if found else "ACCEPT"
