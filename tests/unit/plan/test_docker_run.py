from __future__ import annotations

from typing import Any

import pytest

from provisioner.plan.docker_run import docker_run, gpu_flags, gpus_value


def test_the_whole_command() -> None:
    argv = docker_run(
        container="vllm-nemotron",
        image="vllm/vllm-openai:v0.12.0",
        gpus=["--gpus", '"device=0,1"'],
        cache_dir="/data/hf",
        plugin_dir="/var/lib/vllm/plugins",
        plugins=["nano_v3_reasoning_parser.py"],
        env={"VLLM_LOGGING_LEVEL": "DEBUG"},
        secret_path="/etc/vllm/nemotron.env",
        argv=["org/model", "--port", "8000"],
    )
    # fmt: off
    assert argv == (
        "/usr/bin/docker", "run", "--rm", "--init", "--name", "vllm-nemotron", "--network", "host", "--ipc", "host",
        "--cap-drop", "ALL", "--cap-add", "DAC_OVERRIDE", "--security-opt", "no-new-privileges", "--log-driver", "none",
        "--gpus", '"device=0,1"', "--volume", "/data/hf:/root/.cache/huggingface:ro",
        "--volume", "/var/lib/vllm/plugins/nano_v3_reasoning_parser.py:/vllm-workspace/nano_v3_reasoning_parser.py:ro",
        "--workdir", "/vllm-workspace",
        "--env", "HF_HOME=/root/.cache/huggingface", "--env", "HF_HUB_OFFLINE=1",
        "--env", "HF_MODULES_CACHE=/tmp/hf-modules",
        "--env", "VLLM_LOGGING_LEVEL=DEBUG", "--env-file", "/etc/vllm/nemotron.env",
        "--entrypoint", "vllm", "vllm/vllm-openai:v0.12.0", "serve", "org/model", "--port", "8000",
    )
    # fmt: on


def test_nothing_that_is_not_needed() -> None:
    argv = docker_run(
        container="c",
        image="i",
        gpus=["--gpus", "all"],
        cache_dir="/c",
        plugin_dir="/p",
        plugins=[],
        env={"HF_HUB_OFFLINE": "0"},
        secret_path=None,
        argv=["m"],
    )
    assert "--workdir" not in argv
    assert "--env-file" not in argv
    assert [argv[i + 1] for i, word in enumerate(argv) if word == "--env"] == [
        "HF_HOME=/root/.cache/huggingface",
        "HF_HUB_OFFLINE=0",
        "HF_MODULES_CACHE=/tmp/hf-modules",
    ]
    assert not any("TOKEN" in word for word in argv)


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"port": 1023}, ["--cap-add", "NET_BIND_SERVICE"]),
        ({"port": 1024}, []),
        ({"unified_memory": True}, ["--oom-score-adj", "500"]),
    ],
)
def test_what_only_some_servers_get(settings: dict[str, Any], flags: list[str]) -> None:
    common: dict[str, Any] = {"container": "c", "image": "i", "gpus": [], "cache_dir": "/c", "plugin_dir": "/p"}
    common |= {"plugins": [], "env": {}, "secret_path": None, "argv": ["m"]}
    more = list(docker_run(**common, **settings))
    for word in docker_run(**common):
        more.remove(word)
    assert more == flags


@pytest.mark.parametrize(
    ("gpus", "value"),
    [("all", "all"), (1, '"device=0"'), (2, '"device=0,1"'), ((3,), '"device=3"'), ((2, 0), '"device=2,0"')],
)
def test_gpus_value(gpus: str | int | tuple[int, ...], value: str) -> None:
    assert gpus_value(gpus) == value


@pytest.mark.parametrize(
    ("gpus", "flags"),
    [
        ("all", ["--device", "nvidia.com/gpu=all"]),
        (2, ["--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=1"]),
        ((3,), ["--device", "nvidia.com/gpu=3"]),
    ],
)
def test_gpus_as_devices(gpus: str | int | tuple[int, ...], flags: list[str]) -> None:
    assert gpu_flags(gpus, "cdi") == flags
    assert gpu_flags(gpus, "legacy") == ["--gpus", gpus_value(gpus)]
