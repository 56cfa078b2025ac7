"""Verdicts and results for tests of the history."""

from __future__ import annotations

from typing import Any

from provisioner.history.verdict import BenchmarkResult, ImageSeen, Latency, ServerVerdict


def result(output: float = 5000.0, **figures: Any) -> BenchmarkResult:
    latency = Latency(mean_ms=20.0, median_ms=19.0, p99_ms=40.0)
    values: dict[str, Any] = {
        "num_prompts": 32,
        "completed": 32,
        "failed": 0,
        "duration_s": 10.0,
        "total_input_tokens": 32768,
        "total_output_tokens": 32768,
        "request_throughput": 3.2,
        "output_throughput": output,
        "total_token_throughput": 2 * output,
        "ttft": latency,
        "tpot": latency,
        "itl": latency,
        "raw": {"output_throughput": output},
    }
    return BenchmarkResult(**(values | figures))


def verdict(
    host: str = "gpu-01", server: str = "nemotron", output: float | None = 5000.0, **changes: Any
) -> ServerVerdict:
    values: dict[str, Any] = {
        "host": host,
        "server": server,
        "platform": "linux/amd64",
        "hardware": "h200",
        "hardware_name": "1 × NVIDIA H200",
        "gpu_count": 1,
        "simulated": False,
        "image": ImageSeen(reference="vllm/vllm-openai:v0.12.0", id="sha256:" + "a" * 64),
        "variant": "fp8",
        "precision": "fp8",
        "model": "m",
        "endpoint": "http://127.0.0.1:8000",
        "version": "0.12.0",
        "benchmark": None if output is None else result(output),
        "passed": True,
    }
    return ServerVerdict(**(values | changes))
