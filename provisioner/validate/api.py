"""HTTP requests to a server on a host, through the SSH connection: no local port, no public one either."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from provisioner.fleet.base import Frozen
from provisioner.hosts.transport import Channel, Transport
from provisioner.plan.model import Server


class Answer(Frozen):
    """Status and body of one answer."""

    status: int
    text: str


def request(
    transport: Transport,
    server: Server,
    path: str,
    *,
    body: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    timeout_s: float,
) -> Answer:
    """One GET, or POST of a JSON body. OSError or HTTPException when there is no whole answer; `timeout_s` is how
    long the server may be silent."""
    with _exchange(transport, server, path, body, api_key, timeout_s) as response:
        return Answer(status=response.status, text=response.read().decode("utf-8", "replace"))


def stream(
    transport: Transport,
    server: Server,
    path: str,
    *,
    body: Mapping[str, Any],
    api_key: str | None = None,
    timeout_s: float,
) -> Iterator[str]:
    """The lines of a streamed answer as they come. Raises as `request` does, and `BadStatus` for all but 200."""
    with _exchange(transport, server, path, body, api_key, timeout_s) as response:
        if response.status != 200:
            raise BadStatus(Answer(status=response.status, text=response.read().decode("utf-8", "replace")))
        while line := response.readline():
            yield line.decode("utf-8", "replace").rstrip("\r\n")


class BadStatus(http.client.HTTPException):
    """A streamed request was answered with an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}: {answer.text[:300]}")
        self.answer = answer


def url(server: Server) -> str:
    """The server's base URL as seen from its host."""
    place = server.connect_to
    return f"http://[{place}]:{server.port}" if ":" in place else f"http://{place}:{server.port}"


def describe(server: Server, path: str, body: Mapping[str, Any] | None = None) -> str:
    """The request as people write it down; it never shows the API key."""
    line = f"{'GET' if body is None else 'POST'} {url(server)}{path}"
    return line if body is None else f"{line} {json.dumps(body, ensure_ascii=False)}"


@contextmanager
def _exchange(
    transport: Transport,
    server: Server,
    path: str,
    body: Mapping[str, Any] | None,
    api_key: str | None,
    timeout_s: float,
) -> Iterator[http.client.HTTPResponse]:
    connection = _Connection(transport, server.connect_to, server.port, timeout_s)
    headers = {"Accept": "application/json", "User-Agent": "provision"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    payload = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        payload = json.dumps(body).encode()
    try:
        connection.request("GET" if body is None else "POST", path, body=payload, headers=headers)
        yield connection.getresponse()
    finally:
        connection.hang_up()


class _Connection(http.client.HTTPConnection):
    """An HTTP connection whose socket is a channel of the SSH connection to the host."""

    def __init__(self, transport: Transport, host: str, port: int, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._transport = transport
        self._timeout_s = timeout_s
        self._channel: Channel | None = None

    def connect(self) -> None:
        self._channel = self._transport.open_tcp(self.host, self.port, timeout_s=self._timeout_s)
        self._channel.settimeout(self._timeout_s)
        self.sock = _Socket(self._channel)  # as much of a socket as http.client uses

    def hang_up(self) -> None:
        self.close()
        if self._channel is not None:
            self._channel.close()


class _Socket:
    """http.client closes its socket while an answer is still being read, and counts on the file made from it to keep
    the connection open. A channel closes at once, so it is closed by `hang_up` alone."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def sendall(self, data: bytes) -> None:
        self._channel.sendall(data)

    def makefile(self, *_args: Any, **_kwargs: Any) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._channel))

    def close(self) -> None:
        return None


class _Reader(io.RawIOBase):
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)
