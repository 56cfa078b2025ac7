#!/usr/bin/env python3
"""Record how much benchmarks of one server scatter, and what a server that was held back shows.

    .venv/bin/python tests/recorded/record_series.py OUTPUT.json [--free N] [--slowed N] [--share 0.9]

On the rehearsal fleet with real vLLM, driven as a user does: `provision validate`, again and again. About fifteen
seconds a benchmark. The lab is left as it was found.
"""

# ruff: noqa: T201

import argparse
import importlib.machinery
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
loader = importlib.machinery.SourceFileLoader("proof", str(ROOT / "scripts" / "proof"))
proof: Any = importlib.util.module_from_spec(importlib.util.spec_from_loader("proof", loader))  # type: ignore[arg-type]
sys.modules["proof"] = proof  # dataclasses look their module up
loader.exec_module(proof)

KEPT = (
    *("num_prompts", "max_concurrency", "completed", "failed", "total_input_tokens", "total_output_tokens"),
    *("duration", "request_throughput", "output_throughput", "total_token_throughput"),
    *(f"{how}_{what}_ms" for what in ("ttft", "tpot", "itl") for how in ("mean", "median", "std", "p99")),
)


def main() -> None:
    """Measures, and writes after each benchmark what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--free", type=int, default=20, help="benchmarks of the server as it is")
    parser.add_argument("--slowed", type=int, default=6, help="benchmarks of the server held back")
    parser.add_argument("--share", type=float, default=0.9, help="of the time that a held back server runs")
    given = parser.parse_args()
    before = {host.name for host in proof.status().hosts}
    folder = Path(tempfile.mkdtemp(prefix="provision-series-"))
    try:
        rehearsal = proof._rehearsal(folder)
        fleet = rehearsal.fleet("series", baseline={"against": "nothing"})
        told: dict[str, Any] = {"free": [], "slowed": []}
        for _ in range(given.free):
            told["free"].append(measured(rehearsal, fleet))
            told["about"] = about(rehearsal, given, told["free"][0])
            write(given.output, told)
        for _ in range(given.slowed):
            with proof.faults.slowed(proof.HOST, f"vllm-{proof.SERVER}", given.share):
                told["slowed"].append(measured(rehearsal, fleet))
            write(given.output, told)
    finally:
        if not before:
            proof.Lab(folder, folder, "", real_vllm=True).run("lab", "down")


def about(rehearsal: Any, given: argparse.Namespace, result: Mapping[str, Any]) -> str:
    """What was measured, in words."""
    verdict = rehearsal.verdict()
    machine = f"{os.cpu_count()} processors ({platform.machine()})"
    held_back = f"the server stopped for {1 - given.share:.0%} of every tenth of a second"
    return (
        f"vllm bench serve against {verdict['engine_label']}, on a machine of {machine} with other work beside it; "
        f"{result['num_prompts']} prompts, {result['max_concurrency']} at once. `free`: {given.free} benchmarks one "
        f"after the other. `slowed`: {given.slowed}, each with {held_back}."
    )


def measured(rehearsal: Any, fleet: Path) -> dict[str, Any]:
    """One benchmark, by `provision validate`."""
    done = rehearsal.lab.run("validate", fleet)
    if done.rc:
        raise SystemExit(str(done))
    (file,) = rehearsal.lab.latest_run("series").glob("benchmarks/**/*.json")
    result = json.loads(file.read_text())
    kept = {key: result[key] for key in KEPT if key in result}
    print(f"{kept['output_throughput']:.1f} output tok/s", flush=True)
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in kept.items()}


def write(path: Path, told: dict[str, Any]) -> None:
    """A line for each benchmark."""
    parts = [f'"about": {json.dumps(told["about"])}']
    for key in ("free", "slowed"):
        lines = ",\n".join(json.dumps(one) for one in told[key])
        parts.append(f'"{key}": [\n{lines}\n]')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
