"""The (simulated) GPUs of the container and how fast the stand-in pretends to be on them."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from dataclasses import dataclass

# Pretended seconds per token of one request, and seconds per 1000 prompt tokens: ordered like the real cards, and
# small enough for tests.  They are no measurement of anything.
_SPEEDS = (
    ("B300", 0.0020, 0.010), ("B200", 0.0022, 0.011), ("GB200", 0.0022, 0.011), ("H200", 0.0030, 0.016),
    ("H100", 0.0036, 0.018), ("A100", 0.0060, 0.040), ("L40", 0.0090, 0.060), ("GB10", 0.0120, 0.080),
)  # fmt: skip
_UNKNOWN = (0.0150, 0.100)


@dataclass(frozen=True)
class Hardware:
    """GPU names, in order; `token_s` and `prefill_s` (per 1000 prompt tokens) for one GPU, fault factor included."""

    gpus: tuple[str, ...]
    token_s: float
    prefill_s: float

    def token_seconds(self, tensor_parallel: int, running: int) -> float:
        """Seconds between two tokens of one request while `running` requests share the engine."""
        return self.token_s / math.sqrt(max(tensor_parallel, 1)) * (1 + max(running - 1, 0) / 64)


def detect() -> Hardware:
    """What nvidia-smi says in this container; no nvidia-smi means no GPU names and the slowest speed."""
    gpus = _gpu_names()
    token_s, prefill_s = next(
        ((token, prefill) for name, token, prefill in _SPEEDS if gpus and name in gpus[0]), _UNKNOWN
    )
    factor = slow_factor(os.environ.get("SIM_FAULT", ""))
    return Hardware(gpus, token_s * factor, prefill_s * factor)


def slow_factor(fault: str) -> float:
    """The FACTOR of SIM_FAULT=slow=FACTOR, else 1."""
    return float(fault.removeprefix("slow=")) if fault.startswith("slow=") else 1.0


def _gpu_names() -> tuple[str, ...]:
    if not shutil.which("nvidia-smi"):
        return ()
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return tuple(line.strip() for line in asked.stdout.splitlines() if line.strip()) if not asked.returncode else ()
