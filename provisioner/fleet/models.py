"""What an operator writes in a fleet file, after loading. Names here are the keys of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from provisioner.fleet.base import Frozen, Platform
from provisioner.fleet.notify import FORMATS as _NOTIFY_FORMATS
from provisioner.fleet.notify import Notify
from provisioner.fleet.rollout import FORMATS as _ROLLOUT_FORMATS
from provisioner.fleet.rollout import GROUP, Label, Rollout
from provisioner.fleet.schedule import FORMATS as _SCHEDULE_FORMATS
from provisioner.fleet.schedule import Schedule
from provisioner.fleet.slo import parse_objective

_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
_HOST = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$"
_ADDRESS = r"^(::|[A-Za-z0-9:]([A-Za-z0-9.:_%-]{0,251}[A-Za-z0-9])?)$"
_USER = r"^[A-Za-z_][A-Za-z0-9._-]{0,63}$"
_CACHE_DIR = r"^/[^\x00\n:]*[^\x00\n:/]$"
_IMAGE = r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9])?(@sha256:[0-9a-f]{64})?$"
_GIT = r"^((https?|ssh|git|file)://[^\s-]\S*|[A-Za-z0-9._]+@[A-Za-z0-9][A-Za-z0-9.-]*:\S+|/\S+)$"
_WORD = r"^[A-Za-z0-9_.][A-Za-z0-9_./+-]*$"
_DTYPE = r"^[A-Za-z0-9_]+$"
_PLUGIN = r"^[A-Za-z0-9_/][A-Za-z0-9_./-]*\.py$"
_DATASET = r"^[A-Za-z0-9_./][A-Za-z0-9_./@+-]*$"
_SERVED = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$"
_URL = r"^https?://[^\s@]+$"
_MOUNT = r"^/[^\x00-\x1f:]*:/[^\x00-\x1f:]*[^\x00-\x1f:/](:(ro|rw))?$"
_REFERENCE = r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+|command:.+|vault:[^#]+(#[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?"
_REGISTRY = r"^(https?://)?[A-Za-z0-9\[][^\s@]*$"
_REGISTRY_HOST = r"^((localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(:[0-9]{1,5})?|[A-Za-z0-9-]+:[0-9]{1,5})$"
_TAGGED = r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9._-])?:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
_USERNAME = r"^[^:\x00-\x1f]+$"
_VERSION = r"^[0-9]+\.[0-9]+\.[0-9]+$"
_SIZE = r"^[1-9][0-9]*[kmg]$"
_DIRECT = r"^[^\s,]+$"

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
    _PLUGIN: "a Python file, such as nano_v3_reasoning_parser.py",
    _DATASET: "a path or the name of a dataset",
    _SERVED: "a model name without spaces",
    _URL: "an address that starts with https:// or http://, without a user or password in it",
    _MOUNT: "a mount such as /data:/data:ro (path on the host, path in the container, ro or rw)",
    _REGISTRY: "the address of a registry, without a user or password in it",
    _REGISTRY_HOST: "a registry as image references begin with it, such as registry.example.com:5000",
    _TAGGED: "an image's name with a tag, such as vllm/vllm-openai:v0.12.0",
    _USERNAME: "a user name without a colon",
    **_NOTIFY_FORMATS,
    **_SCHEDULE_FORMATS,
    _VERSION: "a version such as 28.3.3",
    _SIZE: "a size such as 10m (k, m or g)",
    _DIRECT: "one name, .domain, address or network",
    **_ROLLOUT_FORMATS,
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
RegistryHost = Annotated[str, StringConstraints(pattern=_REGISTRY_HOST)]


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


def _objective(value: str) -> str:
    return str(parse_objective(value))


Slo = Annotated[str, AfterValidator(_objective)]
"""`METRIC >= NUMBER` or `METRIC <= NUMBER`; METRIC as vLLM's result JSON calls it."""


