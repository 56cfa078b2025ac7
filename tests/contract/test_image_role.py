"""The role vllm_image by Ansible itself, against stand-ins for Docker and systemd; real ones are in tests/lab.

What it does, says, keeps and removes, without Docker and without a network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_engine import Engine, archive_of
from plays import run_playbook

from provisioner import assets
from provisioner.apply.inventory import dump

PRIVATE = "registry.example.com:5000/vllm:v1"
LOGIN = {"registry": "registry.example.com:5000", "username": "ops", "password": "pass {{ 'word' }} \" \\ '"}
DEPLOY = "vllm/vllm-openai:deploy"


class Ran:
    """One run of the role."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.rc, self.text = done.returncode, done.stdout + done.stderr
        found = re.search(r"changed=(\d+)", self.text)
        self.changed = int(found[1]) if found else -1

    def __str__(self) -> str:
        return self.text


class Host:
    """A host of the role: an engine, and folders in place of the host's own."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self.record, self.logs, self.kept = folder / "vllm" / "images.json", folder / "log", folder / "kept"

    def run(self, *images: str | dict[str, Any], check: bool = False, **variables: Any) -> Ran:
        wanted = [one if isinstance(one, dict) else {"reference": one} for one in images]
        wanted = [{"platform": "linux/amd64", **one} for one in wanted]
        wanted[0]["deploy_tag"] = DEPLOY
        places = {
            "vllm_image_record_file": str(self.record),
            "vllm_image_log_dir": str(self.logs),
            "vllm_image_archive_dir": str(self.folder / "archives"),
            "vllm_image_control_log_dir": str(self.kept),
            "vllm_image_min_free_gib": 0,
            "vllm_image_wait_s": 1,
        }
        given = self.folder / "variables.yml"
        given.write_text(dump({"vllm_image_list": wanted, **places, **variables}))
        playbook = self.folder / "playbook.yml"
        role = {"name": "Images", "ansible.builtin.import_role": {"name": "vllm_image"}}
        defaults = {"host_record": {"file": str(self.folder / "vllm" / "installed.json")}}
        play = {"name": "A host", "hosts": "all", "gather_facts": False, "module_defaults": defaults, "tasks": [role]}
        playbook.write_text(dump([play]))
        # Names of role variables that are no options are overridden as extra variables.
        words = ["-i", "gpu-01,", "-c", "local", "-e", f"@{given}"]
        words += ["-e", f"ansible_python_interpreter={sys.executable}"]
        environment = {
            "PATH": f"{self.engine.programs}:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self.engine.socket}",
            "FAKE_ENGINE": str(self.engine.place),
            "FAKE_UNITS": str(self.engine.units),
            # the defaults above name a module of it before any role is read
            "ANSIBLE_LIBRARY": str(assets.ansible_dir() / "roles" / "host_record" / "library"),
        }
        return Ran(run_playbook(self.folder, *words, *(["--check"] if check else []), playbook, **environment))

    @property
    def fetched(self) -> list[list[str]]:
        """The commands that Docker was given to get images, and not to look at them."""
        commands: list[list[str]] = self.engine.state["commands"]
        return [words for words in commands if words[:2] != ["image", "inspect"]]

    @property
    def sets(self) -> list[list[str]]:
        sets: list[list[str]] = json.loads(self.record.read_text())["sets"]
        return sets


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Engine(tmp_path) as engine:
        yield Host(tmp_path, engine)


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the role gives its files to root")


def test_check_mode_says_what_would_be_pulled(host: Host) -> None:
    host.engine.offer("vllm/vllm-openai:v1")
    done = host.run("vllm/vllm-openai:v1", check=True)
    assert done.rc == 0, str(done)
    assert "Would pull vllm/vllm-openai:v1 for linux/amd64" in done.text
    assert done.changed > 0
    assert host.fetched == []


def test_pull_with_a_login_over_a_bad_network(host: Host) -> None:
    """Tried again; the login leaves no trace; a second run changes nothing."""
    host.engine.offer(PRIVATE, login=f"ops:{LOGIN['password']}", broken=1)
    done = host.run(PRIVATE, vllm_image_registries=[LOGIN])
    assert done.rc == 0, str(done)
    assert host.engine.tags == sorted([DEPLOY, PRIVATE])
    assert len(host.fetched) == 2
    assert host.sets == [[PRIVATE]]
    (log,) = host.logs.glob("*.log")
    assert "Pull complete" in log.read_text()
    assert (host.kept / "gpu-01" / log.name).read_text() == log.read_text()
    # the stand-in's registry, and what this test gave to Ansible
    assert _holding("word' }}", host.folder) == ["engine.json", "variables.yml"]
    assert list((host.engine.units / "run").iterdir()) == []
    again = host.run(PRIVATE, vllm_image_registries=[LOGIN])
    assert (again.rc, again.changed) == (0, 0), str(again)


def test_a_wrong_password_is_final(host: Host) -> None:
    host.engine.offer(PRIVATE, login="ops:other")
    done = host.run(PRIVATE, vllm_image_registries=[LOGIN])
    assert done.rc == 2, str(done)
    assert 'The registry refuses the login of user "ops"' in done.text, str(done)
    assert len(host.fetched) == 1
    assert not host.record.exists()
    assert "word' }}" not in done.text


def test_old_images_go_when_others_come(host: Host) -> None:
    """Not those of somebody else, the last set, or what a container uses."""
    for name in ("theirs:1", "used:1", "a:1", "a:2"):
        host.engine.have(name)
    host.engine.use("used:1")
    ours = {name: {"id": f"sha256:{name}"} for name in ("used:1", "a:1", "a:2")}
    host.record.parent.mkdir()
    host.record.write_text(json.dumps({"images": ours, "sets": [["a:2"], ["a:1"], ["used:1"]]}))
    host.engine.offer("a:3")
    done = host.run("a:3")
    assert done.rc == 0, str(done)
    assert host.engine.tags == sorted(["a:2", "a:3", "theirs:1", "used:1", DEPLOY])
    assert host.sets == [["a:3"], ["a:2"]]
    assert set(json.loads(host.record.read_text())["images"]) == {"a:2", "a:3", "used:1"}
    assert "used:1 stays" in done.text


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd on this machine")
def test_archives(host: Host) -> None:
    """Of this machine, and one on the host that is for another platform."""
    good = host.folder / "vllm.tar.packed"
    packed = subprocess.run(["zstd", "-qc"], input=archive_of("vllm:v1", "amd64"), capture_output=True, check=True)
    good.write_bytes(packed.stdout)
    (host.folder / "arm.tar").write_bytes(archive_of("vllm:v2", "arm64"))
    done = host.run(
        {"reference": "vllm:v1", "archive": {"path": str(good)}},
        {"reference": "vllm:v2", "archive": {"path": str(host.folder / "arm.tar"), "at": "host"}},
    )
    assert done.rc == 2, str(done)
    assert "arm.tar holds vllm:v2 for linux/arm64; this host is linux/amd64" in done.text, str(done)
    assert host.engine.tags == ["vllm:v1"]
    assert list((host.folder / "archives").iterdir()) == []
    assert (host.folder / "arm.tar").exists()


def test_a_build_and_one_that_fails(host: Host) -> None:
    """Values reach Docker as they are; the end of the log and where the rest of it is are told."""
    source = host.folder / "upstream"
    source.mkdir()
    (source / "Dockerfile").write_text("FROM scratch\n")
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=source, check=True)
    build = {"git": str(source), "ref": "main", "target": "vllm", "args": {"FLAGS": "{{ 7 * 7 }} $HOME 'a b'"}}
    done = host.run(
        {"reference": "vllm:built", "build": build},
        {"reference": "vllm:broken", "build": {**build, "dockerfile": "docker/Dockerfile"}},
        vllm_image_source_dir=str(host.folder / "source"),
    )
    assert done.rc == 2, str(done)
    assert "building vllm:broken from" in done.text, str(done)
    assert "ERROR: failed to read dockerfile" in done.text
    assert f"The whole log is {host.logs}/vllm-image-" in done.text
    assert host.engine.tags == ["vllm:built"]
    first = host.fetched[0]
    assert first[-7:-1] == ["--file", first[-6], "--target", "vllm", "--build-arg", "FLAGS={{ 7 * 7 }} $HOME 'a b'"]
    assert len(list((host.kept / "gpu-01").iterdir())) == 2


def _holding(words: str, folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if words in path.read_text(errors="replace"))


PEER = """import os, subprocess, sys
open(os.environ["FAKE_ENGINE"] + ".asked", "a").write(repr(sys.argv[1:]) + "\\n")
if "ops-02=192.0.2.2:7717" in sys.argv:
    raise SystemExit("ops-02: does not answer (timed out)")
