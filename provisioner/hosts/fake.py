"""A transport without a network, for tests: scripted answers, files in memory, and all that was asked kept."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from provisioner.errors import HostError, UnreachableError
from provisioner.hosts import transport
from provisioner.hosts.transport import Result


@dataclass(frozen=True)
class Hangs:
    """An answer: the command does not end in time. What it had said by then."""

    said: str = ""


@dataclass(frozen=True)
class ConnectionDies:
    """An answer: the connection is lost while the command runs; so is everything after it."""


Answer = Result | str | Hangs | ConnectionDies | UnreachableError | HostError
Scripted = Answer | Callable[[str, bytes], Answer]
"""A str is the stdout of a success; a function gets command and stdin."""


@dataclass(frozen=True)
class Ran:
    """One command, as it was given."""

    command: str
    stdin: bytes
    timeout_s: float


class FakeTransport:
    """A `Transport` that answers from a list of (pattern, answer).

    The first pattern found in the command (`re.search`) answers, as often as it is asked; a list of answers is used
    up in turn. A command that no pattern knows fails the test with AssertionError, as does a list that is used up.
    """

    def __init__(
        self,
        host: str = "gpu-01",
        answers: Iterable[tuple[str, Scripted | list[Scripted]]] = (),
        *,
        files: dict[str, bytes] | None = None,
        tcp: dict[tuple[str, int], Callable[[bytes], bytes]] | None = None,
    ) -> None:
        """`tcp`: by address, what answers: a function of all bytes sent so far → bytes to send (b"" for not yet)."""
        self.host = host
        self.files = dict(files or {})
        self.modes: dict[str, int] = {}
        self.ran: list[Ran] = []
        self.closed = False
        self._answers = [(pattern, deque(one) if isinstance(one, list) else one) for pattern, one in answers]
        self._tcp = dict(tcp or {})

    @property
    def commands(self) -> list[str]:
        """What was run, in order."""
        return [ran.command for ran in self.ran]

    def run(
        self,
        command: str,
        *,
        stdin: bytes | str | None = None,
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        """See `Transport.run`."""
        self._must_be_open(f"running `{transport.shown(command)}`")
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        self.ran.append(Ran(command, data, timeout_s))
        answer = self._answer(command, data)
        if isinstance(answer, Hangs):
            _tell(answer.said, on_line)
            raise transport.timed_out(self.host, command, timeout_s, answer.said)
        if isinstance(answer, ConnectionDies):
            self.closed = True
            raise transport.lost(self.host, f"running `{transport.shown(command)}`")
        if isinstance(answer, Exception):
            raise answer
        result = Result(0, answer, "") if isinstance(answer, str) else answer
        _tell(result.stdout, on_line)
        _tell(result.stderr, on_line)
        return result

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """See `Transport.put`."""
        self._must_be_open(f"writing {path}")
        self.files[path], self.modes[path] = content, mode

    def get(self, path: str) -> bytes:
        """See `Transport.get`."""
        self._must_be_open(f"reading {path}")
        if path not in self.files:
            raise HostError(f"{self.host}: cannot read {path}: cat: {path}: No such file or directory")
        return self.files[path]

    def open_tcp(self, host: str, port: int, timeout_s: float) -> FakeChannel:
        """See `Transport.open_tcp`."""
        self._must_be_open(f"connecting to {host}:{port}")
        if (host, port) not in self._tcp:
            raise ConnectionRefusedError(f"{self.host}: {host}:{port}: Connection refused")
        return FakeChannel(self._tcp[host, port], timeout_s)

    def close(self) -> None:
        """See `Transport.close`."""
        self.closed = True

    def _must_be_open(self, doing: str) -> None:
        if self.closed:
            raise transport.lost(self.host, doing)

    def _answer(self, command: str, stdin: bytes) -> Answer:
        for pattern, scripted in self._answers:
            if not re.search(pattern, command):
                continue
            if isinstance(scripted, deque):
                if not scripted:
                    raise AssertionError(f"no answer is left for {command!r} ({pattern})")
                scripted = scripted.popleft()
            return scripted(command, stdin) if callable(scripted) else scripted
        raise AssertionError(f"no answer is scripted for {command!r}")


class FakeChannel:
    """The near end of a connection to a function."""

    def __init__(self, answer: Callable[[bytes], bytes], timeout_s: float | None) -> None:
        self._answer = answer
        self._timeout_s = timeout_s
        self._sent = b""
        self._incoming = b""
        self._closed = False

    def sendall(self, data: bytes, /) -> None:
        if self._closed:
            raise OSError("Socket is closed")
        self._sent += data
        self._incoming += self._answer(self._sent)

    def recv(self, nbytes: int, /) -> bytes:
        """b"" once all that was answered is read: the far end closes after its answer."""
        data, self._incoming = self._incoming[:nbytes], self._incoming[nbytes:]
        return b"" if self._closed else data

    def settimeout(self, timeout: float | None, /) -> None:
        self._timeout_s = timeout

    def close(self) -> None:
        self._closed = True


def _tell(words: str, on_line: Callable[[str], None] | None) -> None:
    lines = words.split("\n")
    for line in lines if lines[-1] else lines[:-1]:
        if on_line is not None:
            on_line(line.rstrip("\r"))
