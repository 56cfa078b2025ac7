"""SSH keys of a lab: the user's, and every host's, made here so that host keys are known before a host starts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from provisioner.lab.process import run

USER = "ops"

# hosts of two architectures are started side by side and share the user's key: the first one makes it
_ONE_KEYGEN = threading.Lock()


def ensure_key(path: Path, comment: str) -> str:
    """Make the ed25519 key pair at `path` unless it is there; the public line."""
    with _ONE_KEYGEN:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
            run(argv, timeout=30, what="making an SSH key")
    return path.with_name(f"{path.name}.pub").read_text().strip()


def user_key(state: Path) -> Path:
    """Private key that opens every host of the lab."""
    return state / "ssh" / "id_ed25519"


def host_key(state: Path, host: str) -> Path:
    """Private host key of one host."""
    return state / "ssh" / "hosts" / host


def known_hosts_file(state: Path) -> Path:
    """Host keys of the lab's hosts, by name and by address."""
    return state / "ssh" / "known_hosts"


def ssh_config_file(state: Path) -> Path:
    """For `ssh -F`, with one Host entry for each host."""
    return state / "ssh" / "config"


def known_hosts(addresses: Mapping[str, str], public_keys: Mapping[str, str]) -> str:
    """Text of a known_hosts file; `public_keys` holds the public line of each host's key."""
    lines = [
        f"{name},{address} {' '.join(public_keys[name].split()[:2])}" for name, address in sorted(addresses.items())
    ]
    return "".join(f"{line}\n" for line in lines)


def ssh_config(addresses: Mapping[str, str], *, key: Path, known: Path) -> str:
    """Text of an ssh configuration that checks host keys strictly and uses no key but the lab's."""
    blocks = ["# Written by `provision lab up`.\n"]
    for name, address in sorted(addresses.items()):
        blocks.append(
            f"Host {name}\n"
            f"  HostName {address}\n"
            f"  User {USER}\n"
            f"  IdentityFile {key}\n"
            "  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known}\n"
            "  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n"
        )
    return "\n".join(blocks)


def write_ssh_files(state: Path, addresses: Mapping[str, str]) -> Path:
    """Write known_hosts and ssh config of these hosts; the config's path."""
    publics = {name: ensure_key(host_key(state, name), name) for name in addresses}
    known_hosts_file(state).write_text(known_hosts(addresses, publics))
    config = ssh_config_file(state)
    config.write_text(ssh_config(addresses, key=user_key(state), known=known_hosts_file(state)))
    return config
