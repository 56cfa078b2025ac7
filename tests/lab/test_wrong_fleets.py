"""Wrong fleet files: every problem with its line, exit 2, and nobody is contacted. Needs no lab."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest
from support import PROVISION, run

FLEET = """\
hosts:
  a: {{address: 127.0.0.1, port: {port}, user: nobody}}
  b: {{address: localhost, port: {port}, user: nobody}}
servers:
  nemotron:
    recipe: nemotron-3-nano
    port: 8000
"""


@dataclass
class Listener:
    """A TCP port that counts who connects."""

    socket: socket.socket
    callers: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def accept(self) -> None:
        while True:
            try:
                caller, address = self.socket.accept()
            except OSError:  # closed: the test is over
                return
            self.callers.append(str(address))
            caller.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard = Listener(server)
        thread = Thread(target=heard.accept, daemon=True)
        thread.start()
        yield heard
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not thread.is_alive()


def test_the_listener_would_notice(listener: Listener, tmp_path: Path) -> None:
    """A right fleet does contact its hosts: the tests below could fail."""
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET.format(port=listener.port))
    done = run([str(PROVISION), "plan", str(fleet)])
    assert done.rc == 4, str(done)
    assert len(listener.callers) >= 2


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("    port: 8000", "    prot: 8000", 7, ["prot", "port"]),
        ("    port: 8000", "    port: 80000", 7, ["port", "65535"]),
        ("  b: {", "  a: {", 3, ["a"]),
        ("nemotron-3-nano", "nemotron-4-nano", 6, ["nemotron-4-nano", "nemotron-3-nano"]),
        ("    port: 8000", "    hosts: [c]", 7, ["c"]),
        ("    port: 8000", "    api_key: hunter2", 7, ["api_key", "env:NAME"]),
    ],
    ids=["unknown key", "bad port", "duplicate host", "unknown recipe", "unknown host", "secret in the file"],
)
def test_a_wrong_fleet_is_refused(
    listener: Listener, tmp_path: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    text = FLEET.format(port=listener.port)
    assert old in text
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(text.replace(old, new))
    done = run([str(PROVISION), str(fleet), "--yes"])
    assert done.rc == 2, str(done)
    assert f"{fleet}:{line}:" in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.text
    assert not listener.callers


def test_every_problem_at_once(listener: Listener, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET.format(port=listener.port).replace("port: 8000", "port: 0\n    bogus: 1"))
    done = run([str(PROVISION), str(fleet), "--yes"])
    assert done.rc == 2, str(done)
    assert f"{fleet}:7:" in done.stderr
    assert f"{fleet}:8:" in done.stderr
    assert not listener.callers


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-file.yaml"], "no-such-file.yaml"),
        (["FLEET", "--hosts", "c"], "c"),
        (["FLEET", "--strategy", "sideways"], "sideways"),
        (["FLEET", "--bogus"], "--bogus"),
    ],
)
def test_wrong_usage(listener: Listener, tmp_path: Path, words: list[str], said: str) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET.format(port=listener.port))
    done = run([str(PROVISION), *(str(fleet) if word == "FLEET" else word for word in words)])
    assert done.rc == 2, str(done)
    assert said in done.stderr
    assert "Traceback" not in done.text
    assert not listener.callers
