"""How reports call things and write numbers: the same in a terminal, on a page and in Markdown."""

from __future__ import annotations

from datetime import datetime

from provisioner.history.verdict import ImageSeen, Latency, ServerVerdict

GPU_STAND_IN = "simulated GPU"
NONE = "–"


def hardware_label(verdict: ServerVerdict) -> str:
    """`2 × NVIDIA H200`, with a word about simulated GPUs."""
    name = verdict.hardware_name or verdict.hardware
    return f"{name} ({GPU_STAND_IN})" if verdict.simulated and "simulated" not in name.lower() else name


def engine_label(verdict: ServerVerdict) -> str:
    """What really ran: `vLLM 0.12.0`, `vLLM 0.32.0 (CPU build)`, `sim engine 0.12.0`."""
    if verdict.image is None:
        return NONE
    name = _engine(verdict.image)
    version = f" {verdict.version}" if verdict.version else ""
    return f"{name}{version}{_build(verdict.image)}"


def number(value: float | None) -> str:
    """Three digits or so: `1535`, `61.0`, `5.28`; a dash for what is not known."""
    if value is None:
        return NONE
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def pair(latency: Latency) -> str:
    """Median and P99."""
    return f"{number(latency.median_ms)} / {number(latency.p99_ms)}"


def percent(change: float) -> str:
    """A relative change: 0.061 → `+6.1 %`."""
    return f"{change:+.1%}".replace("%", " %").replace("-", "−")


def moment(time: datetime) -> str:
    """`2026-11-24 11:23 UTC`, in the zone that `time` has."""
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".rstrip()


def day(time: datetime) -> str:
    """`24 Nov 11:23`."""
    return f"{time.day} {time:%b %H:%M}"


def count(many: int, word: str) -> str:
    """`1 host`, `2 hosts`."""
    return f"{many} {word}" if many == 1 else f"{many} {word}s"


def _engine(image: ImageSeen) -> str:
    # An image without a label is vLLM as released, or built for GPUs from its source.
    if image.engine in (None, "vllm"):
        return "vLLM"
    return "sim engine" if image.engine == "sim" else f"{image.engine} (stand-in)"


def _build(image: ImageSeen) -> str:
    return " (CPU build)" if image.engine == "vllm" and image.build == "cpu" else ""
