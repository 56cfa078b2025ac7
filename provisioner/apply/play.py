"""One run of a playbook through ansible-runner: the same arguments and environment on whatever machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from provisioner import assets
from provisioner.apply.inventory import dump, extra_variables
from provisioner.apply.reaper import reaper
from provisioner.apply.secrets_file import memory_file

Strategy = Literal["mitogen_free", "free", "linear"]
Take = Callable[[dict[str, Any]], bool]
"""gets an event of ansible-runner; True keeps its record"""

IDENT = "ansible"
"""folder of Ansible's own records in `artifacts`"""
TIMEOUT_S = 6 * 3600
"""of a whole run; building vLLM on a DGX Spark takes hours"""
CONNECT_TIMEOUT_S = 60
"""for Ansible to log in and start its Python, which a busy host takes longer for than Ansible's own ten seconds"""
FORKS_A_PROCESSOR = 25
"""a fork mostly waits for its host"""
FORK_MIB = 100
"""memory of one, about"""
CONFIG = "[defaults]\ninternal_poll_interval = 0.01\n"
"""how often Ansible's main process looks for results, in seconds: by its own default a thousand times, for which it
needs a tenth of a processor while hosts pull images; no variable of the environment says it"""
_KEPT = frozenset(["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSH_AUTH_SOCK"])
"""what of our own environment Ansible gets: ansible-runner writes all of it to a file, and it may hold secrets"""
_KEPT_PREFIXES = ("ANSIBLE_", "AWX_", "RUNNER_", "PYTHON")


@dataclass(frozen=True)
class Job:
    """A playbook and how it is run: plain data, the same on every machine."""

    playbook: str
    """a file of playbooks/"""
    strategy: Strategy
    hosts: int
    """how many there are in the inventory"""
    check: bool = False
    tags: tuple[str, ...] = ()
    """roles that run; all where empty"""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """besides those of the inventory"""


def play(
    folder: Path, job: Job, secrets: Mapping[str, str], *, take: Take, interrupted: Callable[[], bool]
) -> tuple[str, str]:
    """Runs it here, with the inventory in `folder`; ansible-runner's word for how it ended, and the last lines.

    `secrets`: by their names in `provision_secrets`; they stay in memory.
    """
    import ansible_runner.interface  # a converged fleet never needs it

    with memory_file(json.dumps(dict(secrets))) as secrets_path:
        runner = ansible_runner.interface.init_runner(
            private_data_dir=str(folder),
            ident=IDENT,
            inventory=str(folder / "inventory"),
            event_handler=take,
            cancel_callback=interrupted,
            **arguments(folder, job, secrets_path, folder / "logs"),
        )
        runner.config.env = environment(runner.config.env, job, folder)
        with reaper(str(extra_file(folder))):
            status, _ = runner.run()
    return status, last_lines(folder / "artifacts" / IDENT / "stdout")


def arguments(folder: Path, job: Job, secrets_path: str, logs: Path) -> dict[str, Any]:
    """What ansible-runner is told on the machine where Ansible runs; writes the run's extra variables and Ansible's
    configuration into `folder`."""
    extra = extra_file(folder)
    variables = dump(dict(job.variables)) if job.variables else ""
    config_file(folder).write_text(CONFIG, encoding="utf-8")
    extra.write_text(extra_variables(secrets_path, logs) + variables, encoding="utf-8")
    options = ["--extra-vars", f"@{extra}", "--diff", *(["--check"] if job.check else []), *_only(job.tags)]
    return {
        "playbook": str(assets.ansible_dir() / "playbooks" / job.playbook),
        "cmdline": shlex.join(options),
        "quiet": True,
        "settings": {"pexpect_timeout": 1, "job_timeout": TIMEOUT_S, "suppress_ansible_output": True},
    }


def extra_file(folder: Path) -> Path:
    """The file whose path is in the command line of the run's Ansible, and in no other."""
    return folder / "extra-vars.yml"


def config_file(folder: Path) -> Path:
    """Ansible's configuration of a run, in place of whatever file whoever starts it has."""
    return folder / "ansible.cfg"


def environment(env: Mapping[str, str], job: Job, folder: Path) -> dict[str, str]:
    """What Ansible gets of this process's environment, and its settings."""
    kept = {key: value for key, value in env.items() if key in _KEPT or key.startswith(_KEPT_PREFIXES)}
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": env.get("ANSIBLE_CONFIG") or str(config_file(folder)),
        "ANSIBLE_ROLES_PATH": str(assets.ansible_dir() / "roles"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_FORKS": str(forks(job.hosts)),
        "ANSIBLE_STRATEGY": job.strategy,
        "ANSIBLE_TIMEOUT": str(CONNECT_TIMEOUT_S),
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=15",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_NOCOLOR": "True",
    }
    if job.strategy.startswith("mitogen"):
        settings["ANSIBLE_STRATEGY_PLUGINS"] = str(_mitogen_plugins())
    return {**kept, **settings}


def forks(hosts: int) -> int:
    """How many hosts Ansible works on at a time: all of them, as far as this machine's processors and memory go."""
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2**20
    able = min(len(os.sched_getaffinity(0)) * FORKS_A_PROCESSOR, memory_mib // FORK_MIB)
    return max(1, min(hosts, able))


def usable(strategy: Strategy) -> tuple[Strategy, str]:
    """The strategy to run with, and why it is another one; "" where it is the one that was wanted."""
    if not strategy.startswith("mitogen"):
        return strategy, ""
    if _mitogen_plugins() is None:
        return "linear", "mitogen is not installed"
    problem = _mitogen_problem()
    return ("linear", f"mitogen does not work with this Ansible: {problem}") if problem else (strategy, "")


def last_lines(path: Path, lines: int = 20) -> str:
    """How a text ends; "" where there is none."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return "\n".join(text.splitlines()[-lines:])


def _only(tags: Sequence[str]) -> list[str]:
    return ["--tags", ",".join(tags)] if tags else []


def _mitogen_plugins() -> Path | None:
    spec = importlib.util.find_spec("ansible_mitogen")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "plugins" / "strategy"


@cache
def _mitogen_problem() -> str:
    """Why its strategies cannot be loaded, in Python's words; "" where they can. In a process of its own: Ansible's
    modules do much when they are loaded."""
    argv = [sys.executable, "-c", "import ansible_mitogen.strategy"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
