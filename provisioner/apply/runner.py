"""One run of a playbook through ansible-runner: site.yml over hosts that have changes, reset.yml to clear hosts."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from provisioner import assets
from provisioner.apply.inventory import dump, extra_variables, write_connections, write_inventory
from provisioner.apply.outcome import Outcomes, TaskChange
from provisioner.apply.reaper import reaper
from provisioner.apply.secrets_file import memory_file
from provisioner.errors import ProvisionError
from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Fleet
from provisioner.history.events import Event, OnEvent
from provisioner.plan.model import HostPlan
from provisioner.plan.roles import NEED_FACTS, ROLES
from provisioner.plan.variables import secret_name

Strategy = Literal["mitogen_free", "free", "linear"]

TIMEOUT_S = 6 * 3600
"""of a whole run; building vLLM on a DGX Spark takes hours"""
CONNECT_TIMEOUT_S = 60
"""for Ansible to log in and start its Python, which a busy host takes longer for than Ansible's own ten seconds"""
FORKS_A_PROCESSOR = 25
"""a fork mostly waits for its host"""
FORK_MIB = 100
"""memory of one, about"""
_KEPT = frozenset(["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSH_AUTH_SOCK"])
"""what of our own environment Ansible gets: ansible-runner writes all of it to a file, and it may hold secrets"""
_KEPT_PREFIXES = ("ANSIBLE_", "AWX_", "RUNNER_", "PYTHON")


class HostResult(Frozen):
    """What Ansible made of one host."""

    host: str
    state: Literal["ok", "failed", "unreachable", "interrupted"]
    changed: int
    """tasks that changed something"""
    message: str = ""
    """why it failed: the task and the host's own words"""
    would: tuple[TaskChange, ...] = ()
    """of a check: what would have changed"""


def apply(
    run_dir: Path,
    fleet: Fleet,
    plans: Sequence[HostPlan],
    secrets: Mapping[str, str],
    *,
    on_event: OnEvent,
    interrupted: Callable[[], bool],
    strategy: Strategy = "mitogen_free",
    check: bool = False,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    roles: Sequence[str] = ROLES,
    on_applied: Callable[[str], None] = lambda _host: None,
) -> tuple[HostResult, ...]:
    """Brings every host of `plans` to its plan; the hosts go on side by side, each at its own pace.

    `run_dir` is fresh and 0700; the inventory and Ansible's own records stay in it. A failing host holds up no other.
    `check`: Ansible's check mode, which changes nothing; results tell what would change. `more`: variables by host.
    `roles`: those that run.
    `on_applied` is told the name of a host as soon as it is through, while others are still at work; it must be quick.
    """
    inventory = write_inventory(run_dir / "inventory", fleet, plans, more)
    hosts = [plan.host for plan in plans]
    return _play(
        run_dir, "site.yml", inventory, hosts, secrets, {"provision_gather_facts": bool(NEED_FACTS & set(roles))},
        on_event=on_event, interrupted=interrupted, strategy=strategy, check=check,
        tags=() if set(roles) == set(ROLES) else roles, on_applied=on_applied,
    )  # fmt: skip


def usable(strategy: Strategy) -> tuple[Strategy, str]:
    """The strategy to run with, and why it is another one; "" where it is the one that was wanted."""
    if not strategy.startswith("mitogen"):
        return strategy, ""
    if _mitogen_plugins() is None:
        return "linear", "mitogen is not installed"
    problem = _mitogen_problem()
    return ("linear", f"mitogen does not work with this Ansible: {problem}") if problem else (strategy, "")


def reset(
    run_dir: Path,
    fleet: Fleet,
    hosts: Sequence[str],
    variables: Mapping[str, Any],
    *,
    on_event: OnEvent,
    interrupted: Callable[[], bool],
    strategy: Strategy = "mitogen_free",
) -> tuple[HostResult, ...]:
    """Runs reset.yml over these hosts; `variables` are those of the role removal. Otherwise as `apply`."""
    inventory = write_connections(run_dir / "inventory", fleet, hosts)
    extra = {**variables, "removal_confirmed": "yes"}
    return _play(
        run_dir, "reset.yml", inventory, hosts, {}, extra, on_event=on_event, interrupted=interrupted,
        strategy=strategy, check=False,
    )  # fmt: skip


