"""Where and how a host is reached over SSH, as OpenSSH itself would do it.

`ssh -G` resolves the configuration: only OpenSSH knows all of its own rules (Include, Match, patterns, defaults).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from provisioner.errors import UsageError
from provisioner.fleet.models import Host, Ssh

Strict = Literal["yes", "accept-new", "no"]
_RESOLVE_TIMEOUT_S = 15.0  # `Match exec` may run programs


@dataclass(frozen=True)
class Endpoint:
    """One SSH server and how to log in to it."""

    name: str
    """what the fleet or the configuration calls it"""
    hostname: str
    port: int
    user: str
    identity_files: tuple[Path, ...] = ()
    identities_only: bool = False
    agent: str | None = None
    """socket of the SSH agent; None for none"""
    known_hosts: tuple[Path, ...] = ()
    """user's files, then the machine's; new keys are recorded in the first"""
    host_key_name: str = ""
    """under which its key is known; "" for hostname and port"""
    hash_known_hosts: bool = False
    strict: Strict = "yes"
    jumps: tuple[str, ...] = ()
    """[user@]host[:port] of each jump host, the nearest first"""
    proxy_command: str | None = None
    timeout_s: float = 10.0
    """for each step of connecting"""
    alive_every_s: int = 10
    """seconds of silence after which a sign of life is sent"""
    dead_after_s: int = 30
    """seconds without any sign of life after which the connection counts as lost"""

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return f"[{self.hostname}]:{self.port}" if ":" in self.hostname else f"{self.hostname}:{self.port}"


def resolve(host: Host, ssh: Ssh) -> Endpoint:
    """Ask OpenSSH how it would reach a host. What the fleet file says wins over the SSH configuration.

    Raises UsageError when the configuration is wrong, a key file is missing or there is no OpenSSH client.
    """
    if host.identity_file is not None and not host.identity_file.is_file():
        raise UsageError(f"{host.name}: its identity_file {host.identity_file} is not there")
    text = _ask(resolve_argv(host, ssh), host.name)
    return parse_endpoint(host, ssh, text, environment=os.environ.get("SSH_AUTH_SOCK"))


def resolve_argv(host: Host, ssh: Ssh) -> list[str]:
    """The `ssh -G` command of a host. Options on the command line come before those of files, as ever in OpenSSH."""
    argv = ["ssh", "-G"]
    if ssh.config is not None:
        argv += ["-F", str(ssh.config)]
    if host.address is not None:
        argv += ["-o", f"HostName={host.address}"]
    if host.port is not None:
        argv += ["-p", str(host.port)]
    if host.user is not None:
        argv += ["-l", host.user]
    return [*argv, "--", host.name]


def parse_endpoint(host: Host, ssh: Ssh, text: str, *, environment: str | None = None) -> Endpoint:
    """What `ssh -G` printed → Endpoint. `environment`: SSH_AUTH_SOCK. Pure but for ~, which is this user's home."""
    options: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        options.setdefault(key.lower(), []).append(value)
    one = {key: values[0] for key, values in options.items()}
    identities = [_path(value) for value in options.get("identityfile", []) if value != "none"]
    if host.identity_file is not None:
        identities = [host.identity_file, *(path for path in identities if path != host.identity_file)]
    interval = int(one.get("serveraliveinterval", "0"))
    alive = {"alive_every_s": interval, "dead_after_s": interval * int(one.get("serveralivecountmax", "3"))}
    known = _words(one.get("userknownhostsfile", "")) + _words(one.get("globalknownhostsfile", ""))
    return Endpoint(
        name=host.name,
        hostname=one["hostname"],
        port=int(one["port"]),
        user=one["user"],
        identity_files=tuple(identities),
        identities_only=one.get("identitiesonly") == "yes",
        agent=_agent(one.get("identityagent"), environment),
        known_hosts=tuple(_path(word) for word in known if word not in {"none", "/dev/null"}),
        host_key_name=one.get("hostkeyalias", ""),
        hash_known_hosts=one.get("hashknownhosts") == "yes",
        strict=_strict(one.get("stricthostkeychecking", "ask")),
        jumps=_jumps(one.get("proxyjump", "none")),
        proxy_command=None if one.get("proxycommand", "none") == "none" else one["proxycommand"],
        timeout_s=_timeout(ssh, one.get("connecttimeout", "none")),
        # OpenSSH's own default is never to look.
        **(alive if interval else {}),
    )


def jump_host(text: str) -> Host:
    """A jump host of ProxyJump: [user@]host[:port] or an ssh:// URL."""
    parts = urlsplit(text if text.startswith("ssh://") else f"ssh://{text}")
    return Host(name=parts.hostname or text, port=parts.port, user=parts.username)


def proxy_argv(endpoint: Endpoint) -> list[str]:
    """ProxyCommand as OpenSSH runs it: by the shell, with its tokens filled in (ssh_config(5), TOKENS)."""
    tokens = {"h": endpoint.hostname, "p": str(endpoint.port), "r": endpoint.user, "n": endpoint.name, "%": "%"}
    first, *rest = (endpoint.proxy_command or "").split("%")
    command, pieces = first, iter(rest)
    for piece in pieces:
        if piece:
            command += tokens.get(piece[0], f"%{piece[0]}") + piece[1:]
        else:  # %%: the next piece starts after the second sign
            command += "%" + next(pieces, "")
    return ["/bin/sh", "-c", f"exec {command}"]


def _ask(argv: Sequence[str], name: str) -> str:
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RESOLVE_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        hint = "install it (openssh-client): it reads your SSH configuration, and Ansible connects with it"
        raise UsageError("the OpenSSH client `ssh` is not on this machine", hint=hint) from error
    except subprocess.TimeoutExpired as error:
        hint = "does a `Match exec` of the SSH configuration hang?"
        raise UsageError(f"{name}: `ssh -G` did not end within {_RESOLVE_TIMEOUT_S:g} s", hint=hint) from error
    if done.returncode:
        raise UsageError(f"{name}: OpenSSH rejects the SSH configuration: {done.stderr.strip()}")
    return done.stdout


def _strict(value: str) -> Strict:
    if value == "accept-new":
        return "accept-new"
    # "ask" has nobody to ask here.
    return "no" if value in {"false", "no", "off"} else "yes"


def _agent(configured: str | None, environment: str | None) -> str | None:
    if configured is None or configured == "SSH_AUTH_SOCK":
        return environment or None
    if configured == "none":
        return None
    return os.path.expandvars(configured) if configured.startswith("$") else str(_path(configured))


def _jumps(value: str) -> tuple[str, ...]:
    return () if value == "none" else tuple(value.split(","))


def _timeout(ssh: Ssh, configured: str) -> float:
    if "connect_timeout_s" in ssh.model_fields_set or not configured.isdigit():
        return ssh.connect_timeout_s
    return float(configured)


def _words(value: str) -> list[str]:
    return value.split()


def _path(value: str) -> Path:
    return Path(value.strip('"')).expanduser()
