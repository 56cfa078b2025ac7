"""/etc/os-release, /proc/meminfo, package lists and `systemctl show`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from provisioner.plan.facts import Unit

_DOCKER_PACKAGES = ("docker-ce", "docker.io", "moby-engine")


def parse_os_release(text: str) -> dict[str, str]:
    """Keys and values of os-release(5), without their quotes."""
    pairs = {}
    for line in text.splitlines():
        key, sign, value = line.strip().partition("=")
        if sign and not key.startswith("#"):
            pairs[key] = _unquoted(value)
    return pairs


def parse_meminfo(text: str) -> dict[str, int]:
    """MiB by name; /proc/meminfo counts in kB."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            sizes[name] = int(words[0]) // 1024
    return sizes


def parse_docker_package(out: str) -> str | None:
    """The package that the engine came with, of name TAB version TAB status lines (dpkg-query or rpm)."""
    rows = [line.split("\t") for line in out.splitlines()]
    installed = {row[0] for row in rows if len(row) == 3 and row[2].strip() == "installed"}
    return next((name for name in _DOCKER_PACKAGES if name in installed), None)


def parse_firewall(ufw: str, firewalld: str, firewalld_rc: int | None) -> tuple[int, ...] | None:
    """TCP ports opened one by one, of `ufw status` and `firewall-cmd --list-ports`; None: neither is active."""
    active = "Status: active" in ufw.splitlines()
    if not active and firewalld_rc != 0:
        return None
    opened = re.findall(r"^(\d+)(?:/tcp)? +ALLOW", ufw, re.MULTILINE) if active else []
    opened += re.findall(r"\b(\d+)/tcp\b", firewalld) if firewalld_rc == 0 else []
    return tuple(sorted({int(port) for port in opened}))


def parse_units(out: str) -> tuple[Unit, ...]:
    """Blocks of `systemctl show`, one a unit, with an empty line between. Units that do not exist are left out."""
    return tuple(_unit(block) for block in _blocks(out) if block.get("LoadState") != "not-found")


def _blocks(out: str) -> Iterable[dict[str, str]]:
    for block in out.split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if pairs.get("Id"):
            yield pairs


def _unit(pairs: dict[str, str]) -> Unit:
    restarts = pairs.get("NRestarts", "")
    return Unit(
        name=pairs["Id"],
        load_state=pairs.get("LoadState", ""),
        active_state=pairs.get("ActiveState", ""),
        sub_state=pairs.get("SubState", ""),
        enabled=pairs.get("UnitFileState") == "enabled",
        restarts=int(restarts) if restarts.isdigit() else 0,
        fragment_path=pairs.get("FragmentPath", ""),
        needs_reload=pairs.get("NeedDaemonReload") == "yes",
        result=pairs.get("Result", ""),
    )


def _unquoted(value: str) -> str:
    try:
        return "".join(shlex.split(value))
    except ValueError:  # an unbalanced quote: better the text than nothing
        return value