def _play(
    run_dir: Path,
    playbook: str,
    inventory: Path,
    hosts: Sequence[str],
    secrets: Mapping[str, str],
    variables: Mapping[str, Any],
    *,
    on_event: OnEvent,
    interrupted: Callable[[], bool],
    strategy: Strategy,
    check: bool,
    tags: Sequence[str] = (),
    on_applied: Callable[[str], None] = lambda _host: None,
) -> tuple[HostResult, ...]:
    """One playbook to its end."""
    strategy, why = usable(strategy)
    if why:
        for host in hosts:
            task = f"Ansible goes through the hosts in its own, slower way: {why}"
            on_event(Event(host=host, phase="apply", status="running", task=task))
    import ansible_runner.interface  # a converged fleet never needs it

    outcomes = Outcomes(hosts, on_event, on_applied)
    with memory_file(json.dumps({secret_name(key): value for key, value in secrets.items()})) as secrets_path:
        extra = run_dir / "extra-vars.yml"
        text = extra_variables(secrets_path, run_dir / "logs") + (dump(dict(variables)) if variables else "")
        extra.write_text(text, encoding="utf-8")
        runner = ansible_runner.interface.init_runner(
            private_data_dir=str(run_dir),
            ident="ansible",
            playbook=str(assets.ansible_dir() / "playbooks" / playbook),
            inventory=str(inventory),
            cmdline=shlex.join(
                ["--extra-vars", f"@{extra}", "--diff", *(["--check"] if check else []), *_only(tags)],
            ),
            quiet=True,
            settings={"pexpect_timeout": 1, "job_timeout": TIMEOUT_S, "suppress_ansible_output": True},
            event_handler=outcomes.take,
            cancel_callback=interrupted,
        )
        runner.config.env = _environment(runner.config.env, strategy, forks=forks(len(hosts)))
        with reaper(str(extra)):
            status, _ = runner.run()
    if status == "timeout":
        raise ProvisionError(f"Ansible did not finish within {TIMEOUT_S // 3600} h; its record is in {run_dir}")
    results = tuple(_result(host, outcomes, status, run_dir) for host in outcomes.hosts)
    if not check:
        return results
    return tuple(result.model_copy(update={"would": outcomes.changes(result.host)}) for result in results)


def forks(hosts: int) -> int:
    """How many hosts Ansible works on at a time: all of them, as far as this machine's processors and memory go."""
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2**20
    able = min(len(os.sched_getaffinity(0)) * FORKS_A_PROCESSOR, memory_mib // FORK_MIB)
    return max(1, min(hosts, able))


def _only(tags: Sequence[str]) -> list[str]:
    return ["--tags", ",".join(tags)] if tags else []


def _environment(env: Mapping[str, str], strategy: Strategy, *, forks: int) -> dict[str, str]:
    kept = {key: value for key, value in env.items() if key in _KEPT or key.startswith(_KEPT_PREFIXES)}
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}",
        "ANSIBLE_ROLES_PATH": str(assets.ansible_dir() / "roles"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_FORKS": str(forks),
        "ANSIBLE_STRATEGY": strategy,
        "ANSIBLE_TIMEOUT": str(CONNECT_TIMEOUT_S),
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=15",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_NOCOLOR": "True",
    }
    if strategy.startswith("mitogen"):
        settings["ANSIBLE_STRATEGY_PLUGINS"] = str(_mitogen_plugins())
    return {**kept, **settings}


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


def _result(host: str, outcomes: Outcomes, status: str, run_dir: Path) -> HostResult:
    changed = outcomes.changed(host)
    if outcomes.unreachable(host):
        return HostResult(host=host, state="unreachable", changed=changed, message=outcomes.message(host))
    if status == "canceled":
        where = f"during “{outcomes.task(host)}”" if outcomes.task(host) else "before its first task"
        return HostResult(host=host, state="interrupted", changed=changed, message=where)
    if not outcomes.finished:
        tail = _tail(run_dir / "artifacts" / "ansible" / "stdout")
        return HostResult(
            host=host, state="failed", changed=changed, message=f"Ansible ended early ({status}):\n{tail}"
        )
    if outcomes.failed(host):
        return HostResult(host=host, state="failed", changed=changed, message=outcomes.message(host))
    return HostResult(host=host, state="ok", changed=changed)


def _tail(path: Path, lines: int = 20) -> str:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return "\n".join(text.splitlines()[-lines:])
