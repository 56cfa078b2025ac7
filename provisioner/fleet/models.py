"""What an operator writes in a fleet file, after loading. Names here are the keys of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from provisioner.fleet.base import Frozen, Platform

_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
_HOST = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$"
_ADDRESS = r"^(::|[A-Za-z0-9:]([A-Za-z0-9.:_%-]{0,251}[A-Za-z0-9])?)$"
_USER = r"^[A-Za-z_][A-Za-z0-9._-]{0,63}$"
_CACHE_DIR = r"^/[^\x00\n:]*[^\x00\n:/]$"
_IMAGE = r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9])?(@sha256:[0-9a-f]{64})?$"
_GIT = r"^((https?|ssh|git|file)://[^\s-]\S*|[A-Za-z0-9._]+@[A-Za-z0-9][A-Za-z0-9.-]*:\S+|/\S+)$"
_WORD = r"^[A-Za-z0-9_.][A-Za-z0-9_./+-]*$"
_DTYPE = r"^[A-Za-z0-9_]+$"
_SERVED = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$"
_URL = r"^https?://[^\s@]+$"
_MOUNT = r"^/[^\x00-\x1f:]*:/[^\x00-\x1f:]*[^\x00-\x1f:/](:(ro|rw))?$"
_REFERENCE = r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+|command:.+|vault:[^#]+(#[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?"
_REGISTRY = r"^(https?://)?[A-Za-z0-9\[][^\s@]*$"

FORMATS = {
    _NAME: "lower-case letters, digits and dashes (at most 40)",
    _HOST: "a host name (letters, digits, dots, dashes)",
    _ADDRESS: "a host name or an IP address",
    _USER: "a user name",
    _CACHE_DIR: "an absolute path without colons and without a slash at its end",
    _IMAGE: "an image reference such as vllm/vllm-openai:v0.12.0",
    _GIT: "the address of a git repository (https://…, ssh://…, user@host:path or an absolute path)",
    _WORD: "a single word of letters, digits and . _ / + -",
    _DTYPE: "a single word of letters, digits and underscores",
    _SERVED: "a model name without spaces",
    _URL: "an address that starts with https:// or http://, without a user or password in it",
    _MOUNT: "a mount such as /data:/data:ro (path on the host, path in the container, ro or rw)",
    _REGISTRY: "the address of a registry, without a user or password in it",
}
"""Patterns of the fields, in words. Most of them end on command lines: none begins with a dash."""

Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, StringConstraints(pattern=_NAME)]
HostName = Annotated[str, StringConstraints(pattern=_HOST)]
Address = Annotated[str, StringConstraints(pattern=_ADDRESS)]
ImageReference = Annotated[str, StringConstraints(pattern=_IMAGE)]
Word = Annotated[str, StringConstraints(pattern=_WORD)]
Url = Annotated[str, StringConstraints(pattern=_URL)]
Mount = Annotated[str, StringConstraints(pattern=_MOUNT)]
Registry = Annotated[str, StringConstraints(pattern=_REGISTRY)]


def _reference(value: str) -> str:
    if not re.fullmatch(_REFERENCE, value):
        raise ValueError(
            "expected a reference to a secret, not the secret itself: "
            "env:NAME, file:PATH, command:CMD or vault:FILE#KEY"
        )
    return value


SecretRef = Annotated[
    str, AfterValidator(_reference), WithJsonSchema({"type": "string", "pattern": "^(env|file|command|vault):."})
]
"""Where a secret is, never the secret: `env:NAME`, `file:PATH` (relative to the fleet file), `command:CMD`, or
`vault:FILE#KEY`, a key (`outer.inner`) of a YAML file that Ansible Vault has encrypted; without a key, the file's text.
"""


class Ssh(Frozen):
    """How hosts are reached; what is not said here comes from the SSH configuration."""

    config: Path | None = None
    """SSH configuration file, relative to the fleet file; default ~/.ssh/config."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0


class Host(Frozen):
    """One machine. Everything else is seen on it."""

    name: HostName
    address: Address | None = None
    port: Port | None = None
    user: Annotated[str, StringConstraints(pattern=_USER)] | None = None
    identity_file: Path | None = None
    platform: Platform | None = None
    """What the host is expected to be; a different machine is an error before anything is changed."""
    hardware: str | None = None
    """Hardware profile id, where detection by GPU name must be overruled."""
    notes: tuple[str, ...] = ()
    """what an operator should know about how it came here"""


class Docker(Frozen):
    """The Docker engine of the hosts. An engine that works is used as it is."""

    source: Literal["auto", "distribution", "docker.com"] = "auto"
    registry_mirrors: tuple[Registry, ...] = ()
    insecure_registries: tuple[Registry, ...] = ()
    min_free_gib: Annotated[int, Field(ge=0, strict=True)] = 30
    """GiB that must be free before an image is pulled or built (vllm/vllm-openai unpacks to more than 20 GB)"""


