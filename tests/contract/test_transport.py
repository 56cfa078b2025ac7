"""What `Transport` promises, held by the real one (against a real SSH server) and by the fake alike."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_server import SshServer

from provisioner.errors import HostError, UnreachableError
from provisioner.fleet.models import Ssh
from provisioner.hosts.dial import dial
from provisioner.hosts.endpoint import Endpoint
from provisioner.hosts.fake import ConnectionDies, FakeTransport, Hangs
from provisioner.hosts.ssh import SshTransport
from provisioner.hosts.transport import Result, Transport

BIG = b"x" * 3_000_000
ECHO = ("127.0.0.1", 1)
"""of the fake; the real one listens where it can"""


@pytest.fixture(params=["ssh", "fake"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    opened: Transport
    if request.param == "ssh":
        opened = SshTransport("gpu-01", dial(request.getfixturevalue("endpoint"), Ssh()))
    else:
        opened = FakeTransport(
            "gpu-01",
            [
                ("^echo hello$", "hello\n"),
                ("exit 3", Result(3, "out\n", "err\n")),
                ("^cat$", lambda _command, stdin: stdin.decode()),
                ("^wc -c$", lambda _command, stdin: f"{len(stdin)}\n"),
                ("^true$", ""),
                ("^printf 'a", "a\n\nb\nend"),
                (r"^printf '\\377", "\ufffd"),
                ("^echo started", Hangs("started\n")),
                ("^die$", ConnectionDies()),
            ],
            tcp={ECHO: lambda sent: sent.upper()},
        )
    yield opened
    opened.close()


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    """Answers once, in capitals, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()
        thread.join(timeout=5)


def test_output_of_a_command(transport: Transport) -> None:
    assert transport.run("echo hello", timeout_s=5) == Result(0, "hello\n", "")


def test_failing_command_is_a_result(transport: Transport) -> None:
    assert transport.run("echo out; echo err >&2; exit 3", timeout_s=5) == Result(3, "out\n", "err\n")


def test_stdin_text_and_bytes(transport: Transport) -> None:
    assert transport.run("cat", stdin="é\n", timeout_s=5).stdout == "é\n"
    assert transport.run("cat", stdin=b"b", timeout_s=5).stdout == "b"


def test_no_stdin_is_an_empty_one(transport: Transport) -> None:
    assert transport.run("cat", timeout_s=5) == Result(0, "", "")


def test_much_stdin(transport: Transport) -> None:
    assert transport.run("wc -c", stdin=BIG, timeout_s=30).stdout.strip() == str(len(BIG))


def test_much_output(transport: Transport) -> None:
    assert transport.run("cat", stdin=BIG, timeout_s=30).stdout == BIG.decode()


def test_stdin_that_nobody_reads(transport: Transport) -> None:
    assert transport.run("true", stdin=BIG, timeout_s=30).rc == 0


def test_lines_as_they_come(transport: Transport) -> None:
    lines: list[str] = []
    result = transport.run(r"printf 'a\n\nb\nend'", timeout_s=5, on_line=lines.append)
    assert lines == ["a", "", "b", "end"]
    assert result.stdout == "a\n\nb\nend"


def test_output_that_is_no_text(transport: Transport) -> None:
    assert transport.run(r"printf '\377'", timeout_s=5).stdout == "\ufffd"


def test_command_that_does_not_end(transport: Transport) -> None:
    lines: list[str] = []
    start = time.monotonic()
    with pytest.raises(HostError) as caught:
        transport.run("echo started; sleep 60", timeout_s=0.5, on_line=lines.append)
    assert str(caught.value) == "gpu-01: `echo started; sleep 60` did not end within 0.5 s"
    assert caught.value.log == "started\n"
    assert lines == ["started"]
    assert time.monotonic() - start < 5
    assert transport.run("echo hello", timeout_s=5).stdout == "hello\n"


def test_connection_that_dies(transport: Transport) -> None:
    with pytest.raises(UnreachableError) as caught:
        transport.run("die", timeout_s=5)
    assert str(caught.value) == (
        "gpu-01: the SSH connection was lost while running `die`\n"
        "  hint: did the host go down or reboot? run the command again when it is back"
    )
    with pytest.raises(UnreachableError, match="lost while running `echo hello`"):
        transport.run("echo hello", timeout_s=5)


def test_closed_transport(transport: Transport) -> None:
    transport.close()
    transport.close()
    with pytest.raises(UnreachableError):
        transport.run("echo hello", timeout_s=5)
    with pytest.raises(UnreachableError):
        transport.open_tcp(*ECHO, timeout_s=5)
    with pytest.raises(UnreachableError):
        transport.get("/etc/hostname")


def test_file_there_and_back(transport: Transport, tmp_path: Path) -> None:
    path = str(tmp_path / "it's a file")
    transport.put(b"one\x00\xff", path)
    transport.put(b"two\x00\xff", path, mode=0o600)
    assert transport.get(path) == b"two\x00\xff"
    if isinstance(transport, FakeTransport):
        assert transport.modes[path] == 0o600
    else:
        assert [child.name for child in tmp_path.iterdir() if child.name.startswith("it")] == ["it's a file"]
        assert Path(path).stat().st_mode & 0o777 == 0o600


def test_file_that_is_not_there(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(HostError) as caught:
        transport.get(str(path))
    assert str(caught.value) == f"gpu-01: cannot read {path}: cat: {path}: No such file or directory"


def test_connection_from_the_host(transport: Transport, listener: tuple[str, int]) -> None:
    place = ECHO if isinstance(transport, FakeTransport) else listener
    channel = transport.open_tcp(*place, timeout_s=5)
    channel.settimeout(5)
    channel.sendall(b"hello")
    assert channel.recv(3) == b"HEL"
    assert channel.recv(100) == b"LO"
    assert channel.recv(100) == b""
    channel.close()
    if isinstance(transport, FakeTransport):
        socket.create_connection(listener).close()  # nobody else asks the listener


def test_nothing_listens_there(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=f"^gpu-01: 127.0.0.1:{port}: "):
        transport.open_tcp("127.0.0.1", port, timeout_s=5)


def test_file_that_cannot_be_written(endpoint: Endpoint, tmp_path: Path) -> None:
    transport = SshTransport("gpu-01", dial(endpoint, Ssh()))
    with pytest.raises(HostError, match=f"^gpu-01: cannot write {tmp_path}/no/file: .*(nonexistent|No such)"):
        transport.put(b"", f"{tmp_path}/no/file")
    transport.close()


def test_server_that_forwards_nothing(server: SshServer, endpoint: Endpoint) -> None:
    server.forwarding = False
    transport = SshTransport("gpu-01", dial(endpoint, Ssh()))
    with pytest.raises(HostError) as caught:
        transport.open_tcp("127.0.0.1", 1, timeout_s=5)
    assert str(caught.value) == (
        "gpu-01: its SSH server forwards no connections\n"
        "  hint: allow it: AllowTcpForwarding yes (or local) in the host's sshd_config"
    )
    transport.close()


def test_fake_fails_a_test_that_asks_what_nobody_scripted() -> None:
    fake = FakeTransport(answers=[("once", ["first"])])
    assert fake.run("once", timeout_s=1).stdout == "first"
    with pytest.raises(AssertionError, match="no answer is left for 'once'"):
        fake.run("once", timeout_s=1)
    with pytest.raises(AssertionError, match="no answer is scripted for 'other'"):
        fake.run("other", timeout_s=1)
    assert fake.commands == ["once", "once", "other"]
