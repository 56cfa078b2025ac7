"""Logging in with keys: of the agent and of files, in OpenSSH's order, so that a failure can say what was tried."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.errors import UnreachableError
from provisioner.hosts.endpoint import Endpoint
from provisioner.hosts.known_hosts import fingerprint

if TYPE_CHECKING:
    import paramiko


def log_in(transport: paramiko.Transport, endpoint: Endpoint) -> None:
    """Try every key. Raises UnreachableError, saying which were tried and which could not be."""
    tried: list[str] = []
    skipped: list[str] = []
    with ExitStack() as stack:
        _try(transport, endpoint, _keys(endpoint, skipped, stack), tried, skipped)


def _try(
    transport: paramiko.Transport,
    endpoint: Endpoint,
    keys: Iterable[tuple[str, paramiko.PKey]],
    tried: list[str],
    skipped: list[str],
) -> None:
    import paramiko

    for label, key in keys:
        tried.append(label)
        try:
            more = transport.auth_publickey(endpoint.user, key)
        except paramiko.BadAuthenticationType as error:
            raise _refused(endpoint, f"the server takes no keys, only {', '.join(error.allowed_types)}") from error
        except paramiko.AuthenticationException:
            if transport.is_active():
                continue
            raise _refused(endpoint, _tried(tried, skipped) + "; then the server hung up (MaxAuthTries?)") from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _refused(endpoint, f"{_tried(tried, skipped)}; then the connection ended: {error}") from error
        if more:
            raise _refused(endpoint, f"{label} was accepted, but the server also wants {', '.join(more)}")
        return
    raise _refused(endpoint, _tried(tried, skipped))


def _keys(endpoint: Endpoint, skipped: list[str], stack: ExitStack) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys of the agent that the configuration names, then files, then the agent's others."""
    agent = _agent_keys(endpoint, skipped, stack)
    files = [path for path in endpoint.identity_files if path.exists() or _public(path)]
    named = {blob for path in files if (blob := _public(path))}
    used = {key.asbytes() for _, key in agent if key.asbytes() in named}
    yield from [(label, key) for label, key in agent if key.asbytes() in named]
    for path in files:
        if path.exists() and _public(path) not in used:
            yield from _key_of(path, skipped)
    if not endpoint.identities_only:
        yield from [(label, key) for label, key in agent if key.asbytes() not in named]


def _key_of(path: Path, skipped: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    import paramiko

    try:
        key = paramiko.PKey.from_path(str(path))
    except paramiko.PasswordRequiredException:
        skipped.append(f"{path} needs its passphrase: add it to an agent with ssh-add")
        return
    except Exception as error:  # from_path lets through what the parsers of all key formats raise
        if _encrypted(error):
            skipped.append(f"{path} needs its passphrase: add it to an agent with ssh-add")
        else:
            skipped.append(f"{path} cannot be read: {str(error) or type(error).__name__}")
        return
    yield str(path), key  # with its certificate, where there is one beside it


def _encrypted(error: Exception) -> bool:
    words = str(error).lower()
    return isinstance(error, TypeError | ValueError) and ("password" in words or "encrypted" in words)


def _agent_keys(endpoint: Endpoint, skipped: list[str], stack: ExitStack) -> list[tuple[str, paramiko.PKey]]:
    import paramiko.agent

    if endpoint.agent is None:
        return []
    agent = paramiko.agent.AgentSSH()
    connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    connection.settimeout(endpoint.timeout_s)
    try:
        connection.connect(endpoint.agent)
        # paramiko.Agent knows only SSH_AUTH_SOCK; IdentityAgent names any socket.
        agent._connect(connection)  # type: ignore[attr-defined]  # paramiko has no public way to name a socket
    except (OSError, paramiko.SSHException) as error:
        skipped.append(f"the agent at {endpoint.agent} does not answer: {error}")
        return []
    return [(f"agent key {key.comment or fingerprint(key.asbytes())}", key) for key in agent.get_keys()]


def _public(path: Path) -> bytes | None:
    """The public half beside a key file: it tells which of the agent's keys is meant."""
    half = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        words = half.read_text(encoding="utf-8", errors="replace").split()
        return base64.b64decode(words[1], validate=True) if len(words) > 1 else None
    except (OSError, ValueError):
        return None


def _tried(tried: list[str], skipped: list[str]) -> str:
    words = f"tried {', '.join(tried)}" if tried else "there was no key to try"
    return "; ".join([words, *skipped])


def _refused(endpoint: Endpoint, why: str) -> UnreachableError:
    return UnreachableError(
        f"{endpoint.name}: {endpoint.address} does not let {endpoint.user} in: {why}",
        hint=f"is the user right, and is one of the keys in ~{endpoint.user}/.ssh/authorized_keys on the host? "
        f"set user or identity_file of {endpoint.name} in the fleet file or the SSH configuration",
    )