class Ssh(Frozen):
    """How hosts are reached; what is not said here comes from the SSH configuration."""

    config: Path | None = None
    """SSH configuration file, relative to the fleet file; default ~/.ssh/config."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """seconds for each step of connecting; wins over ConnectTimeout of the SSH configuration"""


class Host(Frozen):
    """One machine. Everything else is seen on it."""

    name: HostName
    address: Address | None = None
    """Name or IP address to connect to; default: the host's name, as the SSH configuration knows it."""
    port: Port | None = None
    """Port of the SSH server."""
    user: Annotated[str, StringConstraints(pattern=_USER)] | None = None
    """Who logs in; must be allowed sudo without a password."""
    identity_file: Path | None = None
    """Private key, relative to the fleet file."""
    platform: Platform | None = None
    """What the host is expected to be; a different machine is an error before anything is changed."""
    hardware: str | None = None
    """Hardware profile id, where detection by GPU name must be overruled."""
    labels: dict[Label, Label] = Field(default_factory=dict)
    """What it is grouped by in a rollout, such as `rack: a3`; labels of its groups are its own too."""
    groups: tuple[str, ...] = ()
    """groups of the fleet file and of inventories that it belongs to, without `all`"""
    notes: tuple[str, ...] = ()
    """what an operator should know about how it came here"""

    def batch(self, label: str) -> str | None:
        """The host's value of a label that a rollout goes by; `group` is its first group. None when it has none."""
        return next(iter(self.groups), None) if label == GROUP else self.labels.get(label)


class RegistryLogin(Frozen):
    """Who asks a registry for images."""

    username: Annotated[str, StringConstraints(pattern=_USERNAME)]
    """Name of the user, robot or deploy token; for nvcr.io: $oauthtoken."""
    password: SecretRef
    """Password or access token; hosts have it in memory, while they pull or build, and nowhere afterwards."""


class LogRotation(Frozen):
    """How much Docker keeps of what containers print. Servers of this file print to the journal alone."""

    max_size: Annotated[str, StringConstraints(pattern=_SIZE)] | None = None
    """Size of one file; Docker: without a limit."""
    max_files: Count | None = None
    """How many files a container may have; Docker: 1."""


class Proxies(Frozen):
    """How hosts reach registries, the model hub, git servers and docker.com's packages; from Docker 23.0 on."""

    http: Url | None = None
    """For http:// addresses."""
    https: Url | None = None
    """For https:// addresses; the proxy itself is mostly an http:// one."""
    no_proxy: tuple[Annotated[str, StringConstraints(pattern=_DIRECT)], ...] = ()
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
    version: Annotated[str, StringConstraints(pattern=_VERSION)] | None = None
    """Version of the engine, X.Y.Z; default: the one that is there, else the newest. An engine of another version is
    replaced by packages of its own source."""
    data_root: Annotated[str, StringConstraints(pattern=_CACHE_DIR)] | None = None
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
    download: Flag = True
    """false: the files are there already, such as on NFS. Nothing is downloaded or written, containers have the folder
    read-only, and a model that is not whole in it is an error before anything is changed."""


class Distribution(Frozen):
    """How images and model files reach the hosts."""

    mode: Literal["upstream", "mirror", "peers"] = "upstream"
    """upstream: every host fetches for itself. mirror: every host fetches from caches of yours. peers: one host fetches
    or builds, or has it already, and the others get it from each other. Short for it: `distribution: peers`."""
    registry: Url | None = None
    """With mirror: a pull-through cache of Docker Hub."""
    hub: Url | None = None
    """With mirror: a cache of the model hub."""
    port: Port = 7717
    """With peers: the port at which hosts give, while a run lasts."""
    limit_mib_s: Annotated[float, Field(gt=0)] | None = None
    """With peers: MiB a second that a host gives at most, to all others together; default: as many as there are."""


