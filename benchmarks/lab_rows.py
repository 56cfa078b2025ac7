"""Rows on lab hosts: first installation, a converged fleet, one flag changed, time against hosts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

from frame import Results, Row, Sample, in_turn, measure, middle, provision, ratio
from lab_fleet import LABEL, Fleet, lab, must_be_free

CURVE = (1, 2, 4, 8, 16)
UNIT_ROLE = "vllm_server"


def measured(results: Results, names: Sequence[str], options: argparse.Namespace, others: Path | None) -> None:
    """The rows asked for, and points of the plot."""
    must_be_free()
    if "first" in names:
        results.add(_first(options.first))
    if set(names) - {"first"}:
        with lab(options.hosts) as fleet:
            results.point("first installation, lab hosts", len(fleet.hosts), fleet.apply("--smoke").seconds)
            fleet.converge()
            fleet.render()
            if "converged" in names:
                results.add(*_converged(fleet, options.repeat, others))
            if "flag" in names:
                results.add(*_flag(fleet, options.repeat))
            if "curve" in names:
                _curve(results, fleet, options)


def _first(count: int) -> Row:
    """Fresh hosts, once by the program and once, fresh again, by Ansible."""
    with lab(count) as fleet:
        ours = fleet.apply("--smoke")
    with lab(count) as fleet:
        fleet.render()
        theirs = fleet.ansible()
    samples = {"provision fleet.yaml --yes --smoke": [ours], "ansible-playbook site.yml, linear": [theirs]}
    limit = (
        f"this machine's processors, which all hosts share, were {ours.busy:.0%} busy in ours and {theirs.busy:.0%} in "
        "Ansible's; ours also waits for every server's answers"
    )
    value = ours.seconds / theirs.seconds
    return Row(f"first installation, {count} hosts", "time against Ansible's", 0.6, value, "×", samples, LABEL, limit)


def _converged(fleet: Fleet, repeat: int, others: Path | None) -> list[Row]:
    count = len(fleet.hosts)
    works: dict[str, Callable[[], Sample]] = {
        "provision fleet.yaml --yes": fleet.apply,
        "ssh HOST true, all at once": fleet.ssh,
        "provision --help": lambda: measure(provision("--help")),
        "ansible-playbook site.yml": fleet.ansible,
    }
    if others is not None:
        works["pyinfra"] = lambda: fleet.pyinfra(others / "pyinfra")
    samples = in_turn(repeat, works)
    fleet.check_converged("Ansible and pyinfra, which were to change nothing")
    ours, plain = samples["provision fleet.yaml --yes"], samples["ssh HOST true, all at once"]
    start = middle(samples["provision --help"])
    work = f"converged fleet, {count} lab hosts"
    cpu = median(one.cpu_seconds for one in ours)
    busy = median(one.busy for one in ours)
    own = f"{cpu:.2f} s of processor time here, the program's start ({start:.2f} s) included"
    rows = [
        Row(work, "time against ansible-playbook's", 1 / 20, ratio(ours, samples["ansible-playbook site.yml"]), "×",
            samples, LABEL, own),
        Row(work, "time without the program's start against `ssh HOST true` to all", 2,
            max(middle(ours) - start, 0) / middle(plain), "×", {}, LABEL,
            f"{own}; the rest is what the hosts need to look at themselves, on the same processors, {busy:.0%} busy"),
    ]  # fmt: skip
    if others is not None:
        rows.append(Row(work, "time against pyinfra's", 1 / 10, ratio(ours, samples["pyinfra"]), "×", {}, LABEL, own))
    return rows


def _flag(fleet: Fleet, repeat: int) -> list[Row]:
    """One argument of the one server of every host, a new value each time."""
    values = iter(range(9, 9 + 2 * repeat))
    ours, theirs, applying = [], [], []
    for _ in range(repeat):
        fleet.change("max_num_seqs", str(next(values)))
        ours.append(fleet.apply("--smoke"))
        applying.append(_applying(fleet))
        roles = fleet.tasks_by_role()
        fleet.change("max_num_seqs", str(next(values)))
        fleet.render()
        theirs.append(fleet.ansible())
    samples = {"provision fleet.yaml --yes --smoke": ours, "ansible-playbook site.yml": theirs}
    shares = ", ".join(f"{seconds:.1f} s" for seconds in applying)
    limit = f"Ansible's part of ours took {shares}; the rest is looking, starting the server and asking it"
    work = f"one flag changed, {len(fleet.hosts)} lab hosts"
    told = ", ".join(f"{role} {count}" for role, count in sorted(roles.items()))
    others = sum(count for role, count in roles.items() if role != UNIT_ROLE)
    return [
        Row(work, "time against ansible-playbook's", 0.2, ratio(ours, theirs), "×", samples, LABEL, limit),
        Row(work, "tasks that are not the unit's", 0, others, "tasks", {}, LABEL, f"by role, all hosts: {told}"),
    ]


def _curve(results: Results, fleet: Fleet, options: argparse.Namespace) -> None:
    """A converged fleet, of more and more of its hosts."""
    if options.curve > len(fleet.hosts):
        fleet = fleet.grown(options.curve)
    fleet.converge()  # the last change of a flag was Ansible's, and is not proven
    for size in [size for size in CURVE if size <= len(fleet.hosts)]:
        words = [word for name in fleet.hosts[:size] for word in ("--hosts", name)]
        seconds = median(fleet.apply(*words).seconds for _ in range(options.repeat))
        results.point("converged, lab hosts", size, seconds)


def _applying(fleet: Fleet) -> float:
    """Seconds between the first and the last event of Ansible in the newest run."""
    times = [datetime.fromisoformat(one["time"]) for one in fleet.events() if one["phase"] == "apply"]
    return (max(times) - min(times)).total_seconds() if times else 0.0
