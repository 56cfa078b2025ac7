"""What the lab's infrastructure hands to whatever builds the engine images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Arch = Literal["amd64", "arm64"]
Engine = Literal["vllm", "sim"]
Suite = Literal["bookworm", "trixie"]
Report = Callable[[str], None]


@dataclass(frozen=True)
class EngineContext:
    """Where the engine images are built, and where they go.

    `docker_env` is the whole environment for the docker client (DOCKER_HOST and DOCKER_BUILDKIT=0
    are in it).  This machine pushes to `push_registry` (loopback, which every dockerd takes without TLS);
    hosts pull the same images from `pull_registry` (the lab network's gateway).  `base_image(arch)` gives the
    reference of a local Debian trixie image of that architecture, in this machine's Docker engine.
    """

    cache_dir: Path
    state_dir: Path
    docker_env: Mapping[str, str]
    push_registry: str  # "127.0.0.1:5001"
    pull_registry: str  # "172.30.77.1:5000"
    gateway: str  # "172.30.77.1"
    hub: str  # "127.0.0.1:41234", where the uplink finds the model hub
    archs: frozenset[Arch]  # the architectures of the hosts in the lab
    engines: frozenset[Engine]  # the engines wanted; "vllm" is real vLLM and exists for amd64 alone
    base_image: Callable[[Arch], str]
    mirror: str  # URL of the Debian mirror that this machine's apt uses

    @property
    def hub_root(self) -> Path:
        """What the model hub serves: OWNER/NAME/files. `engines.ensure` fills it before the hub starts."""
        return self.state_dir / "hub"

    @property
    def git_root(self) -> Path:
        """What `git daemon` exports: the repository in its folder `vllm` is git://GATEWAY/vllm."""
        return self.state_dir / "git"