class Build(Frozen):
    """An image built on the host from source. Keys left out keep the recipe's values."""

    git: Annotated[str, StringConstraints(pattern=_GIT)] | None = None
    """The repository; the guide: https://github.com/vllm-project/vllm.git."""
    ref: Word | None = None
    """Branch, tag or commit; the guide: v0.12.0. A tag vX.Y.Z tells which vLLM it is."""
    dockerfile: Word | None = None
    """`-f`, within the repository; the guide: docker/Dockerfile."""
    target: Word | None = None
    """`--target`; the guide: vllm-openai."""
    args: dict[str, str] | None = None
    """`--build-arg`s; each one replaces the recipe's of that name, the others stay.

    The guide's for a DGX Spark: max_jobs (compilers at once: 12), RUN_WHEEL_CHECK (refuse a wheel that is too big:
    false), CUDA_VERSION (13.0.1), BUILD_BASE_IMAGE (nvidia/cuda:13.0.1-devel-ubuntu22.04), torch_cuda_arch_list
    (compute capabilities to compile for: 12.1).
    """


class Archive(Frozen):
    """A tar archive as `docker save` writes it, with one image; plain, or compressed with gzip, bzip2, xz or zstd."""

    path: Path
    """The file: relative to the fleet file, or with `at: host` an absolute path on the hosts, such as on NFS."""
    image: Annotated[str, StringConstraints(pattern=_TAGGED)]
    """What the image is called in it, and on the host once it is loaded."""
    at: Literal["control", "host"] = "control"
    """Where the file is: on the machine that runs provision, which copies it to the hosts, or on the hosts."""


class Image(Frozen):
    """Where a server's image comes from: `pull` a reference, `build` it on the host, or load it from an `archive`."""

    pull: ImageReference | None = None
    """Reference of an image: name with a tag, a digest or both."""
    build: Build | None = None
    archive: Archive | None = None


class Goodput(Frozen):
    """What a request may take to count as good."""

    ttft: Annotated[float, Field(gt=0)] | None = None
    """milliseconds to the first token"""
    tpot: Annotated[float, Field(gt=0)] | None = None
    """milliseconds a token after the first, on average"""
    e2el: Annotated[float, Field(gt=0)] | None = None
    """milliseconds to the last token"""


class Benchmark(Frozen):
    """`vllm bench serve` flags. Left out: the guide's figures on data-centre GPUs, scaled to the host elsewhere."""

    dataset_name: Word = "random"
    """Which dataset the prompts are from; the guide: random."""
    dataset_path: Annotated[str, StringConstraints(pattern=_DATASET)] | None = None
    """File or Hugging Face dataset, for datasets that need one; a path is looked up in the server's container."""
    random_input_len: Count | None = None
    """tokens a prompt, on average; the guide: 1024"""
    random_output_len: Count | None = None
    """tokens an answer, on average; the guide: 1024"""
    random_range_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Spread of both lengths, as a share of them; vLLM: 0, all alike."""
    random_prefix_len: Annotated[int, Field(ge=0, strict=True)] | None = None
    """tokens that all prompts begin with, besides random_input_len; vLLM: 0"""
    num_warmups: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Requests before the measurement; the guide: 20."""
    ignore_eos: Flag = True
    """Answers go on to their full length, past the end-of-sentence token; the guide's setting."""
    max_concurrency: Count | None = None
    """Requests in flight at most; the guide: the server's max_num_seqs, 1024 without one."""
    num_prompts: Count | None = None
    """Requests in all; the guide: 2048, at least five times max_concurrency to measure the steady state."""
    time_budget_s: Count | None = None
    """seconds that the requests may take, about: what the host has shown, or before that a short calibration, tells how
    many fit, whole rounds of max_concurrency up to num_prompts. Left out: 600 where neither num_prompts nor the guide's
    2048 apply."""
    request_rate: Annotated[float, Field(gt=0)] | None = None
    """requests a second; vLLM: all at once (up to max_concurrency)"""
    burstiness: Annotated[float, Field(gt=0)] | None = None
    """How request_rate varies: 1 is a Poisson process, less is burstier, more is more even; vLLM: 1."""
    seed: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Of the random prompts; vLLM: 0."""
    percentile_metrics: Annotated[tuple[Literal["ttft", "tpot", "itl", "e2el"], ...], Field(min_length=1)] = (
        "ttft",
        "tpot",
        "itl",
        "e2el",
    )
    """What is reported of time to first token, time per output token, inter-token and whole latency. The first three
    always are, and what `slo` names."""
    metric_percentiles: tuple[Annotated[float, Field(gt=0, lt=100)], ...] = ()
    """Which percentiles; 99 and those that `slo` names are always asked for."""
    goodput: Goodput = Goodput()
    ready_check_timeout_s: Annotated[int, Field(ge=0, strict=True)] = 600
    """seconds that the client waits for the server; 0 does not wait, as vLLM does from 0.14 on unless told"""
    extra_args: tuple[str, ...] = ()
    """More flags of `vllm bench serve`, as they are."""
    timeout_s: Count = 3600
    """seconds after which the client is ended"""


Figure = Literal[
    "output_throughput",
    "total_token_throughput",
    "request_throughput",
    "mean_ttft_ms",
    "median_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "median_tpot_ms",
    "p99_tpot_ms",
    "mean_itl_ms",
    "median_itl_ms",
    "p99_itl_ms",
    "mean_e2el_ms",
    "median_e2el_ms",
    "p99_e2el_ms",
]
"""Figures of a benchmark, as vLLM's result file calls them."""
Percent = Annotated[float, Field(gt=0, lt=50)]