sys.exit(subprocess.call(["docker", "pull", "the-peer/" + sys.argv[2]]))
"""


def _peers(host: Host, name: str) -> dict[str, Any]:
    program = host.folder / "peer.py"
    program.write_text(PEER)
    return {"peers": [{"host": name, "address": "192.0.2.2:7717"}]}


def test_another_host_is_asked_first(host: Host) -> None:
    """Whatever the way in which it would come else: here a build."""
    build = {"build": {"git": "https://example.com/vllm.git", "ref": "v1", "dockerfile": "Dockerfile"}}
    host.engine.offer("the-peer/vllm/vllm-openai:build-1")
    state = host.engine.state
    state["registry"]["the-peer/vllm/vllm-openai:build-1"]["id"] = "sha256:built"
    state["images"]["sha256:built"] = {"tags": [], "arch": "amd64"}
    host.engine.write(state)
    image = {"reference": "vllm/vllm-openai:build-1", **build, **_peers(host, "ops-01")}
    done = host.run(image, vllm_image_peer_program=str(host.folder / "peer.py"))
    asked = (host.folder / "engine.json.asked").read_text()
    assert (
        asked
        == "['image', 'vllm/vllm-openai:build-1', '--platform', 'linux/amd64', '--from', 'ops-01=192.0.2.2:7717']\n"
    )
    assert [words[0] for words in host.fetched] == ["pull"], str(done)
    assert "Would" not in done.text


def test_without_a_peer_that_gives_it_is_fetched_and_that_is_said(host: Host) -> None:
    host.engine.offer("vllm/vllm-openai:v1")
    image = {"reference": "vllm/vllm-openai:v1", **_peers(host, "ops-02")}
    done = host.run(image, vllm_image_peer_program=str(host.folder / "peer.py"))
    assert done.rc == 0, str(done)
    assert [words[0] for words in host.fetched] == ["pull"]
    assert host.engine.tags == sorted([DEPLOY, "vllm/vllm-openai:v1"])
