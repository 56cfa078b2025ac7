"""The foreground `docker run` of a server: the guide's run_container.sh, told to start the server itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

HF_HOME = "/root/.cache/huggingface"
"""HF_HOME inside the containers"""
MODULES_CACHE = "/tmp/hf-modules"  # noqa: S108  in the container, which has /tmp for itself
"""where code that comes with a model is unpacked"""
_FIRST_FREE_PORT = 1024
WORKDIR = "/vllm-workspace"
"""working directory of the vLLM images, where the guide's relative plugin path is looked up"""


def docker_run(
    *,
    container: str,
    image: str,
    gpus: Sequence[str],
    ipc: str = "host",
    cache_dir: str,
    plugin_dir: str,
    plugins: Sequence[str],
    labels: Mapping[str, str] | None = None,
    mounts: Sequence[str] = (),
    env: Mapping[str, str],
    secret_path: str | None,
    argv: Sequence[str],
    port: int = 8000,
    unified_memory: bool = False,
) -> tuple[str, ...]:
    """The whole command; `argv` is what follows `vllm serve`, `port` what it listens at.

    The container shares the host's network, so that the guide's --host and --port mean what they say: a server
    bound to 127.0.0.1 is reachable from the host alone (ports published by Docker are not always).
    Models come from the cache directory only, which is read-only here: the token that downloaded them is not needed
    any more, and code that comes with a model (--trust-remote-code) is unpacked in the container. Of root's powers a
    server keeps two: reading mounted files of other users, and listening at a port below 1024 where it has one.
    Where GPU and host share the memory, the kernel ends the server first when there is no more, not the machine's sshd.
    Docker keeps no log: the unit's journal is the log, and it has limits.
    Docker's init is the first process (docker-init, part of Docker since 1.13). The kernel lets no SIGTERM end a first
    process that has no handler for it, and vLLM has none while it loads a model: each stop would take its whole time.
    The init also reaps workers that lost their parent; where nobody does, containers have been left that could not be
    restarted (https://github.com/NVIDIA/NemoClaw/issues/7219).
    """
    words = ["/usr/bin/docker", "run", "--rm", "--init", "--name", container, "--network", "host", "--ipc", ipc]
    words += ["--cap-drop", "ALL", "--cap-add", "DAC_OVERRIDE"]
    words += ["--cap-add", "NET_BIND_SERVICE"] if port < _FIRST_FREE_PORT else []
    words += ["--security-opt", "no-new-privileges", "--log-driver", "none"]
    words += ["--oom-score-adj", "500"] if unified_memory else []
    words += [*gpus, "--volume", f"{cache_dir}:{HF_HOME}:ro"]
    for plugin in plugins:
        words += ["--volume", f"{plugin_dir}/{plugin}:{WORKDIR}/{plugin}:ro"]
    words += [word for mount in mounts for word in ("--volume", mount)]
    if plugins:
        words += ["--workdir", WORKDIR]
    for name, value in (labels or {}).items():
        words += ["--label", f"{name}={value}"]
    own = {"HF_HOME": HF_HOME, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": MODULES_CACHE}
    for name, value in {**own, **env}.items():
        words += ["--env", f"{name}={value}"]
    if secret_path:
        words += ["--env-file", secret_path]
    return (*words, "--entrypoint", "vllm", image, "serve", *argv)


def snapshot(repo: str, commit: str) -> str:
    """Where the containers find a model at one commit: the layout of the hub client's cache."""
    return f"{HF_HOME}/hub/models--{repo.replace('/', '--')}/snapshots/{commit}"


def gpu_flags(gpus: str | int | Sequence[int], mode: Literal["legacy", "cdi"]) -> list[str]:
    """How the container gets its GPUs: by NVIDIA's hook, or as devices that a specification on the host describes."""
    if mode == "legacy":
        return ["--gpus", gpus_value(gpus)]
    names = ["all"] if gpus == "all" else range(gpus) if isinstance(gpus, int) else gpus
    return [word for name in names for word in ("--device", f"nvidia.com/gpu={name}")]


def gpus_value(gpus: str | int | Sequence[int]) -> str:
    """What `--gpus` takes: `all`, or a quoted device list (docker reads the value as CSV)."""
    if gpus == "all":
        return "all"
    indices = range(gpus) if isinstance(gpus, int) else gpus
    return '"device=' + ",".join(str(index) for index in indices) + '"'
