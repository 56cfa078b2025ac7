"""Connecting to a real SSH server: every way to fail has its own message, and none connects to the wrong host."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from ssh_server import SshServer

from provisioner.errors import UnreachableError, UsageError
from provisioner.fleet.models import Host, Ssh
from provisioner.hosts.dial import dial
from provisioner.hosts.endpoint import Endpoint, resolve
from provisioner.hosts.known_hosts import fingerprint
from provisioner.hosts.ssh import SshTransport, connect

needs_openssh = pytest.mark.skipif(not shutil.which("ssh"), reason="there is no OpenSSH client on this machine")


def refusal(endpoint: Endpoint) -> str:
    with pytest.raises(UnreachableError) as caught:
        dial(endpoint, Ssh())
    return str(caught.value)


def whoami(endpoint: Endpoint) -> str:
    transport = SshTransport("gpu-01", dial(endpoint, Ssh()))
    with contextlib.closing(transport):
        return transport.run("echo in", timeout_s=5).stdout


def other_key(path: Path) -> Path:
    paramiko.ECDSAKey.generate().write_private_key_file(str(path))
    return path


def test_known_host_and_key(endpoint: Endpoint) -> None:
    assert whoami(endpoint) == "in\n"


def test_unknown_host_key(server: SshServer, endpoint: Endpoint) -> None:
    assert refusal(replace(endpoint, known_hosts=())).startswith(
        f"gpu-01: the host key {fingerprint(server.host_key.asbytes())} (ecdsa-sha2-nistp256) "
        f"of 127.0.0.1:{server.port} is not known\n"
    )
    assert server.attempts == []  # no key is shown to a host that may be another


def test_new_host_key_accepted_once(server: SshServer, endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "new" / "known_hosts"
    endpoint = replace(endpoint, known_hosts=(file,), strict="accept-new")
    assert whoami(endpoint) == "in\n"
    assert file.read_text() == server.known_hosts_line()
    assert whoami(replace(endpoint, strict="yes")) == "in\n"


@pytest.mark.parametrize("strict", ["yes", "accept-new", "no"])
def test_changed_host_key(server: SshServer, endpoint: Endpoint, strict: str) -> None:
    key = paramiko.ECDSAKey.generate()
    endpoint.known_hosts[0].write_text(f"[127.0.0.1]:{server.port} {key.get_name()} {key.get_base64()}\n")
    said = refusal(replace(endpoint, strict=strict))  # type: ignore[arg-type]  # a parameter of the test
    assert said.startswith(f"gpu-01: the host key of 127.0.0.1:{server.port} has changed: it presents SHA256:")
    assert "someone may be in the middle" in said
    assert server.attempts == []


def test_key_that_the_host_does_not_know(server: SshServer, endpoint: Endpoint, tmp_path: Path) -> None:
    mine = other_key(tmp_path / "id_other")
    broken = tmp_path / "id_broken"
    broken.write_text("no key\n")
    said = refusal(replace(endpoint, identity_files=(mine, broken, tmp_path / "id_none")))
    assert said.startswith(
        f"gpu-01: 127.0.0.1:{server.port} does not let ops in: tried {mine}; {broken} cannot be read: "
    )
    assert said.endswith(
        "\n  hint: is the user right, and is one of the keys in ~ops/.ssh/authorized_keys on the host? "
        "set user or identity_file of gpu-01 in the fleet file or the SSH configuration"
    )


def test_wrong_user(server: SshServer, endpoint: Endpoint) -> None:
    assert f"127.0.0.1:{server.port} does not let root in: tried {endpoint.identity_files[0]}" in refusal(
        replace(endpoint, user="root")
    )


def test_no_key_at_all(endpoint: Endpoint) -> None:
    assert "does not let ops in: there was no key to try\n" in refusal(replace(endpoint, identity_files=()))


def test_key_with_a_passphrase(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "id_locked"
    paramiko.ECDSAKey.generate().write_private_key_file(str(path), password="secret phrase")
    said = refusal(replace(endpoint, identity_files=(path,)))
    assert f"there was no key to try; {path} needs its passphrase: add it to an agent with ssh-add\n" in said


def test_agent_that_is_gone(endpoint: Endpoint, tmp_path: Path) -> None:
    said = refusal(replace(endpoint, identity_files=(), agent=str(tmp_path / "agent")))
    assert f"there was no key to try; the agent at {tmp_path}/agent does not answer: " in said


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="there is no ssh-agent on this machine")
def test_key_of_an_agent(endpoint: Endpoint, client_key: Path, tmp_path: Path) -> None:
    place = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 5
        while not place.exists() and time.monotonic() < end:
            time.sleep(0.02)
        subprocess.run(
            ["ssh-add", "-q", str(client_key)], env={"SSH_AUTH_SOCK": str(place), "PATH": "/usr/bin"}, check=True
        )
        assert whoami(replace(endpoint, identity_files=(), agent=str(place))) == "in\n"
        assert "there was no key to try" in refusal(
            replace(endpoint, identity_files=(), agent=str(place), identities_only=True)
        )
    finally:
        agent.terminate()
        agent.wait(timeout=5)


def test_nothing_listens(endpoint: Endpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert refusal(replace(endpoint, port=port)) == (
        f"gpu-01: 127.0.0.1:{port} refuses the connection\n  hint: is the SSH server running there, and on this port?"
    )


def test_name_that_is_none(endpoint: Endpoint) -> None:
    said = refusal(replace(endpoint, hostname="gpu..example"))
    assert said.startswith("gpu-01: the name gpu..example does not resolve (")
    assert said.endswith("set the address of gpu-01 in the fleet file or HostName in the SSH configuration")


@pytest.fixture
def mute() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_something_else_listens(endpoint: Endpoint, mute: int) -> None:
    start = time.monotonic()
    said = refusal(replace(endpoint, port=mute, timeout_s=0.5))
    assert said.startswith(f"gpu-01: 127.0.0.1:{mute} does not answer as an SSH server: ")
    assert said.endswith("\n  hint: does `ssh gpu-01` work?")
    assert time.monotonic() - start < 5


def test_full_queue_is_no_answer_in_time(endpoint: Endpoint) -> None:
    """A listener that accepts nothing and whose queue is full behaves like a host that drops packets."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as held:
        port = server.getsockname()[1]
        for _ in range(8):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        said = refusal(replace(endpoint, port=port, timeout_s=0.5))
    assert said == (
        f"gpu-01: 127.0.0.1:{port} does not answer within 0.5 s\n"
        "  hint: is the host up, is the address right, does a firewall drop the packets?"
    )


