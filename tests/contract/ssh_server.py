"""A real SSH server on this machine's loopback, in this process: runs commands with sh and forwards connections."""

# signatures of paramiko

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType

import paramiko


class SshServer:
    """Listens until it is left. `authorized`: the keys it takes."""

    def __init__(self, authorized: list[paramiko.PKey], *, forwarding: bool = True) -> None:
        self.host_key = paramiko.ECDSAKey.generate()
        self.authorized = authorized
        self.forwarding = forwarding
        self.attempts: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sessions: list[paramiko.Transport] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def known_hosts_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.host_key.get_name()} {self.host_key.get_base64()}\n"

    def drop(self) -> None:
        """Cut all connections without a word."""
        for session in self._sessions:
            session.close()

    def __enter__(self) -> SshServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(timeout=10)
            assert not thread.is_alive(), "a thread of the SSH server does not end"

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            session = paramiko.Transport(connection)
            session.add_server_key(self.host_key)
            self._sessions.append(session)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                session.start_server(event=threading.Event(), server=_Session(self))

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        if command == "die":
            self.drop()
            return
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._start(lambda: _feed(channel, process))
        outputs = {process.stdout.fileno(): channel.sendall, process.stderr.fileno(): channel.sendall_stderr}
        while outputs and not channel.closed:
            for number in select.select(list(outputs), [], [], 0.1)[0]:
                data = os.read(number, 65536)
                try:
                    outputs[number](data)
                except OSError:  # the client is gone
                    data = b""
                if not data:
                    del outputs[number]
        if channel.closed:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait(timeout=10)
        process.stdout.close()
        process.stderr.close()
        with contextlib.suppress(OSError, EOFError):
            if status >= 0:  # a signal has no exit status
                channel.send_exit_status(status)
            channel.close()

    def _forward(self, session: paramiko.Transport, target: socket.socket, number: int) -> None:
        # Channels of commands wait there to be accepted, too, and nobody does.
        channel = session.accept(timeout=10)
        while channel is not None and channel.get_id() != number:
            channel = session.accept(timeout=10)
        with target:
            if channel is None:
                return
            with contextlib.suppress(OSError, EOFError):
                while True:
                    ready, _, _ = select.select([channel, target], [], [], 1)
                    if channel.closed or not session.is_active():
                        return
                    if channel in ready:
                        data = channel.recv(65536)
                        if not data:
                            return
                        target.sendall(data)
                    if target in ready:
                        data = target.recv(65536)
                        if not data:
                            channel.close()
                            return
                        channel.sendall(data)


class _Session(paramiko.ServerInterface):
    def __init__(self, server: SshServer) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._server.attempts.append(f"{username} {key.get_base64()[-12:]}")
        known = username == "ops" and key in self._server.authorized
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server._start(lambda: self._server._run(channel, command.decode()))
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if not self._server.forwarding:
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            target = socket.create_connection(destination, timeout=5)
        except OSError:
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        session = next(one for one in self._server._sessions if one.is_active() and one.server_object is self)
        self._server._start(lambda: self._server._forward(session, target, chanid))
        return paramiko.OPEN_SUCCEEDED


def _feed(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError, ValueError), process.stdin:
        while data := channel.recv(65536):
            process.stdin.write(data)
            process.stdin.flush()
