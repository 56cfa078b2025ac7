"""The real transport: one SSH connection, many channels. paramiko is imported when a host is connected to."""

from __future__ import annotations

import codecs
import secrets
import select
import shlex
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from provisioner.errors import HostError
from provisioner.fleet.models import Host, Ssh
from provisioner.hosts import transport
from provisioner.hosts.dial import Connection, dial
from provisioner.hosts.endpoint import resolve
from provisioner.hosts.transport import Channel, Result

if TYPE_CHECKING:
    import paramiko

FILE_TIMEOUT_S = 120.0
_CHUNK = 32768
_NO_STATUS = 255
"""the exit status that OpenSSH's client gives to a command that a signal ended"""


def connect(host: Host, ssh: Ssh) -> SshTransport:
    """Connect to a host as the fleet file and the SSH configuration say; host keys are checked.

    Raises UnreachableError (name, refused, time, host key, login: each says what to do) and UsageError for an SSH
    configuration that OpenSSH rejects.
    """
    return SshTransport(host.name, dial(resolve(host, ssh), ssh))


class SshTransport:
    """A `Transport` over SSH. Safe to use from several threads."""

    def __init__(self, host: str, connection: Connection) -> None:
        self.host = host
        self._connection = connection

    def run(
        self,
        command: str,
        *,
        stdin: bytes | str | None = None,
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        """See `Transport.run`. A command that is late loses its channel; a host-side program may outlive that."""
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        rc, out, err = self._run(command, data, timeout_s, on_line)
        return Result(rc, out.decode(errors="replace"), err.decode(errors="replace"))

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """See `Transport.put`."""
        final, fresh = shlex.quote(path), shlex.quote(f"{path}.{secrets.token_hex(4)}")
        steps = f"umask 077 && cat > {fresh} && chmod {mode:o} {fresh} && mv -f {fresh} {final}"
        script = f"{{ {steps}; }} || {{ rm -f {fresh}; exit 1; }}"
        rc, _, err = self._run(f"exec /bin/sh -c {shlex.quote(script)}", content, FILE_TIMEOUT_S, None)
        if rc != 0:
            raise HostError(f"{self.host}: cannot write {path}: {_last(err)}")

    def get(self, path: str) -> bytes:
        """See `Transport.get`."""
        rc, out, err = self._run(f"cat -- {shlex.quote(path)}", b"", FILE_TIMEOUT_S, None)
        if rc != 0:
            raise HostError(f"{self.host}: cannot read {path}: {_last(err)}")
        return out

    def open_tcp(self, host: str, port: int, timeout_s: float) -> Channel:
        """See `Transport.open_tcp`."""
        import paramiko

        session = self._connection.transport
        try:
            return session.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout_s)
        except paramiko.ChannelException as error:
            if error.code == _PROHIBITED:
                hint = "allow it: AllowTcpForwarding yes (or local) in the host's sshd_config"
                raise HostError(f"{self.host}: its SSH server forwards no connections", hint=hint) from error
            raise ConnectionRefusedError(f"{self.host}: {host}:{port}: {error.text}") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if session.is_active():
                raise TimeoutError(f"{self.host}: {host}:{port} does not answer within {timeout_s:g} s") from error
            raise transport.lost(self.host, f"connecting to {host}:{port}") from error

    def close(self) -> None:
        """See `Transport.close`."""
        self._connection.close()

    def _run(
        self, command: str, data: bytes, timeout_s: float, on_line: Callable[[str], None] | None
    ) -> tuple[int, bytes, bytes]:
        import paramiko

        streams = _Streams(on_line)
        end = time.monotonic() + timeout_s
        session = self._connection.transport
        try:
            channel = session.open_session(timeout=timeout_s)
            # Closing the channel ends every wait of paramiko, also those that know no time limit.
            timer = threading.Timer(max(0.0, end - time.monotonic()), channel.close)
            timer.daemon = True
            timer.start()
            try:
                channel.exec_command(command)
                _pump(channel, data, streams)
            finally:
                timer.cancel()
                channel.close()
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not session.is_active():
                raise self._lost(command) from error
            if time.monotonic() >= end:
                raise transport.timed_out(self.host, command, timeout_s, streams.said()) from error
            raise HostError(f"{self.host}: the SSH server refuses to run a command: {error}") from error
        if channel.exit_status < 0 and time.monotonic() >= end:
            raise transport.timed_out(self.host, command, timeout_s, streams.said())
        if channel.exit_status < 0 and not session.is_active():
            raise self._lost(command)
        streams.finish()
        return (channel.exit_status if channel.exit_status >= 0 else _NO_STATUS), bytes(streams.out), bytes(streams.err)

    def _lost(self, command: str) -> Exception:
        return transport.lost(self.host, f"running `{transport.shown(command)}`")


_PROHIBITED = 1
"""SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254"""


class _Streams:
    """What a command says, kept whole and told line by line."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.out, self.err = bytearray(), bytearray()
        self._on_line = on_line
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = (decoder(errors="replace"), decoder(errors="replace"))
        self._rests = ["", ""]

    def take(self, which: int, data: bytes) -> None:
        (self.out, self.err)[which].extend(data)
        if self._on_line is None:
            return
        *lines, self._rests[which] = (self._rests[which] + self._decoders[which].decode(data)).split("\n")
        for line in lines:
            self._on_line(line.rstrip("\r"))

    def finish(self) -> None:
        """A last line may lack its end."""
        for rest in self._rests:
            if rest and self._on_line is not None:
                self._on_line(rest)

    def said(self) -> str:
        return (bytes(self.out) + bytes(self.err)).decode(errors="replace")


def _pump(channel: paramiko.Channel, data: bytes, streams: _Streams) -> None:
    """Move data both ways until the command has ended or the channel is closed under us."""
    pending = memoryview(data)
    if not pending:
        channel.shutdown_write()
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        read = _read(channel, streams)
        if pending and channel.send_ready():
            pending = pending[_send(channel, pending) :]
            if not pending and not channel.closed:
                channel.shutdown_write()
            continue
        if read:
            continue
        if channel.closed:
            _read(channel, streams)
            return
        if channel.eof_received:
            # The end of output comes before the exit status. Both end the wait: the status or the channel's end.
            channel.status_event.wait()
            if not channel.recv_ready() and not channel.recv_stderr_ready():
                return
            continue
        poll.poll(20 if pending else 1000)


def _read(channel: paramiko.Channel, streams: _Streams) -> bool:
    read = False
    if channel.recv_ready():
        streams.take(0, channel.recv(_CHUNK))
        read = True
    if channel.recv_stderr_ready():
        streams.take(1, channel.recv_stderr(_CHUNK))
        read = True
    return read


def _send(channel: paramiko.Channel, pending: memoryview) -> int:
    """How much was sent; all of it where the command has closed its stdin: it does not want the rest."""
    try:
        return channel.send(bytes(pending[:_CHUNK])) or len(pending)
    except OSError:
        return len(pending)


def _last(words: bytes) -> str:
    lines = [line for line in words.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
