"""What a command loads before it begins: seconds that every use of it would cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = frozenset(
    ("ansible_runner", "huggingface_hub", "jinja2", "paramiko", "pydantic", "rich", "ruamel.yaml", "sqlite3", "yaml")
)


def loaded(code: str) -> set[str]:
    said = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(said.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["apply", "--help"], ["lab", "--help"], ["version"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    modules = loaded(f"from provisioner.cli.main import run\nassert run({words!r}) == 0")
    # Typer itself reads the words of a command with pydantic.
    heavy = HEAVY - ({"pydantic"} if words != ["--help"] else set())
    assert modules.isdisjoint(heavy), sorted(modules & heavy)


@pytest.mark.parametrize("command", ["apply", "plan", "probe", "validate"])
def test_a_run_loads_neither_ansible_nor_the_history_before_there_is_something_to_do(command: str) -> None:
    modules = loaded(f"import provisioner.cli.{command}")
    assert "pydantic" in modules  # else this test looks in the wrong place
    assert not modules & {"ansible_runner", "huggingface_hub", "paramiko", "rich", "sqlite3"}
    assert "provisioner.apply.workers" not in modules


def test_a_fleet_without_work_needs_no_history_and_no_search_for_garbage(tmp_path: Path) -> None:
    code = f"""
import gc, os
from pathlib import Path
from provisioner.cli import main

def searches():
    return sum(generation["collections"] for generation in gc.get_stats())

def run(argv):
    global loading
    before = searches()
    from provisioner.cli.apply import alone
    from provisioner.errors import Exit
    from provisioner.fleet.models import Fleet, Host
    from provisioner.rollout.connections import Connections
    fleet = Fleet(path=Path("fleet.yaml"), hosts=(Host(name="gpu-01"),), servers=())
    connections = Connections(lambda host: None)
    code = alone(fleet, connections, lambda on_look: Exit.OK, lambda *_: Exit.OK, hosts=lambda seen: (), wait_s=0)
    loading = searches() - before
    return int(code)

os.environ["XDG_STATE_HOME"] = {str(tmp_path)!r}
main.run = run
try:
    main.main()
except SystemExit as end:
    assert end.code == 0
assert loading == 0
assert gc.get_freeze_count() > 0
"""
    modules = loaded(code)
    assert "provisioner.rollout.leases" in modules  # else this test looks in the wrong place
    assert not modules & {"sqlite3", "provisioner.history.store"}


@pytest.mark.parametrize("command", ["explain", "history", "monitoring", "recipe_command", "report", "schema"])
def test_commands_that_reach_no_host_load_nothing_for_it(command: str) -> None:
    modules = loaded(f"import provisioner.cli.{command}")
    assert not modules & {"ansible_runner", "huggingface_hub", "paramiko"}


def test_connecting_loads_paramiko_alone() -> None:
    modules = loaded("from provisioner.hosts.dial import _load\n_load()")
    assert "paramiko.transport" in modules
    assert modules.isdisjoint(("invoke", "asyncio", "unittest.mock"))
