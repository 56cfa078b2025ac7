"""A job of a host: how it is started, what its program does with a password, and how its log is read."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from load import ROLES, module

job = module("vllm_image", "library/vllm_image_job.py")
fetch = module("vllm_image", "files/fetch.py")
PROGRAM = (ROLES / "vllm_image" / "files" / "fetch.py").read_text()
LOGIN = {"registry": "registry.example.com:5000", "username": "ops", "password": 'it\'s "s3cret" \\ {{ x }}'}


def request(tmp_path: Path, *pipe: list[str], **more: Any) -> dict[str, Any]:
    told = {"log": str(tmp_path / "log"), "pipe": list(pipe), "environment": {}, "logins": [], "attempts": 1}
    return {**told, "final": "", "timeout_s": 60, **more}


def run(tmp_path: Path, *pipe: list[str], **more: Any) -> tuple[int, str]:
    """The program as the unit runs it: with everything on its standard input."""
    (tmp_path / "runtime").mkdir(mode=0o700, exist_ok=True)
    text = job.stdin_of(PROGRAM, request(tmp_path, *pipe, **more))
    env = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path / "runtime")}
    done = subprocess.run([sys.executable, "-I", "-"], input=text, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 0
    code, words = job.ended((tmp_path / "log").read_text())
    return code, words


def sh(text: str) -> list[str]:
    return ["sh", "-c", text]


def test_it_runs_a_command_and_says_how_it_went(tmp_path: Path) -> None:
    assert run(tmp_path, sh("echo out; echo err >&2")) == (0, "out\nerr")
    assert run(tmp_path, sh("echo no; exit 3")) == (3, "no")
    assert run(tmp_path, ["no-such-program"]) == (127, "no-such-program: No such file or directory")


def test_a_pipe_fails_with_its_first_program_that_does(tmp_path: Path) -> None:
    assert run(tmp_path, sh("echo a"), sh("cat; echo b")) == (0, "a\nb")
    assert run(tmp_path, sh("exit 4"), sh("cat")) == (4, "")
    assert run(tmp_path, sh("echo a"), sh("cat; exit 5")) == (5, "a")
    assert run(tmp_path, sh("sleep 60"), ["no-such-program"])[0] == 127


def test_what_does_not_end_is_ended(tmp_path: Path) -> None:
    assert run(tmp_path, sh("exec sleep 60"), timeout_s=0.2) == (-1, "it was not done in time")


def test_trying_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(fetch, "time", SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
    counter = tmp_path / "count"
    step = sh(f"echo x >> {counter}; test $(wc -l < {counter}) = 3")
    assert _in_process(tmp_path, step, attempts=4)["attempts"] == 3
    assert pauses == [5, 10]
    counter.unlink()
    assert _in_process(tmp_path, step, attempts=2) == {"rc": 1, "attempts": 2}


def test_what_is_final_is_not_tried_again(tmp_path: Path) -> None:
    assert _in_process(tmp_path, sh("echo Manifest unknown; exit 1"), attempts=4, final="(?i)manifest") == {
        "rc": 1,
        "attempts": 1,
    }


def _in_process(tmp_path: Path, *pipe: list[str], **more: Any) -> dict[str, Any]:
    kept = os.dup(1), os.dup(2)
    try:
        fetch.main(request(tmp_path, *pipe, **more))
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
    last = (tmp_path / "log").read_text().splitlines()[-1]
    told: dict[str, Any] = json.loads(last.removeprefix(job.MARK))
    return told


def test_a_login_is_in_the_runtime_directory_alone(tmp_path: Path) -> None:
    code, words = run(tmp_path, sh("echo $DOCKER_CONFIG; cat $DOCKER_CONFIG/config.json; env"), logins=[LOGIN])
    assert code == 0
    file = tmp_path / "runtime" / "config.json"
    assert words.startswith(f"{tmp_path}/runtime\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    auth = json.loads(file.read_text())["auths"]["registry.example.com:5000"]["auth"]
    assert base64.b64decode(auth).decode() == f"ops:{LOGIN['password']}"
    assert "s3cret" not in words


def test_without_logins_dockers_own_configuration_is_used(tmp_path: Path) -> None:
    assert run(tmp_path, sh("echo ${DOCKER_CONFIG-none}")) == (0, "none")


def test_logins_go_before_those_of_root_which_stay() -> None:
    own = {
        "auths": {"ghcr.io": {"auth": "x"}},
        "credHelpers": {"registry.example.com:5000": "pass"},
        "credsStore": "secretservice",
        "currentContext": "rootless",
        "proxies": {"default": {"httpProxy": "http://proxy"}},
    }
    made = fetch.with_logins(own, "/root", [LOGIN, {**LOGIN, "registry": "docker.io"}])
    assert set(made["auths"]) == {"ghcr.io", "registry.example.com:5000", "https://index.docker.io/v1/"}
    # an empty helper is none: the file counts
    assert made["credHelpers"] == {"registry.example.com:5000": "", "https://index.docker.io/v1/": ""}
    assert made["credsStore"] == "secretservice"
    assert made["proxies"] == own["proxies"]
    assert "currentContext" not in made
    assert made["cliPluginsExtraDirs"] == ["/root/.docker/cli-plugins"]
    assert own["credHelpers"] == {"registry.example.com:5000": "pass"}


def test_a_password_is_in_no_argument_of_the_unit() -> None:
    argv = job.unit_argv("vllm-image-1", "/proc/7/fd/8", 100, "/usr/bin/python3")
    # fmt: off
    assert argv == [
        "systemd-run", "--quiet", "--collect", "--unit=vllm-image-1", "--service-type=exec",
        "--property=RuntimeDirectory=vllm-image-1", "--property=RuntimeDirectoryMode=0700",
        "--property=RuntimeMaxSec=160", "--property=StandardInput=file:/proc/7/fd/8",
        "--", "/usr/bin/python3", "-I", "-",
    ]
    # fmt: on


PULL = """v0.12.0: Pulling from vllm/vllm-openai
0123456789ab: Pulling fs layer
0123456789ac: Already exists
0123456789ad: Pulling fs layer
0123456789ab: Verifying Checksum
0123456789ab: Download complete
0123456789ab: Pull complete
"""


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        (PULL, "2 of 3 layers"),
        ("#1 [internal]\n#7 [3/9] RUN make\n#7 12.3 cc a.c\n\n", "#7 12.3 cc a.c"),
        ("", ""),
        ("x" * 300, "x" * 160),
    ],
)
def test_how_far_it_is(text: str, progress: str) -> None:
    assert job.progress(text) == progress


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('a\nprovision: {"rc": 0, "attempts": 1}\n', (0, "a")),
        ('a\nprovision: {"rc": null, "attempts": 1}\n', (-1, "a\nit was not done in time")),
        ('provision: {"rc": -1, "error": "systemd did not start x: no"}\n', (-1, "systemd did not start x: no")),
        ("a\nb", (-1, "a\nb\nit was ended from outside")),
        ("", (-1, "it was ended from outside")),
    ],
)
def test_how_it_ended(text: str, told: tuple[int, str]) -> None:
    assert job.ended(text) == told


def test_a_failure_that_is_none_of_the_run_is_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "is_alive", lambda _: False)
    log = tmp_path / "log"
    params = {"name": "x", "log": str(log), "wait_s": 1, "notice": "a:1 does not come from another host"}
    log.write_text('gpu-01: does not answer\nprovision: {"rc": 1, "attempts": 1}\n')
    assert job.wait(params)["notice"] == "a:1 does not come from another host: gpu-01: does not answer"
    assert "notice" not in job.wait({**params, "notice": ""})
    log.write_text('came from gpu-01\nprovision: {"rc": 0, "attempts": 1}\n')
    assert "notice" not in job.wait(params)


def test_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    assert job.log_end(tmp_path / "none") == ""
