"""Rows that need no lab: program start, probe, plan."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import plan as plan_benchmark
from frame import BIN, ROOT, Results, Row, Sample, fresh_state, in_turn, measure, middle, provision, ratio, together
from sshd import LABEL, ssh_server

PARALLEL = 32
"""hosts at a time: what the probe does (hosts/probe.py)"""
COMMANDS = ("apply", "bundle", "destroy", "explain", "history", "monitoring", "recipe_command", "report", "schema")


def start(results: Results, repeat: int, others: Path | None) -> None:
    """`provision --help` beside other programs' shortest commands; and what each command loads before it begins."""
    works = {
        "provision --help": lambda: measure(provision("--help")),
        "ansible --version": lambda: measure([str(BIN / "ansible"), "--version"]),
    }
    if others is not None:
        works["pyinfra --version"] = lambda: measure([str(others / "pyinfra"), "--version"])
    works["python -c pass"] = lambda: measure([sys.executable, "-c", "pass"])
    samples = in_turn(max(repeat, 5), works)
    bare = middle(samples["python -c pass"])
    row = Row(
        "program start",
        "`provision --help`",
        0.25,
        middle(samples["provision --help"]),
        "s",
        samples,
        limit=f"Python itself needs {bare:.2f} s of it, Typer most of the rest",
    )
    results.loads_s = {
        name: median(
            measure([sys.executable, "-c", f"import provisioner.cli.{name}"], env={"PYTHONPATH": str(ROOT)}).seconds
            - bare
            for _ in range(3)
        )
        for name in COMMANDS
        if (ROOT / "provisioner" / "cli" / f"{name}.py").is_file()
    }
    results.add(row)


def probe(results: Results, repeat: int, hosts: int = 100, few: int = 10) -> None:
    """`provision probe` of many SSH hosts beside `ssh HOST true` to the same, as many at a time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ssh_server(folder / "ssh") as config, fresh_state(folder) as env:
            fleets = {size: _fleet(folder / f"{size}.yaml", config, size) for size in (few, hosts)}
            works: dict[str, Callable[[], Sample]] = {
                f"provision probe, {size} hosts": partial(
                    measure, provision("probe", fleet, "--json"), env=env, codes=(0, 1)
                )
                for size, fleet in fleets.items()
            }
            plain = [["ssh", "-F", str(config), f"bench-{number}", "true"] for number in range(hosts)]
            fast = [[*argv[:3], "-o", "KexAlgorithms=curve25519-sha256", *argv[3:]] for argv in plain]
            works["ssh HOST true"] = lambda: together(plain, PARALLEL)
            works["ssh HOST true, curve25519"] = lambda: together(fast, PARALLEL)
            samples = in_turn(repeat, works)
    many, little = samples[f"provision probe, {hosts} hosts"], samples[f"provision probe, {few} hosts"]
    own = median(
        1000 * (one.cpu_seconds - other.cpu_seconds) / (hosts - few) for one, other in zip(many, little, strict=True)
    )
    exchange = ratio(many, samples["ssh HOST true, curve25519"])
    results.add(
        Row(
            f"probe of {hosts} SSH hosts",
            f"time against {hosts} × `ssh HOST true`, {PARALLEL} at a time",
            1.3,
            ratio(many, samples["ssh HOST true"]),
            "×",
            samples,
            stand_ins=LABEL,
            limit=f"{exchange:.2f} × where ssh, too, uses the key exchange that paramiko does",
        ),
        Row(
            f"probe of {hosts} SSH hosts",
            "processor time of the control machine for each host",
            15,
            own,
            "ms",
            stand_ins=LABEL,
            limit="`ssh -G` and the key exchange",
        ),
    )


def plan(results: Results, repeat: int, sizes: Sequence[int] = (10, 100, 1000, 10000)) -> None:
    """Load, resolve and render from recorded facts."""
    goals = {1000: (2.0, 300.0), 10000: (20.0, 2048.0)}
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            place = Path(name) / str(size)
            plan_benchmark.write_fleet(place, size)
            argv = [sys.executable, str(ROOT / "benchmarks" / "plan.py"), "--child", str(place)]
            measured = [
                measure(argv, env={"PYTHONPATH": str(ROOT)}) for _ in range(1 if size > 1000 else max(repeat, 3))
            ]
            results.point("plan, simulated hosts", size, middle(measured))
            if size in goals:
                seconds, mib = goals[size]
                peak = max(one.peak_mib for one in measured)
                samples = {f"{size} hosts": measured}
                work, which = f"plan of {size:,} hosts", "recorded facts"
                cpu = median(one.cpu_seconds for one in measured)
                limit = f"{cpu:.1f} s of processor time for resolving and rendering; the rest waits for other work"
                results.add(Row(work, "time", seconds, middle(measured), "s", samples, which, limit))
                results.add(Row(work, "peak memory", mib, peak, "MiB", {}, which, "the facts and plans of all hosts"))


def _fleet(path: Path, config: Path, size: int) -> Path:
    hosts = [f"bench-{number}" for number in range(size)]
    document = {
        "name": "bench",
        "ssh": {"config": str(config)},
        "hosts": hosts,
        "servers": {"nemotron": {"recipe": "nemotron-3-nano"}},
    }
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return path
