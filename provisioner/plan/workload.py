"""What makes two benchmarks comparable: the same load on the same model and as many GPUs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from provisioner.plan.model import Server

_NO_LOAD = {
    "--host": 1,
    "--port": 1,
    "--base-url": 1,
    "--ready-check-timeout-sec": 1,
    "--percentile-metrics": 1,
    "--metric-percentiles": 1,
    "--goodput": None,
    "--trust-remote-code": 0,
    "--save-result": 0,
    "--save-detailed": 0,
    "--append-result": 0,
    "--result-dir": 1,
    "--result-filename": 1,
    "--metadata": None,
    "--label": 1,
    "--disable-tqdm": 0,
    "--served-model-name": 1,
    "--tokenizer": 1,
}
"""flags of `vllm bench serve` that do not change what is sent, with how many values each takes (None: all up to the
next flag): where the server is, what is reported of the result, where it is kept. A tokenizer is the folder of a locked
commit: prompts have as many tokens with the next one"""


def workload(server: Server) -> str:
    """Twelve hex digits. Version, image, driver and the server's own flags are left out: what they do to the figures
    is what a comparison is to show."""
    bench = server.benchmark
    parts = {
        "model": server.model_id,
        "precision": server.precision,
        "gpus": server.gpu_count,
        "load": _load(bench.argv),
        "budget_s": bench.calibration.budget_s if bench.calibration else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _load(argv: Sequence[str]) -> list[str]:
    kept: list[str] = []
    position = 0
    while position < len(argv):
        name, equals, _ = argv[position].partition("=")
        position += 1
        if name not in _NO_LOAD:
            kept.append(argv[position - 1])
        elif not equals:
            position = _after(argv, position, _NO_LOAD[name])
    return kept


def _after(argv: Sequence[str], position: int, values: int | None) -> int:
    if values is not None:
        return position + values
    while position < len(argv) and not argv[position].startswith("--"):
        position += 1
    return position
