"""Files on their way to a host: the host is this machine's own shell in a folder."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from provisioner.errors import HostError, UnreachableError
from provisioner.hosts.fake import ConnectionDies, FakeTransport
from provisioner.hosts.transport import Result
from provisioner.plan.bundle import ON_HOST, Blob
from provisioner.rollout import sending
from provisioner.rollout.sending import clear, send


class Host:
    """Runs what it is told, in its own folder and without sudo. `dies_after`: commands until it is lost."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.dies_after, self.free_kib = folder / "host", 1000, 10**9
        self.ran: list[str] = []

    def transport(self) -> FakeTransport:
        return FakeTransport("gpu-01", [("", self.run)])

    def run(self, command: str, stdin: bytes) -> Result | ConnectionDies:
        assert command.startswith("sudo -n /bin/sh -c ")
        self.ran.append(command)
        if len(self.ran) > self.dies_after:
            return ConnectionDies()
        if "df -Pk" in command:
            return Result(0, f"/dev/sda 1 1 {self.free_kib} 1% /\n", "")
        script = command.removeprefix("sudo -n ").replace(str(ON_HOST), str(self.folder))
        done = subprocess.run(["/bin/sh", "-c", script], input=stdin, capture_output=True, check=False)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(sending, "PIECE", 1000)
    monkeypatch.setattr(sending, "_SMALL", 100)
    return Host(tmp_path)


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, list[Blob]]:
    """Two small files, one with a space in its name, and one of several pieces."""
    folder = tmp_path / "bundle"
    blobs = []
    for path, content in (
        ("images/a.tar", b"0123456789" * 350),
        ("models/m/a b.json", b"{}"),
        ("packages/p/x", b"x" * 90),
    ):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(content)
        blobs.append(Blob(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    return folder, blobs


def same(host: Host, bundle: tuple[Path, list[Blob]]) -> bool:
    return all((host.folder / one.path).read_bytes() == (bundle[0] / one.path).read_bytes() for one in bundle[1])


def pieces(host: Host) -> int:
    return sum("cat >>" in command for command in host.ran)


def test_files_arrive_and_are_checked(host: Host, bundle: tuple[Path, list[Blob]]) -> None:
    said: list[str] = []
    send(host.transport(), *bundle, said.append)
    assert same(host, bundle)
    assert pieces(host) == 4
    assert said[-1] == "checking what arrived"
    assert re.fullmatch(r"0\.0 of 0\.0 GiB sent", said[0])


def test_what_is_there_is_not_sent_again(host: Host, bundle: tuple[Path, list[Blob]]) -> None:
    send(host.transport(), *bundle, lambda _: None)
    host.ran.clear()
    send(host.transport(), *bundle, lambda _: None)
    assert pieces(host) == 0
    assert not any("tar -xf" in command for command in host.ran)


def test_a_broken_connection_costs_a_piece(host: Host, bundle: tuple[Path, list[Blob]]) -> None:
    host.dies_after = 5  # sizes, room, the small files, two pieces
    with pytest.raises(UnreachableError):
        send(host.transport(), *bundle, lambda _: None)
    host.dies_after = 1000
    with (host.folder / "images/a.tar").open("ab") as half:  # half of the third one had arrived
        half.write(b"01234")
    host.ran.clear()
    send(host.transport(), *bundle, lambda _: None)
    assert same(host, bundle)
    assert pieces(host) == 2


@pytest.mark.parametrize("there", [b"x" * 3500, b"x" * 4000, b"x" * 10])
def test_what_is_another_file_is_sent_anew(host: Host, bundle: tuple[Path, list[Blob]], there: bytes) -> None:
    (host.folder / "images").mkdir(parents=True)
    (host.folder / "images/a.tar").write_bytes(there)
    if len(there) <= 3500:  # its size is no reason to doubt it, its hash is
        with pytest.raises(HostError) as raised:
            send(host.transport(), *bundle, lambda _: None)
        assert str(raised.value) == (
            "gpu-01: did not arrive as they were sent: images/a.tar\n  hint: run the command again: they are sent anew"
        )
    send(host.transport(), *bundle, lambda _: None)
    assert same(host, bundle)


def test_a_disk_that_is_too_small(host: Host, bundle: tuple[Path, list[Blob]]) -> None:
    host.free_kib = 3
    with pytest.raises(HostError) as raised:
        send(host.transport(), *bundle, lambda _: None)
    assert str(raised.value) == (
        "gpu-01: 0.0 GiB are free under /var/lib/vllm/bundle, 0.0 GiB of the bundle are to be sent\n"
        "  hint: free some and run again"
    )
    assert not any("cat >>" in command for command in host.ran)


def test_nothing_to_send(host: Host) -> None:
    send(host.transport(), Path("/nowhere"), [], lambda _: None)
    assert host.ran == []


def test_nothing_is_left(host: Host, bundle: tuple[Path, list[Blob]]) -> None:
    send(host.transport(), *bundle, lambda _: None)
    clear(host.transport())
    assert not host.folder.exists()
