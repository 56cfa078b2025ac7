"""Making hosts give, and ending it: the real script and program on this machine, stand-ins for sudo and systemd."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import builders
import pytest

from provisioner.errors import HostError, UnreachableError
from provisioner.fleet.models import Distribution, Fleet, Host, Weights
from provisioner.fleet.rollout import Rollout
from provisioner.history.events import Event
from provisioner.hosts import peer_script
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.peer_script import Source, tls
from provisioner.hosts.transport import Result
from provisioner.plan.facts import ImageFacts
from provisioner.plan.model import Change, Changes
from provisioner.rollout import sharing
from provisioner.rollout.connections import Connections
from provisioner.rollout.sharing import new_key, start, with_peers
from provisioner.rollout.survey import HostSurvey, Survey

SUDO = '#!/bin/sh\n[ "$1" = -n ] || exit 9\nshift\nexec env -u SSH_CONNECTION "$@"\n'
SYSTEMD_RUN = """#!/bin/sh
while [ "$1" != -- ]; do echo "$1" >> "$PLACE/unit"; shift; done
shift
"$@" > "$PLACE/journal" 2>&1 &
echo $! > "$PLACE/pid"
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$PLACE/systemctl"
pid=$(cat "$PLACE/pid" 2>/dev/null) || exit 3
case "$1" in
  is-active) kill -0 $pid 2>/dev/null && ! grep -q Error "$PLACE/journal" ;;
  stop) kill $pid 2>/dev/null; rm "$PLACE/pid" ;;
esac
"""
JOURNALCTL = '#!/bin/sh\ntail -1 "$PLACE/journal"\n'


class Machine:
    """A host in a folder. Its address is one of the loopback's own."""

    def __init__(self, folder: Path, name: str, address: str) -> None:
        self.folder, self.name, self.address = folder / name, name, address
        self.lost = False
        programs = {"sudo": SUDO, "systemd-run": SYSTEMD_RUN, "systemctl": SYSTEMCTL, "journalctl": JOURNALCTL}
        for program, text in programs.items():
            place = self.folder / "bin" / program
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            place.chmod(0o755)

    @property
    def home(self) -> Path:
        return self.folder / "run"

    def connect(self, _host: Host) -> FakeTransport:
        if self.lost:
            raise UnreachableError(f"{self.name}: no route")
        return FakeTransport(self.name, [("", self.run)])

    def run(self, command: str, stdin: bytes) -> Result:
        environment = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PLACE": str(self.folder),
            "SSH_CONNECTION": f"192.0.2.9 50000 {self.address} 22",
        }
        words = command.replace(sharing.HOME, str(self.home))
        done = subprocess.run(["/bin/sh", "-c", words], input=stdin, capture_output=True, env=environment, check=False)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def running(self) -> bool:
        return (self.folder / "pid").exists()

    def end(self) -> None:
        if self.running():
            os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Machine]]:
    found = {f"gpu-0{number}": Machine(tmp_path, f"gpu-0{number}", f"127.0.0.{number}") for number in (1, 2, 3)}
    text = peer_script.__loader__.get_data(peer_script.__file__).decode()  # type: ignore[attr-defined]

    def script() -> bytes:
        # the program finds its folder beside itself here: three hosts share one file system
        return text.replace('Path("/run/vllm-peers")', "Path(__file__).parent").encode()

    monkeypatch.setattr(sharing, "script", script)
    monkeypatch.setattr(peer_script, "PAUSE_S", 0.01)
    yield found
    for machine in found.values():
        machine.end()


def _port(tmp_path: Path) -> int:
    """Of a test: the same for all its hosts, which have addresses of their own, and another one for each test."""
    known = tmp_path / "port"
    if not known.exists():
        with socket.create_server(("127.0.0.1", 0)) as free:
            known.write_text(str(free.getsockname()[1]))
    return int(known.read_text())


def _fleet(tmp_path: Path) -> Fleet:
    return builders.fleet(
        hosts=("gpu-01", "gpu-02", "gpu-03"),
        distribution=Distribution(mode="peers", port=_port(tmp_path)),
        weights=Weights(cache_dir=str(tmp_path / "cache")),
    )


def _survey(fleet: Fleet, having: str = "") -> Survey:
    hosts = []
    for host in fleet.hosts:
        images = (ImageFacts(id="sha256:1", tags=("vllm/vllm-openai:v0.12.0",)),) if host.name == having else ()
        facts = builders.facts(host.name, images=images)
        changes = Changes(host=host.name, changes=(Change(role="vllm_image", subject="x", reason="not there"),))
        hosts.append(HostSurvey(host, facts=facts, plan=builders.plan(fleet, facts), changes=changes))
    return with_peers(Survey(fleet=fleet, hosts=tuple(hosts), secrets={}))


