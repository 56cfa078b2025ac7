"""What docker_engine and nvidia_container_toolkit refuse, in whole messages: their own tasks, run by Ansible.

The programs that they ask (docker, systemctl, nvidia-smi) are stand-ins that print what a case wants. Real ones are in
the roles' molecule scenarios.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from plays import run_playbook

PROGRAMS = {"PATH": "{{ programs }}:/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_HOST": "unix:///nowhere"}
KEEP = {
    "dest": "{{ out }}/{{ inventory_hostname }}.json",
    "content": "{{ {'msg': ansible_failed_result.msg | default('')} | to_json }}",
    "mode": "0600",
}
SMI = """\
+---+
| NVIDIA-SMI 570.86.15              Driver Version: 570.86.15      CUDA Version: 12.8     |
"""


@dataclass(frozen=True)
class Case:
    """Tasks of a role with these variables, on a host whose programs print these texts (by their first arguments)."""

    role: str
    tasks: str
    message: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)


def others(running: str, live_restore: str = "false", message: str = "", **variables: Any) -> Case:
    given = {"docker_engine_restart_for": "log-opts in daemon.json", **variables}
    programs = {"docker info": live_restore, "docker ps": running}
    return Case("docker_engine", "others", message, given, programs)


def daemon(wanted: dict[str, Any], message: str = "", current: dict[str, Any] | None = None, **info: Any) -> Case:
    host = {"ServerVersion": "26.1.5", "Images": 3, "Containers": 1, "DockerRootDir": "/var/lib/docker"}
    given = {
        "docker_engine_config": wanted,
        "docker_engine_changed_keys": list(wanted),
        "docker_engine_current": {"config": current or {}},
        "docker_engine_now": {**host, "LoggingDriver": "json-file", **info},
    }
    return Case("docker_engine", "refuse", message, given)


def cuda(version: str, message: str = "") -> Case:
    given = {"nvidia_container_toolkit_proof_image": "vllm/vllm-openai:v1"}
    programs = {"docker image": json.dumps(["PATH=/bin", *([f"CUDA_VERSION={version}"] if version else [])])}
    return Case("nvidia_container_toolkit", "cuda", message, given, {**programs, "nvidia-smi": SMI})


STOP = (
    'Nothing was changed. Stop {}, or let Docker keep containers over a restart ("live-restore": true in daemon.json, '
)
STOP += "which needs a reload only), or allow it: docker_engine_stop_others."
CASES = {
    "nothing-runs": others(""),
    "ours-run": others("vllm-a\nvllm-b"),
    "others-outlive-docker": others("theirs", "true"),
    "others-may-stop": others("theirs", docker_engine_stop_others=True),
    "others-run": others(
        "theirs\nvllm-a\nanother",
        message="others-run: Docker must be restarted for log-opts in daemon.json, which would stop another, theirs. "
        + STOP.format("them"),
    ),
    "another-runs": others(
        "theirs",
        message="another-runs: Docker must be restarted for log-opts in daemon.json, which would stop theirs. "
        + STOP.format("it"),
    ),
    "proxies": daemon({"proxies": {"http-proxy": "http://p"}}),
    "proxies-too-early": daemon(
        {"proxies": {"http-proxy": "http://p"}},
        'Docker 20.10.24+dfsg1 of proxies-too-early has no "proxies" in daemon.json (it came with 23.0). Give its'
        ' service the variables instead (systemctl edit docker: Environment="HTTPS_PROXY=…") and leave them out '
        "here, or install a newer Docker.",
        ServerVersion="20.10.24+dfsg1",
    ),
    "data-root": daemon(
        {"data-root": "/data"},
        "Docker of data-root keeps 3 images and 1 containers in /var/lib/docker; with data-root /data it would "
        "see none of them. Move the directory by hand while Docker is stopped, with data-root in daemon.json set "
        "to the new place, and run again.",
    ),
    "data-root-of-an-empty-docker": daemon({"data-root": "/data"}, Images=0, Containers=0),
    "data-root-that-it-has": daemon({"data-root": "/data"}, DockerRootDir="/data"),
    "rotation": daemon({"log-opts": {"max-size": "1m"}}),
    "rotation-of-another-driver": daemon(
        {"log-opts": {"max-size": "1m", "max-file": "3"}},
        'rotation-of-another-driver logs with "journald", which does not take max-size, max-file: containers would not '
        'start. Leave the rotation out there, or set "log-driver": "json-file" as well.',
        LoggingDriver="journald",
    ),
    "rotation-with-its-driver": daemon(
        {"log-driver": "json-file", "log-opts": {"max-size": "1m"}}, current={"log-driver": "journald"}
    ),
    "docker-too-old": Case(
        "docker_engine",
        "preflight",
        "Docker 18.09.1 of docker-too-old is too old: containers get GPUs (--gpus) from Docker 19.03 on. Update "
        "it, or say which version to install (docker_engine_version).",
        programs={"docker version": "18.09.1", "systemctl": "loaded"},
    ),
    "docker-of-a-snap": Case(
        "docker_engine",
        "preflight",
        "Docker 27.2.0 answers on docker-of-a-snap, but there is no docker.service (a snap or a hand-started "
        "daemon?). The servers' units depend on docker.service. Replace it by the distribution's or docker.com's "
        "packages and run again.",
        programs={"docker version": "27.2.0", "systemctl": "not-found"},
    ),
    "cuda-of-the-drivers-line": cuda("12.9.1"),
    "cuda-that-nothing-tells": cuda(""),
    "cuda-too-new": cuda(
        "13.0.1",
        "cuda-too-new: vllm/vllm-openai:v1 holds CUDA 13.0.1, but the driver 570.86.15 runs CUDA 12.8 at most. "
        "Update the driver, or use an image with CUDA 12 (a tag that ends in -cu129, say); to try all the same, "
        "set nvidia_container_toolkit_check_cuda to false.",
    ),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By case: what the role said when it refused; "" where it did not."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "out").mkdir()
    hosts = {name: host_of(folder, name, case) for name, case in CASES.items()}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}, sort_keys=False), encoding="utf-8")
    # one include for each: what is included together has the first host's name
    includes = [
        {
            "when": f"includes == '{role} {tasks}'",
            "block": [{"ansible.builtin.include_role": {"name": role, "tasks_from": tasks}}],
            "rescue": [{"ansible.builtin.copy": KEEP}],
        }
        for role, tasks in sorted({(case.role, case.tasks) for case in CASES.values()})
    ]
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "environment": PROGRAMS, "tasks": includes}
    (folder / "site.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    settings = {"out": str(folder / "out"), "ansible_python_interpreter": sys.executable}
    done = run_playbook(folder, "-i", "hosts.yml", "-e", json.dumps(settings), "site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: refusal(folder / "out" / f"{name}.json") for name in CASES}


def host_of(folder: Path, name: str, case: Case) -> dict[str, Any]:
    """The variables of a case's host, whose programs are written beside it."""
    programs = folder / name
    programs.mkdir()
    for called in {words.split()[0] for words in case.programs}:
        answers = [
            (words.partition(" ")[2], text) for words, text in case.programs.items() if words.split()[0] == called
        ]
        body = "".join(f'case "$*" in {first}*) cat <<"END"\n{text}\nEND\nexit ;; esac\n' for first, text in answers)
        (programs / called).write_text(f"#!/bin/sh\n{body}exit 1\n", encoding="utf-8")
        (programs / called).chmod(0o755)
    return {"includes": f"{case.role} {case.tasks}", "programs": str(programs), **case.variables}


def refusal(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8"))["msg"]).strip() if path.exists() else ""


@pytest.mark.parametrize("name", CASES)
def test_whole_message(told: dict[str, str], name: str) -> None:
    assert told[name] == CASES[name].message
