"""What a fleet file says of the hosts' Docker engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from provisioner.fleet.base import Frozen
from provisioner.fleet.formats import (
    CACHE_DIR,
    DIRECT,
    SIZE,
    USERNAME,
    VERSION,
    Count,
    Flag,
    Registry,
    RegistryHost,
    SecretRef,
    Url,
)


class RegistryLogin(Frozen):
    """Who asks a registry for images."""

    username: Annotated[str, StringConstraints(pattern=USERNAME)]
    """Name of the user, robot or deploy token; for nvcr.io: $oauthtoken."""
    password: SecretRef
    """Password or access token; hosts have it in memory, while they pull or build, and nowhere afterwards."""


class LogRotation(Frozen):
    """How much Docker keeps of what containers print. Servers of this file print to the journal alone."""

    max_size: Annotated[str, StringConstraints(pattern=SIZE)] | None = None
    """Size of one file; Docker: without a limit."""
    max_files: Count | None = None
    """How many files a container may have; Docker: 1."""


class Proxies(Frozen):
    """How hosts reach registries, the model hub, git servers and docker.com's packages; from Docker 23.0 on."""

    http: Url | None = None
    """For http:// addresses."""
    https: Url | None = None
    """For https:// addresses; the proxy itself is mostly an http:// one."""
    no_proxy: tuple[Annotated[str, StringConstraints(pattern=DIRECT)], ...] = ()
    """What is reached without: names, .domains, addresses, networks."""


class Docker(Frozen):
    """The Docker engine of the hosts. An engine that works is used as it is."""

    source: Literal["auto", "distribution", "docker.com"] = "auto"
    """Where packages come from. auto: what works is kept, else docker.com's repository or the distribution's."""
    registry_mirrors: tuple[Registry, ...] = ()
    """Pull-through mirrors of Docker Hub."""
    insecure_registries: tuple[Registry, ...] = ()
    """Registries without TLS."""
    registries: dict[RegistryHost, RegistryLogin] = Field(default_factory=dict)
    """Logins of private registries, by the name that image references begin with; Docker Hub is docker.io."""
    version: Annotated[str, StringConstraints(pattern=VERSION)] | None = None
    """Version of the engine, X.Y.Z; default: the one that is there, else the newest. An engine of another version is
    replaced by packages of its own source."""
    data_root: Annotated[str, StringConstraints(pattern=CACHE_DIR)] | None = None
    """Where images and containers are kept; Docker: /var/lib/docker. What an engine has elsewhere is never moved."""
    logs: LogRotation = LogRotation()
    proxies: Proxies = Proxies()
    registry_cas: dict[RegistryHost, Path] = Field(default_factory=dict)
    """By registry: the file (PEM) with the certificate of the authority that signed the registry's own."""
    gpus: Literal["legacy", "cdi"] = "legacy"
    """How containers get GPUs. legacy: NVIDIA's hook, `--gpus`. cdi: device specifications, which need Docker 25; GPUs
    that came so are there after a reload of systemd, too, where others may get lost."""
    stop_others: Flag = False
    """Whether a restart of Docker may stop containers of others. It is restarted for a setting that needs it, for
    another version and for GPUs; with live-restore on, containers run on."""
    min_free_gib: Annotated[int, Field(ge=0, strict=True)] = 30
    """GiB that must be free before an image is fetched or built (vllm/vllm-openai unpacks to more than 20 GB)"""
    keep_images: Annotated[int, Field(ge=0, strict=True)] = 1
    """How many earlier sets of images a host keeps, to go back to. Older ones are removed when a new image comes, of
    those that were fetched or built by a run, and no others."""
