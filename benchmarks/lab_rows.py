"""Rows on lab hosts: first installation, a converged fleet, one flag changed, time against hosts.

The lab is brought up for it, on the stand-in engine, and taken down after it; a lab that is there already is left alone
and nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from frame import BIN, ROOT, Results, Row, Sample, fresh_state, in_turn, measure, middle, provision, ratio, together

from provisioner.lab.lab import status

LABEL = "lab hosts are containers that share this machine's processors; GPUs and engine are simulated"
HERE = {"PYTHONPATH": str(ROOT)}
CURVE = (1, 2, 4, 8, 16)
GPU = "h200"
ANSIBLE = {
    "ANSIBLE_PIPELINING": "True",
    "ANSIBLE_HOST_KEY_CHECKING": "True",
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
    "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
    "ANSIBLE_STRATEGY": "linear",
    "ANSIBLE_NOCOLOR": "True",
}


@dataclass(frozen=True)
class Fleet:
    """A lab that is up."""

    folder: Path
    hosts: tuple[str, ...]
    env: Mapping[str, str]

    @property
    def file(self) -> Path:
        return self.folder / "fleet.yaml"

    def apply(self, *words: str) -> Sample:
        """`provision fleet.yaml --yes`."""
        return measure(provision(self.file, "--yes", *words), env=self.env, log=self.folder / "log")

    def render(self) -> Path:
        """What Ansible and pyinfra get."""
        out = self.folder / "rendered"
        measure(provision("render", self.file, "-o", out), env=self.env)
        return out

    def ansible(self) -> Sample:
        """The same roles by ansible-playbook, tuned: forks for all hosts, pipelining, kept connections."""
        argv = [str(BIN / "ansible-playbook"), "-i", str(self.folder / "rendered" / "inventory")]
        tuned = {**ANSIBLE, "ANSIBLE_FORKS": str(len(self.hosts))}
        return measure([*argv, str(ROOT / "playbooks" / "site.yml")], env=tuned, log=self.folder / "log")

    def pyinfra(self, program: Path) -> Sample:
        """The same state by pyinfra's operations."""
        inventory = self.folder / "pyinfra_inventory.py"
        config = {"ssh_config_file": str(self.folder / "ssh_config")}
        inventory.write_text(f"hosts = {[(name, config) for name in self.hosts]!r}\n", encoding="utf-8")
        argv = [str(program), "-y", "--parallel", str(len(self.hosts)), str(inventory)]
        rendered = {"PROVISION_RENDERED": str(self.folder / "rendered")}
        return measure([*argv, str(ROOT / "benchmarks" / "pyinfra_site.py")], env=rendered, log=self.folder / "log")

    def ssh(self) -> Sample:
        """`ssh HOST true` to all hosts at once."""
        config = str(self.folder / "ssh_config")
        return together([["ssh", "-F", config, name, "true"] for name in self.hosts], len(self.hosts))

    def change(self, key: str, value: int) -> None:
        """One argument of every server."""
        text = self.file.read_text(encoding="utf-8")
        self.file.write_text(re.sub(rf"{key}: \d+", f"{key}: {value}", text), encoding="utf-8")


def measured(results: Results, names: Sequence[str], options: argparse.Namespace, others: Path | None) -> None:
    """The rows asked for, and points of the plot."""
    if status().hosts:
        raise SystemExit("a lab is up already: take it down first (provision lab down)")
    if "first" in names:
        results.add(_first(options.first))
    if set(names) - {"first"}:
        with _lab(options.hosts) as fleet:
            results.point("first installation, lab hosts", len(fleet.hosts), fleet.apply("--smoke").seconds)
            fleet.render()
            if "converged" in names:
                results.add(*_converged(fleet, options.repeat, others))
            if "flag" in names:
                results.add(_flag(fleet, options.repeat))
            if "curve" in names:
                _curve(results, fleet, options.repeat)


