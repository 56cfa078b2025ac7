"""The one narrow way to a host. Two implementations behave alike: `ssh.SshTransport` and `fake.FakeTransport`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from provisioner.errors import HostError, UnreachableError


@dataclass(frozen=True)
class Result:
    """How a command on a host ended. Output that is no UTF-8 has replacement characters."""

    rc: int
    stdout: str
    stderr: str


class Channel(Protocol):
    """A TCP connection as seen from a host: the part of a socket that HTTP needs."""

    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, nbytes: int, /) -> bytes: ...
    def settimeout(self, timeout: float | None, /) -> None: ...
    def close(self) -> None: ...


class Transport(Protocol):
    """A connection to one host. Every method raises UnreachableError when the connection is lost."""

    host: str
    """name of the host in the fleet"""

    def run(
        self,
        command: str,
        *,
        stdin: bytes | str | None = None,
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        """Run a shell command to its end; a failing one is a Result, not an error.

        `on_line` gets every line of stdout and stderr as it comes, without its end.
        Raises HostError when the command has not ended after `timeout_s` seconds, with what it said in `log`.
        """
        ...

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file, whole or not at all, as the SSH user. Raises HostError when it cannot be written."""
        ...

    def get(self, path: str) -> bytes:
        """Read a file as the SSH user. Raises HostError when it cannot be read."""
        ...

    def open_tcp(self, host: str, port: int, timeout_s: float) -> Channel:
        """Connect from the host to an address that it can reach, such as its own loopback.

        Raises ConnectionRefusedError when nothing listens there, TimeoutError after `timeout_s` seconds, and
        HostError when the host's SSH server does not allow it.
        """
        ...

    def close(self) -> None:
        """End the connection; harmless when it is closed already."""
        ...


def timed_out(host: str, command: str, timeout_s: float, said: str = "") -> HostError:
    """The error of a command that did not end in time; the same whatever the transport."""
    return HostError(f"{host}: `{shown(command)}` did not end within {timeout_s:g} s", log=said)


def lost(host: str, doing: str) -> UnreachableError:
    """The error of a connection that ended under us."""
    hint = "did the host go down or reboot? run the command again when it is back"
    return UnreachableError(f"{host}: the SSH connection was lost while {doing}", hint=hint)


def shown(command: str) -> str:
    """A command for people: its first line, shortened to 100 characters."""
    first, _, rest = command.strip().partition("\n")
    return first[:100] + (" …" if rest or len(first) > 100 else "")
