"""The host plan: everything a host should have, resolved. Frozen data that can be printed, hashed and compared."""

from __future__ import annotations

from typing import Any, Literal

from provisioner.fleet.base import Frozen, Platform
from provisioner.fleet.slo import Objective


def connect_address(bind: str) -> str:
    """Where a client on the host finds a server that is bound to `bind`."""
    return "127.0.0.1" if bind in ("0.0.0.0", "::", "") else bind  # noqa: S104 - compared, not bound


class File(Frozen):
    """A public file as it will stand on the host."""

    path: str
    content: str
    mode: str = "0644"


class SecretFile(Frozen):
    """A root-only file of KEY=VALUE lines; the values are references, resolved last."""

    path: str
    entries: dict[str, str]
    """key → secret reference"""
    mode: str = "0600"


class BuildSource(Frozen):
    """An image built on the host."""

    git: str
    ref: str
    dockerfile: str
    target: str
    args: dict[str, str]


class Archive(Frozen):
    """A tar archive that an image is loaded from."""

    path: str
    """absolute"""
    at: Literal["control", "host"]
    """control: on this machine, from which it is copied to the host"""


class RegistryLogin(Frozen):
    """A login that the host needs while it fetches its images."""

    registry: str
    """host[:port] as image references begin with it; docker.io for Docker Hub"""
    username: str
    password: str
    """secret reference"""


class Image(Frozen):
    """An image that a host must have."""

    reference: str
    """the name the host runs it under: with its digest where that is locked; of a build: a hash of its inputs"""
    platform: Platform
    build: BuildSource | None = None
    archive: Archive | None = None
    """with neither build nor archive: pulled"""
    deploy_tag: str | None = None
    """the guide's `vllm/vllm-openai:deploy`: what is deployed here now"""
    vllm_version: str | None = None
    """X.Y.Z when the tag or git ref tells it"""


class Weights(Frozen):
    """A model repository that a host must have in its cache."""

    repo: str
    revision: str
    image: str
    """reference of the image whose `hf` downloads it"""


class Plugin(Frozen):
    """A parser plugin: one file of a model repository."""

    repo: str
    revision: str
    file: str
    image: str
    sha256: str = ""
    """of the file, where it is locked"""


class Calibration(Frozen):
    """How a time budget becomes a number of requests: one short round tells how long a whole one takes."""

    argv: tuple[str, ...]
    """after `vllm`: bench serve … with as many requests as are in flight at once"""
    concurrency: int
    output_len: int | None
    """tokens of every answer of the short round; None where it asks what the benchmark asks"""
    budget_s: int


class Benchmark(Frozen):
    """`vllm bench serve` of one server."""

    argv: tuple[str, ...]
    """after `vllm`: bench serve …"""
    num_prompts: int
    """requests; with `calibration` at most"""
    output_len: int | None
    """tokens of every answer; None where answers may end sooner or differ"""
    timeout_s: int
    mounts: tuple[str, ...] = ()
    """those of the server: a dataset may lie there"""
    calibration: Calibration | None = None
    """None: `num_prompts` is what it is"""


class Server(Frozen):
    """One vLLM server on one host."""

    name: str
    unit: str
    """vllm-<name>.service"""
    container: str
    recipe: str
    variant: str
    precision: str
    model_id: str
    served_model_name: str
    image: str
    host: str
    port: int
    gpus: str
    """value of --gpus: all, or "device=0,1\""""
    gpu_count: int
    argv: tuple[str, ...]
    """after the image's entrypoint `vllm serve`: the model and its flags"""
    docker_argv: tuple[str, ...]
    """the whole `docker run …` in the foreground"""
    env: dict[str, str]
    unit_file: File
    secret_file: SecretFile | None
    api_key: str | None
    """secret reference"""
    health_timeout_s: int
    drain_timeout_s: int = 0
    open_firewall: bool = False
    unified_memory: bool = False
    """GPU and host share one memory"""
    reasoning: bool
    tool_call_parser: str | None
    """None: the model may not decide to call tools"""
    log_stats: bool = True
    """whether /metrics tells about requests"""
    slo: tuple[Objective, ...] = ()
    benchmark: Benchmark

    @property
    def connect_to(self) -> str:
        """The address that a client on the host uses."""
        return connect_address(self.host)


class Absent(Frozen):
    """A server that is on the host and not in the fleet any more."""

    name: str
    unit: str
    container: str


class HostPlan(Frozen):
    """Everything one host should have."""

    host: str
    platform: Platform
    hardware: str
    """id of the hardware profile"""
    hardware_name: str
    """how reports call it: 2 × NVIDIA H200"""
    simulated: bool
    docker_source: Literal["auto", "distribution", "docker.com"]
    docker_config: dict[str, Any]
    """keys that must be in daemon.json"""
    docker_version: str | None = None
    """the only one that will do; None: whatever is there"""
    docker_stop_others: bool = False
    gpu_mode: Literal["legacy", "cdi"] = "legacy"
    check_cuda: bool = True
    """False: an image with a newer CUDA than the driver's is accepted here"""
    certificates: tuple[File, ...] = ()
    """of the authorities that registries trust in"""
    images: tuple[Image, ...]
    image_min_free_gib: int
    """free space that must be there before an image is fetched or built"""
    image_keep: int = 1
    """how many earlier sets of images stay on the host"""
    image_protected: tuple[str, ...] = ()
    """references of images that stay in any case: the host can go back to them"""
    registries: tuple[RegistryLogin, ...] = ()
    cache_dir: str
    weights_download: bool = True
    """False: the cache is filled by somebody else, and nothing is written there"""
    plugin_dir: str
    hub_endpoint: str | None
    hub_token: str | None
    """secret reference"""
    weights: tuple[Weights, ...]
    plugins: tuple[Plugin, ...]
    servers: tuple[Server, ...]
    absent: tuple[Absent, ...] = ()
    absent_files: tuple[str, ...] = ()
    """files of secrets that no server reads any more"""
    warnings: tuple[str, ...] = ()


class Change(Frozen):
    """One difference between what is and what should be."""

    role: Literal["docker_engine", "nvidia_container_toolkit", "vllm_image", "model_weights", "vllm_server"]
    subject: str
    """what changes: an image reference, a path, a unit"""
    reason: str
    before: str | None = None
    after: str | None = None
    """texts for a diff, where there are any"""


class Changes(Frozen):
    """All differences of one host; empty when it is as planned."""

    host: str
    changes: tuple[Change, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles with something to do, in the order of site.yml."""
        return tuple(dict.fromkeys(change.role for change in self.changes))

    def __bool__(self) -> bool:
        return bool(self.changes)
