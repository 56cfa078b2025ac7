"""The host-side part, run as a host runs it, with stand-ins for the programs that it asks."""

from __future__ import annotations

import http.server
import json
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.hosts import probe_script
from provisioner.hosts.parse import parse_answer, parse_facts
from provisioner.hosts.probe import LAUNCH, ProbeRequest, script
from provisioner.hosts.transport import Result
from provisioner.plan.facts import Cached, Facts

RECORDED = Path(__file__).parents[1] / "recorded" / "gpu"


class Machine:
    """This machine, with programs and a Docker engine of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.programs = folder / "bin"
        self.programs.mkdir()

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def look(self, **request: Any) -> Facts:
        text = script(ProbeRequest(**request)).replace(probe_script.DOCKER_SOCKET, str(self.socket))
        done = subprocess.run(  # noqa: S602  # by a shell, as at a login
            # Straight to python3: sudo of this machine would not pass our PATH on.
            LAUNCH.replace("sudo -n", "false"),
            shell=True,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"},
        )
        return parse_facts("gpu-01", parse_answer("gpu-01", Result(done.returncode, done.stdout, done.stderr)))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class EngineHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: dict[str, tuple[int, Any]] = {}  # noqa: RUF012  # each test sets its own

    def do_GET(self) -> None:
        place = self.path.partition("?")[0]
        status, answer = self.answers.get(place, (404, {"message": f"no {place}"}))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_args: Any) -> None:
        return None


@pytest.fixture
def engine(machine: Machine) -> Iterator[dict[str, tuple[int, Any]]]:
    """Answers of a Docker engine by path; an engine with one container of ours to begin with."""
    running = "c" * 64
    info = {
        "ServerVersion": "28.3.0",
        "Driver": "overlay2",
        "DockerRootDir": "/",
        "Runtimes": {"runc": {}, "nvidia": {}},
    }
    info["HttpProxy"] = "http://user:secret@proxy"
    seen = {
        "Id": running,
        "Name": "/vllm-a",
        "Image": "sha256:1",
        "Args": ["serve", "m"],
        "Config": {"Image": "vllm/vllm-openai:v0.12.0", "Env": ["HF_TOKEN=secret"]},
        "State": {"Running": True, "StartedAt": "2026-01-01T00:00:00Z"},
    }
    image = {"Id": "sha256:1", "RepoTags": ["vllm/vllm-openai:v0.12.0"], "RepoDigests": None, "Labels": {"a": "b"}}
    EngineHandler.answers = {
        "/info": (200, info),
        "/containers/json": (200, [{"Id": running}, {"Id": "gone"}]),
        f"/containers/{running}/json": (200, seen),
        "/images/json": (200, [image]),
        "/images/vllm/vllm-openai:v0.12.0/json": (
            200,
            {**image, "Architecture": "amd64", "Config": {"Labels": {"a": "b"}}},
        ),
    }
    with UnixServer(str(machine.socket), EngineHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield EngineHandler.answers
        server.shutdown()
        thread.join(timeout=5)


def test_engine(machine: Machine, engine: dict[str, tuple[int, Any]]) -> None:
    facts = machine.look(images=("vllm/vllm-openai:v0.12.0", "not/there:1"))
    assert (facts.docker.version, facts.docker.storage_driver, facts.docker.error) == ("28.3.0", "overlay2", "")
    (container,) = facts.containers  # the other one went while we looked
    assert (container.name, container.argv, container.running) == ("vllm-a", ("serve", "m"), True)
    (image,) = facts.images
    assert (image.tags, image.labels, image.architecture) == (("vllm/vllm-openai:v0.12.0",), {"a": "b"}, "amd64")
    assert facts.gpu_runtime
    assert facts.disk_free_mib["/"] > 0
    assert "secret" not in facts.model_dump_json()


def test_secrets_of_the_engine_stay_on_the_host(machine: Machine, engine: dict[str, tuple[int, Any]]) -> None:
    text = script(ProbeRequest()).replace(probe_script.DOCKER_SOCKET, str(machine.socket))
    done = subprocess.run(["python3", "-"], input=text, capture_output=True, text=True, timeout=60, check=True)
    assert "vllm-a" in done.stdout
    assert "secret" not in done.stdout


def test_engine_that_answers_with_an_error(machine: Machine, engine: dict[str, tuple[int, Any]]) -> None:
    engine["/info"] = (500, {"message": "driver failed"})
    facts = machine.look()
    assert facts.docker.version is None
    assert facts.docker.error == f"{machine.socket}: HTTP 500: driver failed"


def test_image_that_cannot_be_inspected(machine: Machine, engine: dict[str, tuple[int, Any]]) -> None:
    engine["/images/bad:1/json"] = (500, {"message": "layer lost"})
    assert machine.look(images=("bad:1",)).notes == ("image bad:1: layer lost",)


def test_engine_that_hangs(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(machine.socket))
        mute.listen()
        start = time.monotonic()
        facts = machine.look(docker_timeout_s=1)
    assert time.monotonic() - start < 5
    assert facts.docker.error == f"{machine.socket}: timed out"


def test_no_engine(machine: Machine) -> None:
    machine.program("docker", "echo 'Docker version 20.10.24+dfsg1, build 297e128'")
    facts = machine.look()
    assert facts.docker.error == f"{machine.socket}: No such file or directory"
    assert facts.docker.client_version == "20.10.24+dfsg1"


def test_nvidia_smi_that_hangs(machine: Machine) -> None:
    machine.program("nvidia-smi", "sleep 60")
    start = time.monotonic()
    facts = machine.look(gpu_timeout_s=1)
    assert time.monotonic() - start < 5
    assert facts.gpu_error == "nvidia-smi --format=csv,noheader,nounits did not end within 1 s"


def test_driver_too_old_for_compute_cap(machine: Machine) -> None:
    machine.program(
        "nvidia-smi",
        'case "$*" in *compute_cap*) echo \'Field "compute_cap" is not a valid field to query.\'; exit 2;; '
        "*--query-gpu=*) echo '0, Tesla V100, 16160, 0, 470.57.02';; "
        "*) echo '| NVIDIA-SMI 470.57.02    Driver Version: 470.57.02    CUDA Version: 11.4     |';; esac",
    )
    facts = machine.look()
    assert [(gpu.name, gpu.memory_mib, gpu.compute_capability) for gpu in facts.gpus] == [("Tesla V100", 16160, None)]
    assert (facts.driver_version, facts.cuda_version, facts.gpu_error) == ("470.57.02", "11.4", "")


def test_driver_that_does_not_answer(machine: Machine) -> None:
    machine.program("nvidia-smi", "echo 'NVIDIA-SMI has failed because of X.'; exit 9")
    assert machine.look().gpu_error == "NVIDIA-SMI has failed because of X."


@pytest.mark.parametrize("kind", ["h100", "h200"])
def test_gpus_of_a_recorded_machine(machine: Machine, kind: str) -> None:
    answer = json.loads((RECORDED / kind / "probe.json").read_text())
    for name, section in (("list", answer["gpu_list"]["csv"]), ("table", answer["gpu_summary"])):
        (machine.folder / name).write_text(section["out"])
    machine.program(
        "nvidia-smi", f'case "$*" in *query-gpu*) cat {machine.folder}/list;; *) cat {machine.folder}/table;; esac'
    )
    facts = machine.look()
    recorded = parse_facts("gpu-01", answer)
    assert (facts.gpus, facts.driver_version, facts.cuda_version) == (recorded.gpus, "580.159.04", "13.0")


def test_files(machine: Machine) -> None:
    public, secret = machine.folder / "public", machine.folder / "secret"
    public.write_text("é\n")
    public.chmod(0o644)
    secret.write_text("KEY=planted\n")
    secret.chmod(0o600)
    facts = machine.look(
        files=(str(public), str(secret), str(machine.folder), str(machine.folder / "none"), str(public / "below")),
        public_files=(str(public),),
    )
    assert [(file.path, file.content, file.mode) for file in facts.files] == [
        (str(public), "é\n", "0644"),
        (str(secret), None, "0600"),
    ]
    assert facts.notes == (f"{machine.folder}: not a regular file",)
    assert "planted" not in facts.model_dump_json()


def test_finished_downloads(machine: Machine) -> None:
    cache = machine.folder / "cache [1]"
    (cache / ".provision").mkdir(parents=True)
    (cache / ".provision" / "a--b.json").write_text('{"repo": "a/b", "revision": "main", "commit": "c0ffee"}')
    assert machine.look(cache_dir=str(cache)).weights == {"a/b": "c0ffee"}


def test_models_that_somebody_else_has_brought(machine: Machine) -> None:
    place = machine.folder / "hub" / "models--org--model"
    for commit in ("c1", "c2"):
        (place / "snapshots" / commit).mkdir(parents=True)
        (place / "snapshots" / commit / "config.json").write_text("{}")
    (place / "snapshots" / "c1" / "model.safetensors").write_text("w")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("c1\n")
    facts = machine.look(cache_dir=str(machine.folder), cached=["org/model", "org/other"])
    assert facts.cached == (
        Cached(repo="org/model", refs={"main": "c1"}, snapshots={"c1": "", "c2": "it has no weights"}),
    )


def test_what_is_at_a_path(machine: Machine) -> None:
    (machine.folder / "file").write_text("x")
    os.mkfifo(machine.folder / "pipe")
    names = ("file", "bin", "pipe", "none")
    facts = machine.look(paths=[str(machine.folder / name) for name in names])
    assert [facts.paths[f"{machine.folder}/{name}"] for name in names] == ["file", "directory", "other", ""]


def test_port_and_health(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as mute:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port, quiet = server.getsockname()[1], mute.getsockname()[1]
        facts = machine.look(ports=(port,), health=((port, "0.0.0.0"), (quiet, "127.0.0.1")))
        thread.join(timeout=5)
    (seen,) = facts.ports
    assert (seen.port, seen.address) == (port, "127.0.0.1")
    assert seen.process
    assert facts.health == {port: 503, quiet: 0}


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_says_of_its_sockets_what_its_table_says(family: socket.AddressFamily, address: str) -> None:
    with socket.create_server((address, 0), family=family) as server:
        end = f":{server.getsockname()[1]:04X}"
        table = Path("/proc/net/tcp6" if family == socket.AF_INET6 else "/proc/net/tcp").read_text().splitlines()[1:]
        said, written = ([line.split() for line in lines] for lines in (probe_script._listening(family), table))
    (ours,) = [fields for fields in said if fields[1].endswith(end)]
    (theirs,) = [fields for fields in written if fields[1].endswith(end) and fields[3] == "0A"]
    assert [ours[column] for column in (1, 3, 9)] == [theirs[column] for column in (1, 3, 9)]


def test_kernel_that_lists_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "AF_NETLINK", -1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (line,) = probe_script.ports({"ports": [server.getsockname()[1]]})["lines"]
        assert line in Path("/proc/net/tcp").read_text().splitlines()


@pytest.mark.parametrize(
    "sudo", ['[ "$1" = -n ] && shift && exec "$@"', "echo sudo: a password is required >&2; exit 1", "exit 127"]
)
def test_as_root_where_sudo_lets_us_and_as_ourselves_where_it_does_not(machine: Machine, sudo: str) -> None:
    machine.program("id", "echo 1000")
    machine.program("sudo", sudo)
    done = subprocess.run(
        ["/bin/sh", "-c", LAUNCH],
        input=script(ProbeRequest()),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PATH": f"{machine.programs}:{os.environ['PATH']}"},
    )
    answer = parse_answer("gpu-01", Result(done.returncode, done.stdout, done.stderr))
    assert answer["system"]["hostname"] == os.uname().nodename


@pytest.mark.parametrize("merged", [True, False])
def test_packages_as_dpkg_has_them(machine: Machine, monkeypatch: pytest.MonkeyPatch, merged: bool) -> None:
    monkeypatch.setattr(probe_script, "DPKG", str(machine.folder))
    (machine.folder / "updates").mkdir()
    (machine.folder / "status").write_text(
        "Package: docker-ce\nStatus: deinstall ok config-files\nVersion: 5:27.0-1\n\n"
        "Package: docker.io\nStatus: install ok installed\nConffiles:\n /etc/a 0 obsolete\nVersion: 26.1\n"
    )
    if not merged:
        (machine.folder / "updates" / "0001").touch()
        machine.program("dpkg-query", "printf 'docker-ce\\t28\\tinstalled\\n'")
        monkeypatch.setattr(probe_script, "PATH", str(machine.programs))
        monkeypatch.setattr(probe_script, "ENV", {**os.environ, "PATH": f"{machine.programs}:{os.environ['PATH']}"})
    said = probe_script.packages({})["out"]
    expected = (
        "docker-ce\t5:27.0-1\tconfig-files\ndocker.io\t26.1\tinstalled\n" if merged else "docker-ce\t28\tinstalled\n"
    )
    assert said == expected


@pytest.mark.parametrize(
    ("record", "asked", "opened", "ours"),
    [
        ("", False, None, ()),
        ("", True, (22, 8000), ()),
        ('{"parts": {"vllm_server": {"ports": {"8000": null, "9000": null}}}}', False, (22, 8000), (8000,)),
        ('{"parts": {}}', False, None, ()),
        ("{broken", True, (22, 8000), ()),
    ],
)
def test_firewall(
    machine: Machine, record: str, asked: bool, opened: tuple[int, ...] | None, ours: tuple[int, ...]
) -> None:
    machine.program("ufw", "printf 'Status: active\\n22/tcp ALLOW Anywhere\\n8000/tcp ALLOW Anywhere\\n'")
    machine.program("firewall-cmd", "exit 252")
    path = machine.folder / "installed.json"
    if record:
        path.write_text(record)
    facts = machine.look(firewall=asked, record=str(path))
    assert (facts.firewall, facts.opened_for_us) == (opened, ours)


def test_disk_of_a_path_that_is_not_there_yet(machine: Machine) -> None:
    path = str(machine.folder / "not" / "yet")
    assert machine.look(disk_paths=(path,)).disk_free_mib[path] > 0


def test_no_python3(machine: Machine) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", LAUNCH],
        input="",
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(machine.programs)},
    )
    assert (done.returncode, done.stderr) == (127, "python3: not found\n")