def test_a_host_gives_where_it_is_reached_to_who_has_the_key(machines: dict[str, Machine], tmp_path: Path) -> None:
    machine, key = machines["gpu-01"], new_key()
    address = start(machine.connect(Host(name="gpu-01")), _fleet(tmp_path), key, final=True, passes_on=False)
    assert address == f"127.0.0.1:{_port(tmp_path)}"
    assert sorted(path.name for path in machine.home.iterdir()) == ["config.json", "key.pem", "peer.py", "port"]
    assert {path.stat().st_mode & 0o777 for path in machine.home.iterdir() if path.name != "port"} == {0o600}
    assert machine.home.stat().st_mode & 0o777 == 0o700
    with pytest.raises(peer_script.LostError, match=r"does not have it$"):
        Source("gpu-01", address, tls(machine.home, server=False)).json("/weights?repo=a%2Fb&revision=main")
    unit = (machine.folder / "unit").read_text().splitlines()
    assert "--property=RuntimeDirectory=vllm-peers" in unit, "what goes with the unit"


def test_a_port_that_is_taken_is_said(machines: dict[str, Machine], tmp_path: Path) -> None:
    fleet, key = _fleet(tmp_path), new_key()
    start(machines["gpu-01"].connect(Host(name="gpu-01")), fleet, key, final=True, passes_on=False)
    machines["gpu-02"].address = machines["gpu-01"].address
    with pytest.raises(HostError, match=r"gpu-02: .*Address already in use"):
        start(machines["gpu-02"].connect(Host(name="gpu-02")), fleet, key, final=True, passes_on=False)


def test_everybody_gives_while_it_lasts_and_nobody_afterwards(machines: dict[str, Machine], tmp_path: Path) -> None:
    fleet = _fleet(tmp_path)
    survey = _survey(fleet, having="gpu-02")
    events: list[Event] = []
    connections = Connections(lambda host: machines[host.name].connect(host))
    with sharing.sharing(survey, connections, events.append) as shared:
        assert all(machine.running() for machine in machines.values())
        made = shared.variables()
        images = {name: told["vllm_image_list"][0]["peers"] for name, told in made.items()}
        assert images["gpu-01"] == images["gpu-03"] == [{"host": "gpu-02", "address": f"127.0.0.2:{_port(tmp_path)}"}]
        assert images["gpu-02"] == []
        passing = {
            name: json.loads((machine.home / "config.json").read_text())["passes_on"]
            for name, machine in machines.items()
        }
        assert passing == {"gpu-01": False, "gpu-02": True, "gpu-03": False}
        (models,) = made["gpu-03"]["model_weights_peers"].values()
        assert models == [{"host": "gpu-01", "address": f"127.0.0.1:{_port(tmp_path)}"}]
    assert not any(machine.running() or machine.home.exists() for machine in machines.values())
    assert events == []


def test_a_host_that_cannot_give_is_told_and_left_out(machines: dict[str, Machine], tmp_path: Path) -> None:
    machines["gpu-01"].lost = True
    events: list[Event] = []
    connections = Connections(lambda host: machines[host.name].connect(host))
    with sharing.sharing(_survey(_fleet(tmp_path)), connections, events.append) as shared:
        told = shared.variables()["gpu-02"]
        assert told["vllm_image_list"][0]["peers"] == []
    assert [(event.host, event.status, event.detail) for event in events] == [
        ("gpu-01", "skipped", "cannot give to other hosts: gpu-01: no route")
    ]


def test_who_waits_for_a_host_that_failed_is_told(machines: dict[str, Machine], tmp_path: Path) -> None:
    connections = Connections(lambda host: machines[host.name].connect(host))
    seen: list[Event] = []
    with sharing.sharing(_survey(_fleet(tmp_path)), connections, lambda _: None) as shared:
        take = shared.watched(seen.append)
        take(Event(host="gpu-02", phase="apply", task="x", status="ok"))
        take(Event(host="gpu-01", phase="apply", task="x", status="failed"))
        final = machines["gpu-01"].home / "final"
        end = time.monotonic() + 10
        while not final.exists():
            assert time.monotonic() < end, "waited 10 s for the word that nothing more comes"
            time.sleep(0.01)
        assert not (machines["gpu-02"].home / "final").exists()
    assert [event.status for event in seen] == ["ok", "failed"]


def test_nobody_gives_where_nobody_takes(machines: dict[str, Machine], tmp_path: Path) -> None:
    def never(_host: Host) -> Any:
        raise AssertionError

    survey = _survey(_fleet(tmp_path))
    alone = replace(survey, hosts=survey.hosts[:1])
    with sharing.sharing(alone, Connections(never), lambda _: None) as shared:
        assert shared.variables() == {}


def test_a_canary_gives_to_the_waves_after_it(tmp_path: Path) -> None:
    fleet = _fleet(tmp_path).model_copy(update={"rollout": Rollout(canary=("gpu-03",), batches=(1,))})
    seen = _survey(fleet)
    chains = {one.host.name: next(iter(one.given.images.values())) for one in seen.hosts if one.given}
    assert chains == {"gpu-01": ("gpu-03",), "gpu-02": ("gpu-03",)}


def test_without_the_word_everybody_fetches(tmp_path: Path) -> None:
    fleet = _fleet(tmp_path).model_copy(update={"distribution": Distribution()})
    assert [one.given for one in _survey(fleet).hosts] == [None, None, None]
    bundled = replace(_survey(fleet), fleet=_fleet(tmp_path), bundle=tmp_path)
    assert [one.given for one in with_peers(bundled).hosts] == [None, None, None], "the bundle has it"
