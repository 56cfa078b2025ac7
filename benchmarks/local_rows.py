"""Rows that need no lab: program start, probe, plan."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from frame import BIN, ROOT, Results, Row, Sample, fresh_state, in_turn, measure, middle, provision, ratio, together
from sshd import LABEL, ssh_server
from survey import recorded_answer

SURVEYED = "survey but for SSH, simulated hosts"
MANY, FEW, QUICK = "provision probe", "provision probe of few", "provision probe, hosts that answer from a recording"
PLAIN, ALIKE = "ssh HOST true", "ssh HOST true, curve25519"
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
    cpu = median(one.cpu_seconds for one in samples["provision --help"])
    row = Row(
        "program start",
        "`provision --help`",
        0.25,
        middle(samples["provision --help"]),
        "s",
        samples,
        limit=f"{cpu:.2f} s of processor time, Typer's for the most part; the rest waits for other work",
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
    with tempfile.TemporaryDirectory() as name, fresh_state(Path(name)) as env:
        folder = Path(name)
        with ssh_server(folder / "ssh") as real, ssh_server(folder / "recorded", recorded_answer()) as quick:
            plain = [["ssh", "-F", str(real), f"bench-{number}", "true"] for number in range(hosts)]
            alike = [[*argv[:3], "-o", "KexAlgorithms=curve25519-sha256", *argv[3:]] for argv in plain]
            works = {
                MANY: _probing(folder / "many.yaml", real, hosts, env),
                FEW: _probing(folder / "few.yaml", real, few, env),
                QUICK: _probing(folder / "quick.yaml", quick, hosts, env),
                PLAIN: lambda: together(plain, PARALLEL),
                ALIKE: lambda: together(alike, PARALLEL),
            }
            samples = in_turn(repeat, works)
    results.point("probe, loopback hosts", few, middle(samples[FEW]))
    results.point("probe, loopback hosts", hosts, middle(samples[MANY]))
    pairs = zip(samples[MANY], samples[FEW], strict=True)
    own = median(1000 * (one.cpu_seconds - other.cpu_seconds) / (hosts - few) for one, other in pairs)
    least, alone = ratio(samples[MANY], samples[ALIKE]), ratio(samples[QUICK], samples[ALIKE])
    work = f"probe of {hosts} SSH hosts"
    limit = (
        f"{least:.2f} × where ssh uses the key exchange that paramiko does; of that, {alone:.2f} × is for SSH and "
        "this machine's part, the rest for the hosts to look at themselves"
    )
    figure = f"time against {hosts} × `ssh HOST true`, {PARALLEL} at a time"
    results.add(
        Row(work, figure, 1.3, ratio(samples[MANY], samples[PLAIN]), "×", samples, LABEL, limit),
        Row(
            work,
            "processor time of the control machine for each host",
            15,
            own,
            "ms",
            {},
            LABEL,
            "SSH: `ssh -G`, the key exchange, the login",
        ),
    )


def _probing(path: Path, config: Path, size: int, env: Mapping[str, str]) -> Callable[[], Sample]:
    argv = provision("probe", _fleet(path, config, size), "--json")
    return partial(measure, argv, env=env, codes=(0, 1))


def plan(results: Results, repeat: int, sizes: Sequence[int] = (10, 100, 1000, 10000)) -> None:
    """Load, resolve and render from recorded facts."""
    goals = {1000: (2.0, 300.0), 10000: (20.0, 2048.0)}
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            place = Path(name) / str(size)
            # By a process of its own: what this one has in memory would count as its children's (getrusage(2)).
            write = f"import plan, pathlib; plan.write_fleet(pathlib.Path({str(place)!r}), {size})"
            measure([sys.executable, "-c", write], env={"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"})
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


def survey(results: Results, repeat: int, sizes: Sequence[int] = (10, 100, 1000, 10000)) -> None:
    """What a survey costs this machine, SSH apart: hosts that answer at once, all with the same recorded answer."""
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            fleet = _fleet(Path(name) / f"{size}.yaml", None, size)
            argv = [sys.executable, str(ROOT / "benchmarks" / "survey.py"), str(fleet)]
            runs = 1 if size > 1000 else repeat
            samples = [measure(argv, env={"PYTHONPATH": str(ROOT)}) for _ in range(runs)]
            results.point(SURVEYED, size, middle(samples))
            results.costs[f"survey of {size:,} hosts, SSH apart"] = samples
        results.noise.take()


def _fleet(path: Path, config: Path | None, size: int) -> Path:
    hosts = [f"bench-{number}" for number in range(size)]
    document = {
        "name": "bench",
        **({"ssh": {"config": str(config)}} if config else {}),
        "hosts": hosts,
        "servers": {"nemotron": {"recipe": "nemotron-3-nano"}},
    }
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return path
