"""Opening an SSH connection: the way there (direct, jump hosts, proxy command), the host key, the login.

paramiko's Transport is used below fabric and SSHClient: both accept unknown host keys or hide which key was tried.
"""

from __future__ import annotations

import importlib
import logging
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from provisioner.errors import ProvisionError, UnreachableError
from provisioner.fleet.models import Ssh
from provisioner.hosts.auth import log_in
from provisioner.hosts.endpoint import Endpoint, jump_host, proxy_argv, resolve
from provisioner.hosts.known_hosts import KnownKey, check, known_keys

if TYPE_CHECKING:
    import paramiko

# Without a handler the library's background threads would print their tracebacks to stderr.
_QUIET = logging.NullHandler()
_loading = threading.Lock()


@dataclass(frozen=True)
class Connection:
    """A session that is logged in, and how to end all that it stands on."""

    transport: paramiko.Transport
    closers: tuple[Callable[[], None], ...]
    """in the order to call them"""

    def close(self) -> None:
        _close(self.closers)


def dial(endpoint: Endpoint, ssh: Ssh) -> Connection:
    """Connect and log in. Raises UnreachableError saying which step failed and what to do."""
    _load()
    import paramiko

    logging.getLogger("paramiko").addHandler(_QUIET)
    known = known_keys(endpoint)
    way, closers = _way(endpoint, ssh)
    try:
        transport = paramiko.Transport(way)
        closers = (transport.close, *closers)
        _negotiate(transport, endpoint, known)
        key = transport.get_remote_server_key()
        check(endpoint, known, key.get_name(), key.asbytes())
        transport.auth_timeout = endpoint.timeout_s
        log_in(transport, endpoint)
    except ProvisionError:
        _close(closers)
        raise
    except (paramiko.SSHException, EOFError, OSError) as error:
        _close(closers)
        raise _no_ssh(endpoint, error) from error
    transport.set_keepalive(endpoint.alive_every_s)
    return Connection(transport, closers)


def _load() -> None:
    """paramiko without invoke, which is as much again, and which only its reader of SSH configurations would use."""
    with _loading:
        if "paramiko" in sys.modules or "invoke" in sys.modules:
            return
        sys.modules["invoke"] = None  # type: ignore[assignment]  # an import of it fails, and paramiko does without
        try:
            importlib.import_module("paramiko")
        finally:
            del sys.modules["invoke"]


def _close(closers: tuple[Callable[[], None], ...]) -> None:
    for closer in closers:
        closer()


def _way(endpoint: Endpoint, ssh: Ssh) -> tuple[Any, tuple[Callable[[], None], ...]]:
    """Something like a socket that leads to the SSH server, and what ends it."""
    if endpoint.proxy_command is not None:
        return _proxy(endpoint)
    if not endpoint.jumps:
        connection = _tcp(endpoint)
        return connection, (connection.close,)
    *before, last = endpoint.jumps
    host = jump_host(last)
    gate = replace(resolve(host, ssh), timeout_s=endpoint.timeout_s)
    if before:  # OpenSSH too takes the chain from the command, not from the configuration of the last jump host
        gate = replace(gate, jumps=tuple(before), proxy_command=None)
    try:
        jump = dial(gate, ssh)
    except UnreachableError as error:
        raise UnreachableError(f"{endpoint.name}: by way of its jump host: {error.message}", hint=error.hint) from error
    try:
        channel = _forward(jump, endpoint, gate)
    except UnreachableError:
        jump.close()
        raise
    return channel, (channel.close, jump.close)


def _forward(jump: Connection, endpoint: Endpoint, gate: Endpoint) -> paramiko.Channel:
    import paramiko

    try:
        return jump.transport.open_channel(
            "direct-tcpip", (endpoint.hostname, endpoint.port), ("127.0.0.1", 0), timeout=endpoint.timeout_s
        )
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise UnreachableError(
            f"{endpoint.name}: its jump host {gate.name} cannot connect to {endpoint.address}: {error}",
            hint="is the host up, and may the jump host forward (AllowTcpForwarding)?",
        ) from error


def _tcp(endpoint: Endpoint) -> socket.socket:
    name, where = endpoint.name, endpoint.address
    try:
        connection = socket.create_connection((endpoint.hostname, endpoint.port), endpoint.timeout_s)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: no name at all, such as a..b
        raise UnreachableError(
            f"{name}: the name {endpoint.hostname} does not resolve ({getattr(error, 'strerror', None) or error})",
            hint=f"correct it, or set the address of {name} in the fleet file or HostName in the SSH configuration",
        ) from error
    except ConnectionRefusedError as error:
        raise UnreachableError(
            f"{name}: {where} refuses the connection", hint="is the SSH server running there, and on this port?"
        ) from error
    except TimeoutError as error:
        raise UnreachableError(
            f"{name}: {where} does not answer within {endpoint.timeout_s:g} s",
            hint="is the host up, is the address right, does a firewall drop the packets?",
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"{name}: {where} cannot be reached: {error.strerror or error}",
            hint="is the host up, is the address right, and is there a route to it from here?",
        ) from error
    # Keep-alives are sent, but nobody waits for their answers: it is the kernel that notices a dead peer.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, endpoint.dead_after_s * 1000)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _proxy(endpoint: Endpoint) -> tuple[socket.socket, tuple[Callable[[], None], ...]]:
    """The proxy command on one end of a socket pair (paramiko's own ProxyCommand spins when the command ends)."""
    ours, theirs = socket.socketpair()
    words = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the connection
    with theirs:
        process = subprocess.Popen(proxy_argv(endpoint), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=words)
    return ours, (ours.close, lambda: _end(process, words))


def _end(process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
    words.close()
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _negotiate(transport: paramiko.Transport, endpoint: Endpoint, known: tuple[KnownKey, ...]) -> None:
    """Agree on ciphers and get the host key, of a type that we know of this host if it has one."""
    options = transport.get_security_options()
    types = {name for one in known if not one.marker for name in _algorithms(one.key_type)}
    options.key_types = tuple(sorted(options.key_types, key=lambda name: name not in types))
    transport.banner_timeout = endpoint.timeout_s
    transport.start_client(timeout=endpoint.timeout_s)
    if not transport.initial_kex_done:
        raise TimeoutError(f"no agreement on a cipher within {endpoint.timeout_s:g} s")


def _algorithms(key_type: str) -> tuple[str, ...]:
    """An RSA key signs in newer ways than its type says."""
    return ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa") if key_type == "ssh-rsa" else (key_type,)


def _no_ssh(endpoint: Endpoint, error: BaseException) -> UnreachableError:
    way = f"`{shlex.join(proxy_argv(endpoint)[2:])}`" if endpoint.proxy_command else endpoint.address
    return UnreachableError(
        f"{endpoint.name}: {way} does not answer as an SSH server: {error or type(error).__name__}",
        hint=f"does `ssh {endpoint.name}` work?",
    )
