"""The wheel, installed in a clean environment and run from /, works like the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from concurrent.futures import Future
from pathlib import Path

import pytest
from support import ROOT, Lab, run
from wheels import Installed

ALONE = {"PYTHONPATH": ""}
"""what is imported is the installed wheel, wherever else this environment would look"""


@pytest.fixture(scope="module")
def installed(installing: Future[Installed]) -> Installed:
    return installing.result()


def test_what_is_in_the_wheel(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    roles = {name.split("/")[3] for name in names if name.startswith("provisioner/_ansible/roles/")}
    assert roles == {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}
    tracked = subprocess.run(
        ["git", "ls-files", "playbooks", "roles"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {f"provisioner/_ansible/{name}" for name in tracked if "/molecule/" not in name and "/tests/" not in name}
    assert wanted <= set(names), wanted - set(names)
    assert "provisioner/fleet/data/hardware.yaml" in names
    assert not [name for name in names if "molecule" in name or name.startswith("tests/") or "__pycache__" in name]


def test_it_runs_from_anywhere(installed: Installed, lab: Lab) -> None:
    done = lab.run("--help", program=installed.program, cwd=Path("/"), env=ALONE)
    assert done.rc == 0, str(done)
    assert "Exit codes" in done.stdout
    where = run(
        [str(installed.program.parent / "python"), "-c", "import provisioner; print(provisioner.__file__)"],
        cwd=Path("/"),
        env={**os.environ, **ALONE},
    )
    assert str(installed.program.parent.parent) in where.stdout
    assert str(ROOT) not in where.stdout
    assert sys.prefix not in where.stdout


def test_it_plans_and_applies(installed: Installed, lab: Lab, served: str, as_planned: Path) -> None:
    """It plans the unit that the checkout wrote, and applies a change with its own playbook and roles."""
    nothing = lab.run("plan", as_planned, program=installed.program, cwd=Path("/"), env=ALONE)
    assert nothing.rc == 0, str(nothing)
    changed = lab.write_fleet("wheel", [served], env={"WHEEL": "1"})
    done = lab.run(changed, "--yes", "--smoke", program=installed.program, cwd=Path("/"), env=ALONE)
    assert done.rc == 0, str(done)
    command = (lab.latest_run("wheel") / "artifacts" / "ansible" / "command").read_text()
    assert str(installed.program.parent.parent) in command
    assert str(ROOT / "playbooks") not in command
