"""What validation found out about a server: data that reports show and run directories keep.

It lives below `validate` because reports need it and must not know how it was measured.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from provisioner.fleet.base import Frozen, Platform


class CheckResult(Frozen):
    """One check of a server. A failed one carries what was asked, what came back and the server's last words."""

    name: str
    passed: bool
    detail: str
    seconds: float
    request: str = ""
    answer: str = ""
    log: str = ""
    skipped: bool = False
    """it could not be judged here, and `detail` says why; it counts as passed"""


class Latency(Frozen):
    """One latency of `vllm bench serve`, in milliseconds."""

    mean_ms: float
    median_ms: float
    p99_ms: float


class BenchmarkResult(Frozen):
    """The result JSON of one `vllm bench serve`; `raw` holds every key of it."""

    num_prompts: int
    completed: int
    failed: int
    duration_s: float
    total_input_tokens: int
    total_output_tokens: int
    request_throughput: float
    """requests/s"""
    output_throughput: float
    """generated tokens/s"""
    total_token_throughput: float
    """prompt and generated tokens/s"""
    ttft: Latency
    """time to first token"""
    tpot: Latency
    """time per output token after the first"""
    itl: Latency
    """inter-token latency"""
    e2el: Latency | None = None
    """end-to-end latency; None when it was not asked for"""
    raw: dict[str, Any] = Field(repr=False)


class ImageSeen(Frozen):
    """The image that a server runs, as the host's engine tells it."""

    reference: str
    id: str
    """sha256:… of the image in the host's store"""
    digest: str | None = None
    """sha256:… in the registry it was pulled from; None for an image built on the host"""
    engine: str | None = None
    """what the image's label says about its engine; None for images that have no such label"""
    build: str | None = None
    """what the image's label says about how it was built: cpu, lab; None for images that have no such label"""

    @property
    def short(self) -> str:
        """Twelve hex digits that tell images apart: of the registry's digest, or of the built image's id."""
        return (self.digest or self.id).removeprefix("sha256:")[:12]


class GpuReading(Frozen):
    """One GPU at one moment, as nvidia-smi tells it; None for what it does not tell ([N/A])."""

    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    memory_used_mib: float | None = None
    utilization_percent: float | None = None


class Spread(Frozen):
    """What a figure was over several readings."""

    lowest: float
    mean: float
    highest: float


class GpuLoad(Frozen):
    """One GPU while the benchmark ran: each figure of `GpuReading` over `readings` moments."""

    readings: int
    sm_clock_mhz: Spread | None = None
    memory_clock_mhz: Spread | None = None
    temperature_c: Spread | None = None
    power_w: Spread | None = None
    memory_used_mib: Spread | None = None
    utilization_percent: Spread | None = None


class GpuEvidence(Frozen):
    """One GPU before, during and after the benchmark."""

    index: int
    name: str
    before: GpuReading | None = None
    under_load: GpuLoad | None = None
    """None when the benchmark ended before the first reading"""
    after: GpuReading | None = None


class GpuProcess(Frozen):
    """A process that computed on a GPU beside the server's own."""

    pid: int
    name: str
    memory_mib: float | None = None


class Evidence(Frozen):
    """The circumstances that a benchmark's figures were measured under. What the host cannot tell is None or empty, and
    `notes` say why."""

    driver: str | None = None
    """version of the GPU driver"""
    image_digest: str | None = None
    """sha256:… of the running image in its registry, else its id on the host"""
    serve_argv: tuple[str, ...] = ()
    """what the server was started with, after `vllm`"""
    bench_argv: tuple[str, ...] = ()
    """what measured it, after `vllm`, as it was run"""
    gpus: tuple[GpuEvidence, ...] = ()
    cpus: int | None = None
    load_before: float | None = None
    """processes that ran or wanted to, on average over the last minute before the benchmark"""
    load_after: float | None = None
    other_gpu_processes: tuple[GpuProcess, ...] = ()
    """seen before or after it, outside the server's container"""
    notes: tuple[str, ...] = ()


def engine_of(image: ImageSeen | None) -> str:
    """What kind of engine an image says it is: `sim lab`, `vllm cpu`; "" for vLLM as released, and where it is not
    known. Figures of different kinds say nothing about each other."""
    return " ".join(filter(None, (image.engine, image.build))) if image else ""


class ServerVerdict(Frozen):
    """Everything one row of the final table needs, and why a server passed or did not."""

    host: str
    server: str
    platform: Platform
    hardware: str
    hardware_name: str
    gpu_count: int
    simulated: bool
    """the GPUs are stand-ins"""
    image: ImageSeen | None
    """None when the host could not tell it"""
    variant: str
    precision: str
    model: str
    endpoint: str
    """http://address:port on the host"""
    version: str | None = None
    """vLLM's version as the running server tells it"""
    health_s: float | None = None
    """seconds waited for /health; None when it never answered"""
    checks: tuple[CheckResult, ...] = ()
    chat_answer: str | None = None
    """what the server said in the plain chat"""
    benchmark: BenchmarkResult | None = None
    evidence: Evidence | None = None
    """what the benchmark was measured under; None without one"""
    passed: bool
    reasons: tuple[str, ...] = ()
    """why it did not pass; empty when it did"""
    log: str = ""
    """last lines of the server's log; empty when it passed"""
    exit_code: int = 0
    """what this verdict alone means for the program: 0, 1 (host failed), 3 (a gate failed), 4 (unreachable)"""

    @property
    def output_per_gpu(self) -> float | None:
        """Generated tokens/s a GPU; None without a benchmark."""
        return self.benchmark.output_throughput / max(self.gpu_count, 1) if self.benchmark else None