class Hub(Frozen):
    """Where models come from."""

    endpoint: Url | None = None
    """HF_ENDPOINT of the downloads; default: Hugging Face."""
    token: SecretRef | None = None
    """HF_TOKEN, given to the download alone."""


class Weights(Frozen):
    """Where model files are kept on the hosts."""

    cache_dir: Annotated[str, StringConstraints(pattern=_CACHE_DIR)] = "/var/lib/vllm/huggingface"
    """HF_HOME on the host, mounted into every container."""


class Build(Frozen):
    """An image built on the host from source. Keys left out keep the recipe's values."""

    git: Annotated[str, StringConstraints(pattern=_GIT)] | None = None
    ref: Word | None = None
    dockerfile: Word | None = None
    target: Word | None = None
    args: dict[str, str] | None = None
    """Build arguments; each one replaces the recipe's of that name, the others stay."""


class Image(Frozen):
    """Where a server's image comes from: `pull` a reference or `build` it on the host."""

    pull: ImageReference | None = None
    build: Build | None = None


class Benchmark(Frozen):
    """`vllm bench serve` flags. Left out: the guide's figures on data-centre GPUs, scaled to the host elsewhere."""

    random_input_len: Count | None = None
    """tokens a prompt"""
    random_output_len: Count | None = None
    """tokens an answer"""
    num_warmups: Annotated[int, Field(ge=0, strict=True)] | None = None
    max_concurrency: Count | None = None
    num_prompts: Count | None = None
    timeout_s: Count = 3600


class Server(Frozen):
    """One vLLM endpoint, placed on every host named (all of the fleet by default)."""

    name: Name
    recipe: str
    variant: str | None = None
    """Variant of the recipe; default: fp8 where the hardware's profile prefers it, else the recipe's default."""
    hosts: tuple[HostName, ...] | None = None
    image: dict[str, Image] = Field(default_factory=dict)
    """By `linux/amd64`, `linux/arm64`, a hardware id or `default`; the most exact wins."""
    host: Address = "127.0.0.1"
    """Bind address (the guide's default)."""
    port: Port = 8000
    served_model_name: Annotated[str, StringConstraints(pattern=_SERVED)] | None = None
    gpus: (
        Literal["all"] | Count | Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)]
    ) = "all"
    """All GPUs of the host, the first N of them, or those of these indexes."""
    tensor_parallel_size: Count | None = None
    max_num_seqs: Count | None = None
    max_model_len: Count | None = None
    kv_cache_dtype: Annotated[str, StringConstraints(pattern=_DTYPE)] | None = None
    mamba_ssm_cache_dtype: Literal["auto", "float32", "float16", "bfloat16"] | None = None
    async_scheduling: Flag | None = None
    features: tuple[str, ...] = ()
    """Opt-in features of the recipe to turn on, besides those that are on anyway."""
    extra_args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    """Environment of the container, besides the recipe's."""
    mounts: tuple[Mount, ...] = ()
    """More folders or files of the host in the container: HOST_PATH:CONTAINER_PATH, with `:ro` to keep it from
    writing there."""
    api_key: SecretRef | None = None
    """What clients must send; without it, everybody who reaches the port is served."""
    health_timeout_s: Count = 1800
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
    recipes: tuple[Path, ...] = ()
    """folders with more recipes (a clone of the public ones), relative to the fleet file"""
    hosts: tuple[Host, ...]
    servers: tuple[Server, ...]
    """as `defaults` and `servers` say, without what groups and hosts say otherwise"""
    placed: dict[str, tuple[Server, ...]] | None = None
    """by host: its servers as they are there; None: those of `servers` that name it"""

    def host(self, name: str) -> Host:
        """The host of that name; KeyError when there is none."""
        return self._by_name[name]

    def servers_on(self, host: str) -> tuple[Server, ...]:
        """The servers of a host, in the file's order, with what its groups and itself say otherwise."""
        if self.placed is not None:
            return self.placed.get(host, ())
        return tuple(server for server in self.servers if server.hosts is None or host in server.hosts)

    def recipe_names(self) -> tuple[str, ...]:
        """Every recipe that a server of some host uses, once."""
        lists = (self.servers,) if self.placed is None else tuple(self.placed.values())
        distinct = {id(servers): servers for servers in lists}  # hosts alike share one list
        return tuple(dict.fromkeys(server.recipe for servers in distinct.values() for server in servers))

    @cached_property
    def _by_name(self) -> dict[str, Host]:
        return {host.name: host for host in self.hosts}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; the index of hosts is made anew."""
        made = super().model_copy(update=update, deep=deep)
        made.__dict__.pop("_by_name", None)
        return made
