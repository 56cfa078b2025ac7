"""The units of a schedule, as systemd reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import fleet

from provisioner.fleet.notify import Notify
from provisioner.fleet.schedule import Schedule
from provisioner.rollout.timer import Place, Scope, units

ANALYZE = shutil.which("systemd-analyze")
pytestmark = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")


@pytest.mark.parametrize("mails", [False, True])
@pytest.mark.parametrize("scope", ["user", "system"])
def test_systemd_finds_nothing_wrong(scope: Scope, mails: bool, tmp_path: Path) -> None:
    rules = (Notify(on=("failed",), email=("root",)),) if mails else ()
    folder = tmp_path / 'a 100% "fleet"'
    folder.mkdir()
    schedule = Schedule(calendar="Sat *-*-* 02:00", time_zone="Europe/Berlin", jitter="15m")
    changes = {"name": "nights", "path": folder / "fleet.yaml", "schedule": schedule, "notify": rules}
    place = Place(scope, (sys.executable,), tmp_path, tmp_path / "state", "root" if scope == "system" else None)
    made = units(fleet().model_copy(update=changes), place)
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    assert ANALYZE
    wanted = [str(tmp_path / name).replace("@.", "@timer.") for name in made]
    for name in made:
        if "@." in name:
            shutil.copy(tmp_path / name, tmp_path / name.replace("@.", "@timer."))
    argv = [ANALYZE, "verify", *(["--user"] if scope == "user" else []), "--man=no", *wanted]
    environment = {"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "LC_ALL": "C"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    ours = [line for line in done.stderr.splitlines() if "provision-nights" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
