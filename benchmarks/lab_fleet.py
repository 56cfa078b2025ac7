"""A lab for the time of a row, and what is done to its hosts: by us, by Ansible, by pyinfra, by ssh.

The lab is brought up on the stand-in engine and taken down after it; a lab that is there already is left alone and
nothing is measured.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from frame import BIN, ROOT, Sample, fresh_state, measure, provision, together

from provisioner.lab.lab import status

LABEL = "lab hosts are containers that share this machine's processors; GPUs and engine are simulated"
FLEET = "lab"
"""what `provision lab up` calls it"""
HERE = {"PYTHONPATH": str(ROOT)}
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
    up: tuple[str, ...] = ()
    """more words of the `lab up` that it came from"""

    @property
    def file(self) -> Path:
        return self.folder / "fleet.yaml"

    def apply(self, *words: str) -> Sample:
        """`provision fleet.yaml --yes`."""
        return measure(provision(self.file, "--yes", *words), env=self.env, log=self.folder / "log")

    def converge(self) -> None:
        """Until there is nothing to do: installed, serving and proven by a benchmark, which `--smoke` leaves out."""
        self.apply()
        self.check_converged("a run of ours")

    def check_converged(self, after: str) -> None:
        """SystemExit where something is left to do: what was measured on hosts in between was something else."""
        seen = measure(provision("plan", self.file), env=self.env, codes=(0, 5), log=self.folder / "log")
        if seen.code:
            said = (self.folder / "log").read_text(encoding="utf-8")[-3000:]
            raise SystemExit(f"not as planned after {after}:\n{said}")

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

    def change(self, pattern: str, value: str) -> None:
        """Another value of a key of the fleet file, wherever the pattern of its line matches."""
        text = self.file.read_text(encoding="utf-8")
        changed, count = re.subn(rf"({pattern}: )\S+", rf"\g<1>{value}", text)
        if not count:
            raise SystemExit(f"{self.file}: nothing there is {pattern}")
        self.file.write_text(changed, encoding="utf-8")

    @property
    def run(self) -> Path:
        """Directory of the newest run."""
        return (Path(self.env["XDG_STATE_HOME"]) / "provision" / "runs" / FLEET / "latest").resolve()

    def events(self) -> list[dict[str, Any]]:
        """Of the newest run."""
        return [json.loads(line) for line in (self.run / "events.jsonl").read_text(encoding="utf-8").splitlines()]

    def tasks_by_role(self) -> Counter[str]:
        """Ansible's tasks that ran in the newest run, on all hosts together."""
        told = [json.loads(file.read_text(encoding="utf-8")) for file in self.run.rglob("job_events/*.json")]
        ran = [one["event_data"] for one in told if one["event"] in {"runner_on_ok", "runner_on_failed"}]
        return Counter(one["role"] for one in ran if one.get("role"))

    def grown(self, count: int) -> Fleet:
        """The same lab with so many hosts; those that there are stay as they are."""
        argv = provision("lab", "up", "--engine", "sim", "--hosts", f"{GPU}:{count}", "--fleet", self.file, *self.up)
        measure(argv, env=HERE, log=self.folder / "log")
        hosts = tuple(host.name for host in status().hosts)
        # All hosts at once, as ansible-playbook has them.
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(f"rollout: {{canary: {len(hosts)}}}\n")
        return replace(self, hosts=hosts)


def must_be_free() -> None:
    """SystemExit where a lab is up."""
    if status().hosts:
        raise SystemExit("a lab is up already: take it down first (provision lab down)")


@contextmanager
def lab(count: int, *words: str) -> Iterator[Fleet]:
    """A lab of so many fresh hosts, gone at the end of the block. `words`: more of `lab up`."""
    with tempfile.TemporaryDirectory() as name, fresh_state(Path(name)) as env:
        folder = Path(name) / "fleet"
        folder.mkdir()
        try:
            yield Fleet(folder, (), {**env, "SSH_AUTH_SOCK": ""}, words).grown(count)
        finally:
            subprocess.run(provision("lab", "down"), check=True, env={**os.environ, **HERE}, stdout=subprocess.DEVNULL)