def _first(count: int) -> Row:
    """Fresh hosts, once by the program and once, fresh again, by Ansible."""
    with _lab(count) as fleet:
        ours = fleet.apply("--smoke")
    with _lab(count) as fleet:
        fleet.render()
        theirs = fleet.ansible()
    samples = {"provision fleet.yaml --yes --smoke": [ours], "ansible-playbook site.yml, linear": [theirs]}
    limit = (
        "installing and pulling on hosts that share one machine's processors; ours also waits for every server's answer"
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
    ours, plain = samples["provision fleet.yaml --yes"], samples["ssh HOST true, all at once"]
    start = middle(samples["provision --help"])
    work = f"converged fleet, {count} lab hosts"
    own = f"{ours[0].cpu_seconds:.2f} s of processor time here, of which {start:.2f} s are the program's start"
    rows = [
        Row(work, "time against ansible-playbook's", 1 / 20, ratio(ours, samples["ansible-playbook site.yml"]), "×",
            samples, LABEL, own),
        Row(work, "time without the program's start against `ssh HOST true` to all", 2,
            max(middle(ours) - start, 0) / middle(plain), "×", {}, LABEL,
            f"{own}; the rest is what the hosts need to look at themselves, on the same processors"),
    ]  # fmt: skip
    if others is not None:
        rows.append(Row(work, "time against pyinfra's", 1 / 10, ratio(ours, samples["pyinfra"]), "×", {}, LABEL, own))
    return rows


def _flag(fleet: Fleet, repeat: int) -> Row:
    """One argument of the one server of every host, a new value each time."""
    values = iter(range(9, 9 + 2 * repeat))
    ours, theirs, smoked = [], [], []
    for _ in range(repeat):
        fleet.change("max_num_seqs", next(values))
        ours.append(fleet.apply("--smoke"))
        smoked.append(_applying(Path(fleet.env["XDG_STATE_HOME"])))
        fleet.change("max_num_seqs", next(values))
        fleet.render()
        theirs.append(fleet.ansible())
    samples = {"provision fleet.yaml --yes --smoke": ours, "ansible-playbook site.yml": theirs}
    shares = ", ".join(f"{seconds:.1f} s" for seconds in smoked)
    limit = f"Ansible's part of ours took {shares}; the rest is looking, starting the server and asking it"
    work = f"one flag changed, {len(fleet.hosts)} lab hosts"
    return Row(work, "time against ansible-playbook's", 0.2, ratio(ours, theirs), "×", samples, LABEL, limit)


def _curve(results: Results, fleet: Fleet, repeat: int) -> None:
    # The last change of a flag was Ansible's, and is not proven: one more run makes the fleet converged.
    fleet.apply("--smoke")
    for size in [size for size in CURVE if size <= len(fleet.hosts)]:
        words = [word for name in fleet.hosts[:size] for word in ("--hosts", name)]
        results.point("converged, lab hosts", size, median(fleet.apply(*words).seconds for _ in range(repeat)))


def _applying(state: Path) -> float:
    """Seconds between the first and the last event of Ansible in the newest run."""
    run = max((state / "provision" / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    times = [datetime.fromisoformat(one["time"]) for one in events if one["phase"] == "apply"]
    return (max(times) - min(times)).total_seconds() if times else 0.0


@contextmanager
def _lab(count: int) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory() as name, fresh_state(Path(name)) as env:
        folder = Path(name) / "fleet"
        file = folder / "fleet.yaml"
        try:
            measure(provision("lab", "up", "--engine", "sim", "--hosts", f"{GPU}:{count}", "--fleet", file), env=HERE)
            hosts = tuple(host.name for host in status().hosts)
            # All hosts at once, as ansible-playbook has them.
            with file.open("a", encoding="utf-8") as stream:
                stream.write(f"rollout: {{canary: {len(hosts)}}}\n")
            yield Fleet(folder, hosts, {**env, **_agentless()})
        finally:
            subprocess.run(provision("lab", "down"), check=True, env={**os.environ, **HERE}, stdout=subprocess.DEVNULL)


def _agentless() -> dict[str, str]:
    return {"SSH_AUTH_SOCK": ""}
