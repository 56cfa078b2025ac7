"""The few docker client calls of the lab, each with a bound and a clear error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.lab.engine import docker_env
from provisioner.lab.process import run, succeeds

LABEL = "provision.lab"  # on everything that `down` removes


def docker(argv: Sequence[str], *, what: str, timeout: float = 60, data: bytes | None = None) -> str:
    """`docker ARGV`; its stdout. Raises LabError naming `what`."""
    return run(["docker", *argv], timeout=timeout, what=what, env=docker_env(), data=data)


def exists(kind: str, name: str) -> bool:
    """Whether an "image", "network" or "container" of that name is there."""
    return succeeds(["docker", kind, "inspect", name], timeout=30, env=docker_env())


def inspect(kind: str, names: Sequence[str]) -> list[Mapping[str, Any]]:
    """What `docker KIND inspect` says of each."""
    if not names:
        return []
    answer: list[Mapping[str, Any]] = json.loads(
        docker([kind, "inspect", *names], what=f"looking at {kind} {', '.join(names)}")
    )
    return answer


def labelled(kind: str) -> list[str]:
    """Names of the lab's own "container", "network" or "volume" things, running or not."""
    form = "{{.Names}}" if kind == "container" else "{{.Name}}"
    argv = [kind, "ls", *(["--all"] if kind == "container" else [])]
    argv += ["--filter", f"label={LABEL}", "--format", form]
    return docker(argv, what=f"listing the lab's {kind}s").split()