class Baseline(Frozen):
    """What a benchmark is compared with: what this host, and hosts like it, have shown they can do."""

    against: Literal["both", "host", "peers", "nothing"] = "both"
    """This host's own accepted benchmarks, those of other hosts with the same hardware and workload, both, or none."""
    figures: Annotated[tuple[Figure, ...], Field(min_length=1)] = ("output_throughput",)
    """Which figures are compared; each one may fail the gate."""
    tolerance_percent: Percent = 3.0
    """A loss up to this is none."""
    confidence_percent: Annotated[float, Field(ge=80, lt=100)] = 99.0
    """How sure it must be that a figure lost more than that, before the gate fails."""
    benchmarks: Annotated[int, Field(ge=1, le=20, strict=True)] = 5
    """Benchmarks of one validation at most. More than one is run only when the first one looks like a loss; from 2 on
    no single benchmark fails the gate."""
    noise_percent: Percent = 1.5
    """How much benchmarks of one host differ by themselves (standard deviation), to begin with: it counts like eight
    benchmarks beside those that were measured."""
    spread_percent: Percent = 3.0
    """How much hosts alike differ (standard deviation), to begin with: it counts like four hosts."""
    accept: Literal["passed", "manual"] = "passed"
    """What becomes part of the baseline: what passed all gates, or only what `provision baseline accept` names."""


