"""What a probe saw on a host: real state at that moment, never what we remember having done. Pure data."""

from __future__ import annotations

from pydantic import Field

from provisioner.fleet.base import Frozen, Platform
from provisioner.plan.references import by_digest


class Gpu(Frozen):
    """One GPU as nvidia-smi tells it."""

    index: int
    name: str
    memory_mib: int | None
    """None on unified-memory machines, whose nvidia-smi says [N/A] (GB10)."""
    memory_used_mib: int | None = None
    compute_capability: str | None = None


class Docker(Frozen):
    """The Docker engine of the host."""

    version: str | None
    """Server version; None when the engine does not answer."""
    client_version: str | None = None
    package: str | None = None
    """docker-ce, docker.io, moby-engine …; None when it came some other way or is not installed"""
    buildx: bool = False
    root_dir: str | None = None
    storage_driver: str | None = None
    error: str = ""
    """why the engine does not answer, in its own words"""


class ImageFacts(Frozen):
    """One image in the engine's store."""

    id: str
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    architecture: str = ""


class Container(Frozen):
    """One container of ours (name starts with `vllm-`), running or not."""

    name: str
    id: str
    image_id: str
    argv: tuple[str, ...]
    """what the engine passed to the entrypoint"""
    running: bool
    started_at: str
    """RFC 3339, as the engine prints it"""


class Unit(Frozen):
    """One systemd unit."""

    name: str
    load_state: str
    active_state: str
    sub_state: str
    enabled: bool
    restarts: int = 0
    fragment_path: str = ""
    needs_reload: bool = False
    """the unit's file is newer than what systemd has read"""
    result: str = ""
    """how it ended last: success, exit-code, timeout, start-limit-hit …"""


class File(Frozen):
    """One file that we manage. `content` is only read for files the plan calls public."""

    path: str
    sha256: str
    mode: str
    """octal, such as 0644"""
    owner: str
    content: str | None = None


class Cached(Frozen):
    """One model repository in the cache directory, whoever brought it."""

    repo: str
    refs: dict[str, str] = Field(default_factory=dict)
    """branch or tag → commit"""
    snapshots: dict[str, str] = Field(default_factory=dict)
    """commit → what is missing of it; "" for a whole one"""


class Port(Frozen):
    """One listening TCP socket."""

    port: int
    address: str
    process: str
    """name of the process, or "" when it cannot be told"""
    container: str = ""
    """our container that listens, or \"\""""


class Facts(Frozen):
    """One host as it is now."""

    host: str
    hostname: str
    machine: str
    """uname -m"""
    kernel: str
    os_id: str
    os_version: str
    os_name: str
    sudo: bool
    """whether commands can run as root without a password"""
    systemd: bool
    cpus: int
    memory_mib: int
    memory_available_mib: int
    disk_free_mib: dict[str, int]
    """by path asked for: free space of the filesystem that holds (or will hold) it"""
    gpus: tuple[Gpu, ...]
    gpu_error: str = ""
    """what nvidia-smi said when it could not list the GPUs; "" when it could, or is not there"""
    driver_version: str | None = None
    cuda_version: str | None = None
    toolkit_version: str | None = None
    """nvidia-ctk's version; None when the toolkit is not installed"""
    gpu_runtime: bool = False
    """whether Docker would accept --gpus (runtime hook or CDI present)"""
    gpu_devices: bool = False
    """whether Docker would accept --device nvidia.com/gpu=… (it reads CDI, and there is a specification)"""
    simulated: bool = False
    """GPUs are a lab's stand-ins (/etc/lab-gpus.csv)"""
    docker: Docker
    images: tuple[ImageFacts, ...] = ()
    containers: tuple[Container, ...] = ()
    units: tuple[Unit, ...] = ()
    files: tuple[File, ...] = ()
    marked: tuple[str, ...] = ()
    """units and secret files that bear our mark, of whatever fleet file they came from"""
    ports: tuple[Port, ...] = ()
    weights: dict[str, str] = Field(default_factory=dict)
    """model repository → commit whose download on the host is complete (marker written by model_weights)"""
    cached: tuple[Cached, ...] = ()
    """of the repositories asked for, those that are there"""
    paths: dict[str, str] = Field(default_factory=dict)
    """what is at each path asked for: file, directory, other; "" for nothing"""
    health: dict[int, int] = Field(default_factory=dict)
    """by port asked for: status of GET /health; 0 when nothing answered within 3 s"""
    firewall: tuple[int, ...] | None = None
    """TCP ports that ufw or firewalld lets through; None: neither is active, or nobody asked"""
    opened_for_us: tuple[int, ...] = ()
    """those among them that were closed before a server of ours needed them"""
    boot_id: str = ""
    uptime_s: float | None = None
    """since it booted, by its own clock; None where the probe did not tell"""
    notes: tuple[str, ...] = ()
    """what the probe could not tell, and why: programs that hung, files that cannot be read, broken markers"""

    def image(self, reference: str) -> ImageFacts | None:
        """The image that the host has under this name, by its tag or by its digest; None when it has none."""
        name = by_digest(reference)
        return next((image for image in self.images if name in image.tags or name in image.digests), None)

    def content(self, path: str) -> str | None:
        """What is in a file whose content was asked for; None where it is not there."""
        return next((file.content for file in self.files if file.path == path), None)

    @property
    def platform(self) -> Platform | None:
        """The container platform of the machine; None for one that we have no images for."""
        return {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}.get(self.machine)  # type: ignore[return-value]  # its values are Platform