RELAY = """
import os, select, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    ready, _, _ = select.select([0, s], [], [])
    data = os.read(0, 65536) if 0 in ready else s.recv(65536)
    if not data:
        break
    s.sendall(data) if 0 in ready else os.write(1, data)
"""


def test_proxy_command(endpoint: Endpoint, tmp_path: Path) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(RELAY)
    assert whoami(replace(endpoint, proxy_command=f"{sys.executable} {relay} %h %p")) == "in\n"


def test_proxy_command_that_fails(endpoint: Endpoint) -> None:
    said = refusal(replace(endpoint, proxy_command="sh -c 'exit 7' %h"))
    assert "does not answer as an SSH server" in said
    assert "exit 7" in said


@pytest.fixture
def config(server: SshServer, endpoint: Endpoint, client_key: Path, tmp_path: Path) -> Path:
    """A configuration that needs Include and a pattern to be understood."""
    (tmp_path / "more").write_text(
        f"Host *-01 gate\n  HostName 127.0.0.1\n  Port {server.port}\n  User ops\n  IdentityFile {client_key}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {endpoint.known_hosts[0]}\n  GlobalKnownHostsFile /dev/null\n"
    )
    path = tmp_path / "config"
    path.write_text(f"Include {tmp_path}/more\nHost inner-01\n  ProxyJump gate\n")
    return path


@needs_openssh
@pytest.mark.parametrize("name", ["gpu-01", "inner-01"])
def test_ssh_configuration(config: Path, server: SshServer, name: str) -> None:
    with contextlib.closing(connect(Host(name=name), Ssh(config=config))) as transport:
        assert transport.run("echo in", timeout_s=5).stdout == "in\n"
    assert len(server.attempts) == (2 if name == "inner-01" else 1)


@needs_openssh
def test_jump_host_that_refuses(config: Path) -> None:
    config.write_text(f"Host gate\n  User nobody\nHost *\n{config.read_text()}")
    with pytest.raises(
        UnreachableError, match=r"^inner-01: by way of its jump host: gate: 127.0.0.1:\d+ does not let nobody"
    ):
        connect(Host(name="inner-01"), Ssh(config=config))


@needs_openssh
def test_configuration_that_openssh_rejects(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host gpu-01\n  Prot 22\n")
    with pytest.raises(
        UsageError, match=r"^gpu-01: OpenSSH rejects the SSH configuration: .*line 2: Bad configuration"
    ):
        resolve(Host(name="gpu-01"), Ssh(config=config))
