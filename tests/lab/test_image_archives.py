"""Images and models that come without a registry and without a hub: archives of this machine and of the host, NFS."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import FP8, SIM_IMAGE, Lab, chat, container, shell

from provisioner.lab.docker import docker

FIRST, SECOND = "vllm/vllm-openai:v0.12.0-archive1", "vllm/vllm-openai:v0.12.0-archive2"
THEIRS = "somebody/else:1"
ON_HOST = "/srv/images/second.tar.gz"
MODELS = "/mnt/models"


@pytest.fixture(scope="module")
def archives(lab: Lab, served: str) -> Iterator[Path]:
    """The folder of the first archive on this machine; the second is on the host, and so is a read-only model cache."""
    folder = lab.folder / "images"
    folder.mkdir()
    for number, name in enumerate((FIRST, SECOND)):
        shell(
            served, f"printf 'FROM {SIM_IMAGE}\\nLABEL n={number}\\n' | DOCKER_BUILDKIT=0 docker build -q -t {name} -"
        )
    shell(served, f"docker tag {FIRST} {THEIRS}")
    shell(served, f"docker save {FIRST} -o /root/first.tar && docker image rm {FIRST}", timeout=120)
    docker(["cp", f"{served}:/root/first.tar", str(folder / "first.tar")], what="fetching the archive", timeout=120)
    shell(served, f"mkdir -p /srv/images && docker save {SECOND} | gzip -1 > {ON_HOST}", timeout=120)
    shell(served, f"docker image rm {SECOND}; rm /root/first.tar")
    shell(served, f"mkdir -p {MODELS} && mount --bind /var/lib/vllm/huggingface {MODELS}")
    shell(served, f"mount -o remount,bind,ro {MODELS}")
    _other(folder / "arm.tar", FIRST, "arm64")
    yield folder
    mended = lab.run(lab.folder / "sim.yaml", "--yes")
    assert mended.rc == 0, str(mended)
    shell(served, f"umount {MODELS}; docker image rm {THEIRS}; rm -r /srv/images")


def _other(file: Path, name: str, arch: str) -> None:
    """An archive of another platform."""
    config = json.dumps({"architecture": arch, "os": "linux"}).encode()
    manifest = json.dumps([{"Config": "c.json", "RepoTags": [name], "Layers": []}]).encode()
    with tarfile.open(file, "w") as archive:
        for member, content in (("c.json", config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _fleet(lab: Lab, host: str, name: str, path: str, image: str, at: str = "control", **top: object) -> Path:
    archive = {"path": path, "image": image, "at": at}
    return lab.write_fleet(name, [host], image={"default": {"archive": archive}}, **top)


def test_another_platform_is_refused_before_it_is_loaded(lab: Lab, served: str, archives: Path) -> None:
    before = container(served)
    done = lab.run(_fleet(lab, served, "archive-arm", "images/arm.tar", FIRST), "--yes", "--smoke")
    assert done.rc == 1, str(done)
    assert f"{archives}/arm.tar holds {FIRST} for linux/arm64; this host is linux/amd64" in done.text, str(done)
    assert container(served) == before
    assert shell(served, f"docker image ls -q {FIRST}").split() == []
    assert shell(served, "ls /var/lib/vllm/archives").split() == []


def test_an_archive_that_is_not_there_stops_the_run_before_it_begins(lab: Lab, served: str, archives: Path) -> None:
    there = lab.run(_fleet(lab, served, "archive-gone", "/srv/images/none.tar", SECOND, "host"), "--yes")
    assert there.rc == 1, str(there)
    assert f"/srv/images/none.tar is not there, from which {SECOND} is to be loaded" in there.text, str(there)
    here = lab.run(_fleet(lab, served, "archive-gone", "images/none.tar", FIRST), "--yes")
    assert here.rc == 2, str(here)
    assert 'no such file: "images/none.tar"' in here.text, str(here)


def test_from_this_machine(lab: Lab, served: str, archives: Path) -> None:
    fleet = _fleet(lab, served, "archive", "images/first.tar", FIRST)
    planned = lab.run("plan", fleet)
    assert f"not there; will be loaded from {archives}/first.tar" in planned.stdout, str(planned)
    done = lab.run(fleet, "--yes")
    assert done.rc == 0, str(done)
    assert chat(served, FP8)[0] == 200
    assert FIRST in shell(served, "docker inspect vllm-sim --format '{{.Config.Image}}'")
    assert shell(served, "ls /var/lib/vllm/archives").split() == []
    again = lab.run(fleet, "--yes")
    assert "nothing changed" in again.stdout, str(again)


def test_from_the_host_with_models_that_are_there(lab: Lab, served: str, archives: Path) -> None:
    """The image before the last goes; the last stays, and so does what somebody else has."""
    weights = {"top_weights": {"cache_dir": MODELS, "download": False}, "top_hub": {}}
    fleet = _fleet(lab, served, "archive", ON_HOST, SECOND, "host", **weights)
    planned = lab.run("plan", fleet)
    assert f"{SIM_IMAGE}: will be removed: an earlier run brought it, and docker.keep_images is 1" in planned.stdout
    assert "model_weights" not in planned.stdout, str(planned)
    done = lab.run(fleet, "--yes")
    assert done.rc == 0, str(done)
    assert chat(served, FP8)[0] == 200
    mounts = shell(served, "docker inspect vllm-sim --format '{{json .HostConfig.Binds}}'")
    assert f"{MODELS}:/root/.cache/huggingface:ro" in mounts
    images = shell(served, "docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
    assert SIM_IMAGE not in images
    assert {FIRST, SECOND, THEIRS} <= set(images)
    again = lab.run(fleet, "--yes")
    assert "nothing changed" in again.stdout, str(again)


def test_models_that_are_not_there(lab: Lab, served: str, archives: Path) -> None:
    weights = {"top_weights": {"cache_dir": "/mnt/nothing", "download": False}, "top_hub": {}}
    done = lab.run(_fleet(lab, served, "archive-models", ON_HOST, SECOND, "host", **weights), "--yes")
    assert done.rc == 1, str(done)
    assert f"{FP8} is not whole in /mnt/nothing (it is not there), and weights.download is false" in done.text, str(
        done
    )