class Server(Frozen):
    """One vLLM endpoint, placed on every host named (all of the fleet by default)."""

    name: Name
    recipe: str
    """The recipe: its alias, slug or a model id."""
    variant: str | None = None
    """Variant of the recipe; default: fp8 where the hardware's profile prefers it, else the recipe's default."""
    hosts: tuple[HostName, ...] | None = None
    image: dict[str, Image] = Field(default_factory=dict)
    """By `linux/amd64`, `linux/arm64`, a hardware id or `default`; the most exact wins."""
    host: Address = "127.0.0.1"
    """Bind address (the guide's default)."""
    port: Port = 8000
    """Port to listen at (the guide's default)."""
    served_model_name: Annotated[str, StringConstraints(pattern=_SERVED)] | None = None
    """Name that clients ask for; vLLM: the model's id."""
    gpus: (
        Literal["all"] | Count | Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)]
    ) = "all"
    """All GPUs of the host, the first N of them, or those of these indexes."""
    ipc: Literal["host", "private", "shareable"] = "host"
    """`--ipc` of the container; the guide: host (the host's /dev/shm, which tensor parallelism needs much of)."""
    tensor_parallel_size: Count | None = None
    """GPUs that one model is spread over. More: lower latencies, less throughput a GPU (the guide)."""
    max_num_seqs: Count | None = None
    """Sequences in a batch at most. vLLM: 1024 on GPUs of 70 GiB and more, else 256. The guide: match the real
    concurrency; smaller may improve latencies."""
    max_model_len: Count | None = None
    """tokens of one request at most, prompt and answer together. vLLM: what the model supports; less saves memory."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that the server may take. vLLM: 0.9, from 0.22 on 0.92. At most 0.7 on a DGX Spark."""
    kv_cache_dtype: Annotated[str, StringConstraints(pattern=_DTYPE)] | None = None
    """The guide does not recommend tuning it: fp8 with the FP8 model, else auto, as the recipe has it."""
    mamba_ssm_cache_dtype: Literal["auto", "float32", "float16", "bfloat16"] | None = None
    """Data type of the Mamba state. The guide: float32 for the best accuracy; float16, after vLLM 0.12.0, is faster
    and almost as accurate. vLLM: bfloat16 up to 0.12.0, later what the model says, else float16."""
    async_scheduling: Flag | None = None
    """The guide does not recommend tuning it: always on, which hides the host's work between steps."""
    trust_remote_code: Flag | None = None
    """Run code from the model's repository; the guide: on."""
    enable_auto_tool_choice: Flag | None = None
    """Let the model decide when to call tools; needs tool_call_parser. The recipe's feature tool_calling sets both."""
    tool_call_parser: Annotated[str, StringConstraints(pattern=_DTYPE)] | None = None
    """How calls of tools are read; the guide: qwen3_coder."""
    reasoning_parser: Annotated[str, StringConstraints(pattern=_DTYPE)] | None = None
    """How thinking is told from the answer; the guide: nano_v3, from the plugin. Newer images have nemotron_v3."""
    reasoning_parser_plugin: Annotated[str, StringConstraints(pattern=_PLUGIN)] | None = None
    """File of the parser: a name is fetched from the model's repository, a path must be in the container."""
    allow_known_bad: tuple[str, ...] = ()
    """Ids of known-bad combinations (kernel, driver, toolkit, vLLM …) that are accepted here."""
    features: tuple[str, ...] = ()
    """Opt-in features of the recipe to turn on, besides those that are on anyway."""
    extra_args: tuple[str, ...] = ()
    """More arguments of `vllm serve`, one word an item; they come last."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment of the container, besides the recipe's."""
    mounts: tuple[Mount, ...] = ()
    """More folders or files of the host in the container: HOST_PATH:CONTAINER_PATH, with `:ro` to keep it from
    writing there."""
    api_key: SecretRef | None = None
    """What clients must send; without it, everybody who reaches the port is served."""
    health_timeout_s: Count = 1800
    """seconds until /health must answer (loading can take 15 minutes and more)"""
    slo: dict[str, tuple[Slo, ...]] = Field(default_factory=dict)
    """What the benchmark's figures must be, or the gate fails: `output_throughput >= 1000`, `p99_ttft_ms <= 2000` (the
    keys of vLLM's result JSON, `output_throughput_per_gpu`, `goodput`). A list, or lists by `linux/amd64`,
    `linux/arm64`, a hardware id or `default`; the most exact wins."""
    drain_timeout_s: Annotated[int, Field(ge=0, strict=True)] = 0
    """seconds that a server which must restart may go on answering; it restarts when no request is left, or then"""
    open_firewall: Flag = False
    """Open the port in the host's firewall (ufw or firewalld), where one is active. One that a run has opened is closed
    again when no server of the host wants it any more."""
    benchmark: Benchmark = Benchmark()
    baseline: Baseline = Baseline()


class Fleet(Frozen):
    """A whole fleet file."""

    name: Name = "fleet"
    path: Path
    """the file it came from"""
    ssh: Ssh = Ssh()
    docker: Docker = Docker()
    hub: Hub = Hub()
    weights: Weights = Weights()
    distribution: Distribution = Distribution()
    rollout: Rollout = Rollout()
    schedule: Schedule = Schedule()
    notify: tuple[Notify, ...] = ()
    """who is told about rollouts"""
    recipes: tuple[Path, ...] = ()
    """folders with more recipes: `recipes/` beside the file, then those that it names (a clone of the public ones)"""
    hosts: tuple[Host, ...]
    servers: tuple[Server, ...]
    """as `defaults` and `servers` say, without what groups and hosts say otherwise"""
    certificates: dict[str, str] = Field(default_factory=dict)
    """by registry: the text of the file in docker.registry_cas"""
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
