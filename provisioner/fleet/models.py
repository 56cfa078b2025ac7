"""What an operator writes in a fleet file, after loading. Names here are the keys of the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from provisioner.fleet.base import Frozen, Platform

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$")]


def _reference(value: str) -> str:
    if not re.fullmatch(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|command:.+)", value):
        raise ValueError("expected a reference to a secret, not the secret itself: env:NAME, file:PATH or command:CMD")
    return value


SecretRef = Annotated[str, AfterValidator(_reference)]
"""Where a secret is: `env:NAME`, `file:PATH` (relative to the fleet file) or `command:CMD`. Never the secret."""


class Ssh(Frozen):
    """How hosts are reached; what is not said here comes from the SSH configuration."""

    config: Path | None = None
    """SSH configuration file, relative to the fleet file; default ~/.ssh/config."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 10.0


class Host(Frozen):
    """One machine. Everything else is seen on it."""

    name: HostName
    address: str | None = None
    port: Port | None = None
    user: str | None = None
    identity_file: Path | None = None
    platform: Platform | None = None
    """What the host is expected to be; a different machine is an error before anything is changed."""
    hardware: str | None = None
    """Hardware profile id, where detection by GPU name must be overruled."""


class Docker(Frozen):
    """The Docker engine of the hosts. An engine that works is used as it is."""

    source: Literal["auto", "distribution", "docker.com"] = "auto"
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    min_free_gib: Annotated[int, Field(ge=0)] = 30
    """GiB that must be free before an image is pulled or built (vllm/vllm-openai unpacks to more than 20 GB)"""


class Hub(Frozen):
    """Where models come from."""

    endpoint: str | None = None
    """HF_ENDPOINT of the downloads; default: Hugging Face."""
    token: SecretRef | None = None
    """HF_TOKEN, given to the download alone."""


class Weights(Frozen):
    """Where model files are kept on the hosts."""

    cache_dir: Annotated[str, StringConstraints(pattern=r"^/[^\x00\n:]*[^\x00\n:/]$")] = "/var/lib/vllm/huggingface"
    """HF_HOME on the host, mounted into every container."""


class Build(Frozen):
    """An image built on the host from source. Keys left out keep the recipe's values."""

    git: str | None = None
    ref: str | None = None
    dockerfile: str | None = None
    target: str | None = None
    args: dict[str, str] | None = None
    """Build arguments; each one replaces the recipe's of that name, the others stay."""


class Image(Frozen):
    """Where a server's image comes from: `pull` a reference or `build` it on the host."""

    pull: str | None = None
    build: Build | None = None


class Benchmark(Frozen):
    """`vllm bench serve` flags. Left out: the guide's figures on data-centre GPUs, scaled to the host elsewhere."""

    random_input_len: Annotated[int, Field(ge=1)] | None = None
    """tokens a prompt"""
    random_output_len: Annotated[int, Field(ge=1)] | None = None
    """tokens an answer"""
    num_warmups: Annotated[int, Field(ge=0)] | None = None
    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    num_prompts: Annotated[int, Field(ge=1)] | None = None
    timeout_s: Annotated[int, Field(ge=1)] = 3600


class Server(Frozen):
    """One vLLM endpoint, placed on every host named (all of the fleet by default)."""

    name: Name
    recipe: str
    variant: str | None = None
    """Variant of the recipe; default: fp8 where the hardware's profile prefers it, else the recipe's default."""
    hosts: tuple[HostName, ...] | None = None
    image: dict[str, Image] = Field(default_factory=dict)
    """By `linux/amd64`, `linux/arm64`, a hardware id or `default`; the most exact wins."""
    host: str = "127.0.0.1"
    """Bind address (the guide's default)."""
    port: Port = 8000
    served_model_name: str | None = None
    gpus: Literal["all"] | Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=0)], ...] = "all"
    tensor_parallel_size: Annotated[int, Field(ge=1)] | None = None
    max_num_seqs: Annotated[int, Field(ge=1)] | None = None
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    kv_cache_dtype: str | None = None
    mamba_ssm_cache_dtype: Literal["auto", "float32", "float16", "bfloat16"] | None = None
    async_scheduling: bool | None = None
    extra_args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    api_key: SecretRef | None = None
    health_timeout_s: Annotated[int, Field(ge=1)] = 1800
    """seconds until /health must answer (loading can take 15 minutes and more)"""
    benchmark: Benchmark = Benchmark()


class Fleet(Frozen):
    """A whole fleet file."""

    name: Name = "fleet"
    path: Path
    """the file it came from"""
    ssh: Ssh = Ssh()
    docker: Docker = Docker()
    hub: Hub = Hub()
    weights: Weights = Weights()
    hosts: tuple[Host, ...]
    servers: tuple[Server, ...]

    def host(self, name: str) -> Host:
        """The host of that name; KeyError when there is none."""
        return next(host for host in self.hosts if host.name == name)

    def servers_on(self, host: str) -> tuple[Server, ...]:
        """The servers placed on a host, in the file's order."""
        return tuple(server for server in self.servers if server.hosts is None or host in server.hosts)
