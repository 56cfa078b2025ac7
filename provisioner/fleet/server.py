"""What a fleet file says of a server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from provisioner.fleet.base import Frozen
from provisioner.fleet.delivery import Image
from provisioner.fleet.formats import (
    DTYPE,
    PLUGIN,
    SERVED,
    Address,
    Count,
    Flag,
    HostName,
    Mount,
    Name,
    Port,
    SecretRef,
    Slo,
)
from provisioner.fleet.measuring import Baseline, Benchmark


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
    served_model_name: Annotated[str, StringConstraints(pattern=SERVED)] | None = None
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
    kv_cache_dtype: Annotated[str, StringConstraints(pattern=DTYPE)] | None = None
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
    tool_call_parser: Annotated[str, StringConstraints(pattern=DTYPE)] | None = None
    """How calls of tools are read; the guide: qwen3_coder."""
    reasoning_parser: Annotated[str, StringConstraints(pattern=DTYPE)] | None = None
    """How thinking is told from the answer; the guide: nano_v3, from the plugin. Newer images have nemotron_v3."""
    reasoning_parser_plugin: Annotated[str, StringConstraints(pattern=PLUGIN)] | None = None
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
