"""Images behind a login, an authority of their own and a proxy, and the password nowhere afterwards.
Then without registry and hub: archives, models on NFS.

One host, in this order: it is given one image after the other.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import DEPLOY_TAG, FP8, SIM_IMAGE, Done, Lab, chat, container, shell, show

from provisioner.lab import faults, proxy, services
from provisioner.lab.docker import docker
from provisioner.lab.paths import cache_dir, state_dir
from provisioner.lab.registry import PRIVATE_PORT, PULL_PORT, USER, authority_file, password_file

FIRST, SECOND = "vllm/vllm-openai:v0.12.0-archive1", "vllm/vllm-openai:v0.12.0-archive2"
THEIRS = "somebody/else:1"
ON_HOST = "/srv/images/second.tar.gz"
MODELS = "/mnt/models"
PLACES = "/etc /var /run /root /home /tmp /dev/shm /opt /usr/local /srv"
VARIABLE = "LAB_REGISTRY_PASSWORD"


@dataclass
class Pulled:
    """A run that had to log in, and what a watcher saw of processes meanwhile."""

    registry: str
    image: str
    password: str = field(repr=False)
    fleet: Path
    refused: Done
    kept: bool
    """whether the server that ran before the refused run ran on"""
    done: Done
    seen: set[str] = field(default_factory=set)
    looks: int = 0

    @property
    def env(self) -> dict[str, str]:
        return {VARIABLE: self.password}


@pytest.fixture(scope="module")
def pulled(lab: Lab, served: str, as_planned: Path) -> Pulled:
    registry = f"{lab.gateway}:{PRIVATE_PORT}"
    image = f"{registry}/{SIM_IMAGE}"
    way_out = f"http://{lab.gateway}:{proxy.PORT}"
    # what the mirror says of a tag does not survive a proxy, as with others inside a company
    proxies = {"http": way_out, "https": way_out, "no_proxy": [f"{lab.gateway}:{PULL_PORT}"]}
    fleet = _fleet(lab, served, "private", registry, image, f"env:{VARIABLE}", proxies=proxies)
    wrong = lab.folder / "wrong_password"
    wrong.write_text("not-the-password\n")
    before = container(served)
    refused = lab.run(_fleet(lab, served, "refused", registry, image, f"file:{wrong}"), "--yes", "--smoke")
    kept = container(served) == before
    password = password_file(state_dir()).read_text().strip()
    told = Pulled(registry, image, password, fleet, refused, kept, refused)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(told, stop))
    watcher.start()
    shell(served, "rm -r /var/lib/vllm/huggingface")  # what is fetched then goes the same way
    try:
        with faults.cut_off(served, but=proxy.PORT):
            told.done = lab.run(fleet, "--yes", env=told.env)
    finally:
        stop.set()
        watcher.join()
    return told


def _fleet(lab: Lab, host: str, name: str, registry: str, image: str, password: str, **more: Any) -> Path:
    docker = {
        "source": "distribution",
        "registry_mirrors": [f"http://{lab.gateway}:5000"],
        "insecure_registries": [f"{lab.gateway}:{PULL_PORT}"],
        "registry_cas": {registry: str(authority_file(state_dir()))},
        "registries": {registry: {"username": USER, "password": password}},
        "min_free_gib": 2,
        **more,
    }
    return lab.write_fleet(name, [host], image={"default": image}, top_docker=docker)


def test_a_wrong_password_is_told_with_what_to_do(pulled: Pulled) -> None:
    assert pulled.refused.rc == 1, str(pulled.refused)
    for words in (
        f"{pulled.image} (linux/amd64) cannot be pulled",
        f'The registry refuses the login of user "{USER}"',
        f'docker.registries."{pulled.registry}"',
    ):
        assert words in pulled.refused.text, str(pulled.refused)
    assert "not-the-password" not in pulled.refused.text
    assert pulled.kept


def test_the_right_one_pulls_and_serves(pulled: Pulled, served: str) -> None:
    assert pulled.done.rc == 0, str(pulled.done)
    assert chat(served, FP8)[0] == 200
    assert pulled.image in shell(served, "docker inspect vllm-sim --format '{{.Config.Image}}'")
    tagged = shell(served, f"docker image inspect -f '{{{{.Id}}}}' {DEPLOY_TAG} {pulled.image}").split()
    assert len(set(tagged)) == 1, tagged


def test_all_of_it_came_through_the_proxy(lab: Lab, pulled: Pulled) -> None:
    asked = services.log_file(state_dir(), proxy.SERVICE).read_text()
    assert f"CONNECT {pulled.registry}" in asked
    assert f"http://{lab.gateway}:8800/" in asked


def test_a_second_run_changes_nothing(lab: Lab, pulled: Pulled, served: str) -> None:
    before = container(served)
    again = lab.run(pulled.fleet, "--yes", env=pulled.env)
    assert again.rc == 0, str(again)
    assert "nothing changed" in again.stdout, str(again)
    assert container(served) == before


def test_what_came_is_recorded_and_what_was_before_is_kept(pulled: Pulled, served: str) -> None:
    record = json.loads(shell(served, "cat /var/lib/vllm/images.json"))
    assert record["sets"] == [[pulled.image], [SIM_IMAGE]]
    assert {pulled.image, SIM_IMAGE} <= set(record["images"])
    shell(served, f"docker image inspect {SIM_IMAGE}")


def test_the_log_of_the_pull_is_with_the_run(lab: Lab, pulled: Pulled, served: str) -> None:
    (log,) = (lab.latest_run("private") / "logs" / served).glob("*.log")
    assert "Pulling from vllm/vllm-openai" in log.read_text()
    assert log.read_text() == shell(served, f"cat /var/log/vllm/{log.name}")


def test_the_password_was_seen_nowhere(lab: Lab, pulled: Pulled, served: str) -> None:
    show(f"looked {pulled.looks} times at all processes of this machine and the host")
    assert pulled.looks > 5
    assert not pulled.seen
    assert pulled.password not in pulled.done.text
    found = shell(
        served, f"grep -rlF -D skip --exclude-dir=merged -e '{pulled.password}' {PLACES} 2>/dev/null; true", 180
    )
    assert found.split() == []
    # as Docker's client writes it
    assert shell(served, "grep -rlF 5010 /root/.docker /run --include=config.json 2>/dev/null; true").split() == []
    assert shell(served, "ls -d /run/vllm-image-* 2>/dev/null; true").split() == []
    journal = shell(served, "journalctl --no-pager --all --output=export", timeout=120)
    assert pulled.password not in journal
    assert _files_with(pulled.password, lab.state) == []
    assert _files_with(pulled.password, state_dir() / "log") == []
    assert _files_with(pulled.password, password_file(state_dir())), "grep finds what is there"


@pytest.fixture(scope="module")
def archives(lab: Lab, served: str, pulled: Pulled) -> Iterator[Path]:
    """The folder of the first archive on this machine; the second is on the host, and so is a read-only model cache."""
    folder = lab.folder / "images"
    folder.mkdir()
    for number, name in enumerate((FIRST, SECOND)):
        file = f"FROM {SIM_IMAGE}\\nLABEL n={number}\\n"
        shell(served, f"printf '{file}' | DOCKER_BUILDKIT=0 docker build -q -t {name} -")
    shell(served, f"docker tag {FIRST} {THEIRS}")
    shell(served, f"docker save {FIRST} -o /root/first.tar && docker image rm {FIRST}", timeout=120)
    docker(["cp", f"{served}:/root/first.tar", str(folder / "first.tar")], what="fetching the archive", timeout=120)
    shell(served, f"mkdir -p /srv/images && docker save {SECOND} | gzip -1 > {ON_HOST}", timeout=120)
    shell(served, f"docker image rm {SECOND}; rm /root/first.tar")
    shell(served, f"mkdir -p {MODELS} && mount --bind /var/lib/vllm/huggingface {MODELS}")
    shell(served, f"mount -o remount,bind,ro {MODELS}")
    yield folder
    shell(served, f"umount --lazy {MODELS}; docker image rm {THEIRS}; rm -r /srv/images")


def _archive(lab: Lab, host: str, name: str, path: str, image: str, at: str = "control", **top: Any) -> Path:
    archive = {"path": path, "image": image, "at": at}
    return lab.write_fleet(name, [host], image={"default": {"archive": archive}}, **top)


def test_an_archive_that_is_not_there_stops_the_run_before_it_begins(lab: Lab, served: str, archives: Path) -> None:
    there = lab.run(_archive(lab, served, "archive-gone", "/srv/images/none.tar", SECOND, "host"), "--yes")
    assert there.rc == 1, str(there)
    assert f"/srv/images/none.tar is not there, from which {SECOND} is to be loaded" in there.text, str(there)
    here = lab.run(_archive(lab, served, "archive-gone", "images/none.tar", FIRST), "--yes")
    assert here.rc == 2, str(here)
    assert 'no such file: "images/none.tar"' in here.text, str(here)


def test_an_archive_of_this_machine(lab: Lab, served: str, pulled: Pulled, archives: Path) -> None:
    """The image before the last goes; the last stays, and so does what somebody else has."""
    fleet = _archive(lab, served, "archive", "images/first.tar", FIRST)
    planned = lab.run("plan", fleet)
    assert f"not there; will be loaded from {archives}/first.tar" in planned.stdout, str(planned)
    assert f"{SIM_IMAGE}: will be removed: an earlier run brought it, and docker.keep_images is 1" in planned.stdout
    done = lab.run(fleet, "--yes", "--smoke")
    assert done.rc == 0, str(done)
    assert chat(served, FP8)[0] == 200
    assert FIRST in shell(served, "docker inspect vllm-sim --format '{{.Config.Image}}'")
    images = shell(served, "docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
    assert SIM_IMAGE not in images
    assert {pulled.image, FIRST, THEIRS} <= set(images)
    assert shell(served, "ls /var/lib/vllm/archives").split() == []


def test_an_archive_of_the_host_with_models_that_are_there(lab: Lab, served: str, archives: Path) -> None:
    weights = {"top_weights": {"cache_dir": MODELS, "download": False}, "top_hub": {}}
    fleet = _archive(lab, served, "archive", ON_HOST, SECOND, "host", **weights)
    done = lab.run(fleet, "--yes")
    assert done.rc == 0, str(done)
    assert chat(served, FP8)[0] == 200
    mounts = shell(served, "docker inspect vllm-sim --format '{{json .HostConfig.Binds}}'")
    assert f"{MODELS}:/root/.cache/huggingface:ro" in mounts
    assert not any(f"Download {FP8}" in event["task"] for event in _events(lab, "archive"))
    again = lab.run(fleet, "--yes")
    assert "nothing changed" in again.stdout, str(again)


def test_models_that_are_not_there(lab: Lab, served: str, archives: Path) -> None:
    weights = {"top_weights": {"cache_dir": "/mnt/nothing", "download": False}, "top_hub": {}}
    done = lab.run(_archive(lab, served, "archive-models", ON_HOST, SECOND, "host", **weights), "--yes")
    assert done.rc == 1, str(done)
    assert f"{FP8} is not whole in /mnt/nothing (it is not there), and weights.download is false" in done.text, str(
        done
    )


def _events(lab: Lab, fleet: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (lab.latest_run(fleet) / "events.jsonl").read_text().splitlines()]


def _files_with(password: str, place: Path) -> list[str]:
    words = ["grep", "-rlF", "-D", "skip", "-e", password, str(place)]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    return [path for path in found if not path.startswith(f"{cache_dir()}/")]


def _watch(told: Pulled, stop: threading.Event) -> None:
    """Command lines and environments of every process: lab hosts' are this machine's too."""
    password = told.password.encode()
    while not stop.is_set():
        told.looks += 1
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            line = words.replace(b"\0", b" ").decode(errors="replace").strip()
            # Who starts provision with env: has it in its environment, and so has provision.
            if password in words or (password in environment and "bin/provision" not in line):
                told.seen.add(line)
        time.sleep(0.02)
