"""How long a big fleet takes: load, resolve and render from recorded facts, against `ansible-inventory --list`.

    python benchmarks/plan.py [--hosts 1000 --hosts 10000] [--repeat 3]

Each measurement is a process of its own, so that its peak memory is its own and nothing is warm; the two programs take
turns. The fleet names every host with an address; half are H200 servers, half DGX Sparks, each in a group, and every
tenth host has a setting of its own. Facts are those of converged hosts, from the tests' builders; reading them is
measured too. `ansible-inventory` reads the same hosts, groups and connection variables from a YAML inventory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
MIB = 1024
"""ru_maxrss counts KiB (getrusage(2), Linux)"""


@dataclass(frozen=True)
class Measured:
    """One process."""

    seconds: float
    peak_mib: float
    parts: dict[str, float]
    """seconds by step, where the process says so"""


def main(argv: Sequence[str]) -> int:
    """Prints a table; exits 1 when a goal is missed."""
    options = _parser().parse_args(argv)
    if options.child:
        return _child(Path(options.child))
    sizes, rows, missed = options.hosts or [1000, 10000], [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            place = Path(folder) / str(size)
            write_fleet(place, size)
            ours, theirs = [], []
            for _ in range(options.repeat):
                ours.append(_measure([sys.executable, __file__, "--child", str(place)]))
                theirs.append(_measure([*_ansible_inventory(), "-i", str(place / "inventory.yml"), "--list"]))
            rows += [("provision", size, ours), ("ansible-inventory --list", size, theirs)]
            missed += _missed(size, ours)
    _print(rows)
    for line in missed:
        print(line)
    return 1 if missed else 0


def write_fleet(folder: Path, size: int) -> None:
    """fleet.yaml, facts.json and inventory.yml (for Ansible) of `size` hosts."""
    folder.mkdir(parents=True)
    names = [f"{'gpu' if number % 2 else 'spark'}-{number:05}" for number in range(size)]
    address = {name: f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number, name in enumerate(names)}
    lines = ["name: benchmark", "hosts:"]
    for number, name in enumerate(names):
        own = f", servers: {{nemotron: {{max_num_seqs: {8 + number // 10 % 50}}}}}" if number % 10 == 0 else ""
        lines.append(f"  {name}: {{address: {address[name]}, user: ops{own}}}")
    lines += ["groups:"]
    for kind in ("gpu", "spark"):
        members = ", ".join(name for name in names if name.startswith(kind))
        lines += [f"  {kind}s:", f"    hosts: [{members}]", "    servers:", "      nemotron: {health_timeout_s: 3600}"]
    lines += [
        "servers:",
        "  nemotron: {recipe: nemotron-3-nano}",
        "  second: {recipe: nemotron-3-nano, hosts: [gpus], ",
    ]
    lines[-1] += "gpus: [1], port: 8001}"
    lines[-2] = "  nemotron: {recipe: nemotron-3-nano, gpus: [0]}"
    (folder / "fleet.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_facts(folder)
    groups = {
        f"{kind}s": {
            "hosts": {
                name: {"ansible_host": address[name], "ansible_user": "ops"} for name in names if name.startswith(kind)
            }
        }
        for kind in ("gpu", "spark")
    }
    # JSON is YAML, and the plugin reads it as such.
    (folder / "inventory.yml").write_text(json.dumps({"all": {"children": groups}}, indent=1), encoding="utf-8")


def _write_facts(folder: Path) -> None:
    """Facts of converged hosts: with units, containers, images and files, as a fleet in use has them."""
    sys.path.insert(0, str(ROOT))
    from provisioner.fleet.load import load_fleet
    from provisioner.plan.resolve import plan_host
    from tests import builders

    fleet = load_fleet(folder / "fleet.yaml")
    kinds = {"gpu": builders.facts(gpus=("NVIDIA H200",) * 2), "spark": builders.spark()}
    recorded = {}
    for host in fleet.hosts:
        seen = kinds[host.name.partition("-")[0]].model_copy(update={"host": host.name, "hostname": host.name})
        plan = plan_host(fleet, host, seen, builders.recipes())
        recorded[host.name] = builders.converged(plan, seen).model_dump()
    (folder / "facts.json").write_text(json.dumps(recorded), encoding="utf-8")


def _child(folder: Path) -> int:
    """What `provision render --facts` does, but for writing the files."""
    began = time.perf_counter()
    from provisioner.apply.inventory import host_variables
    from provisioner.fleet.load import load_fleet
    from provisioner.fleet.recipes import find_recipe
    from provisioner.history.facts import read_facts
    from provisioner.plan.hostfiles import host_files
    from provisioner.plan.resolve import plan_host

    parts, mark = {"import": time.perf_counter() - began}, time.perf_counter()

    def done(name: str) -> None:
        nonlocal mark
        parts[name], mark = time.perf_counter() - mark, time.perf_counter()

    fleet = load_fleet(folder / "fleet.yaml")
    recipes = {name: find_recipe(name, fleet.recipes) for name in fleet.recipe_names()}
    done("load")
    facts = read_facts(folder / "facts.json")
    done("facts")
    plans = [plan_host(fleet, host, facts[host.name], recipes) for host in fleet.hosts]
    done("resolve")
    size = sum(len(file.content) for plan in plans for file in host_files(plan, facts[plan.host]))
    size += sum(len(text) for _, text in host_variables(plans, {}))
    done("render")
    if size < len(plans) * 1000:
        raise SystemExit("too little was rendered")
    print(json.dumps(parts))
    return 0


def _measure(argv: Sequence[str]) -> Measured:
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(list(argv), stdout=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"{argv[0]} ended with {process.returncode}")
        out.seek(0)
        text = out.read()
    parts = json.loads(text) if "--child" in argv else {}
    return Measured(seconds, usage.ru_maxrss / MIB, parts)


def _ansible_inventory() -> list[str]:
    return [str(Path(sys.executable).parent / "ansible-inventory")]


def _missed(size: int, ours: Sequence[Measured]) -> list[str]:
    seconds, peak = median(one.seconds for one in ours), max(one.peak_mib for one in ours)
    goals = {1000: (2.0, 300.0), 10000: (20.0, None)}
    most_s, most_mib = goals.get(size, (None, None))
    lines = []
    if most_s is not None and seconds > most_s:
        lines.append(f"goal missed: {size} hosts in {seconds:.2f} s, not {most_s:g} s")
    if most_mib is not None and peak > most_mib:
        lines.append(f"goal missed: {size} hosts in {peak:.0f} MiB, not {most_mib:g} MiB")
    return lines


def _print(rows: Sequence[tuple[str, int, list[Measured]]]) -> None:
    print(f"{'':26}{'hosts':>7}{'median s':>10}{'min–max s':>14}{'peak MiB':>10}{'ms/host':>9}  parts (median s)")
    for name, size, measured in rows:
        seconds = sorted(one.seconds for one in measured)
        spread = f"{seconds[0]:.2f}–{seconds[-1]:.2f}"
        parts = {key: median(one.parts[key] for one in measured) for key in measured[0].parts}
        told = ", ".join(f"{key} {value:.2f}" for key, value in parts.items())
        middle, peak = median(seconds), max(one.peak_mib for one in measured)
        print(f"{name:26}{size:>7}{middle:>10.2f}{spread:>14}{peak:>10.0f}{1000 * middle / size:>9.2f}  {told}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, action="append", help="fleet size (repeat); default: 1000 and 10000")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
