"""Looking at what is ours, with this machine's own python3: the text that a host is given runs and answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from provisioner.hosts import lease
from provisioner.plan.removal import removal
from provisioner.rollout.removal import BEGIN, END, script


def test_the_look_runs_without_ansible_and_this_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lease, "FILE", str(tmp_path / "lease.json"))
    (tmp_path / "lease.json").write_text('{"last": "t1"}')
    done = subprocess.run(
        ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "python3", "-I", "-"],
        input=script(),
        capture_output=True,
        text=True,
        check=False,
    )
    if "no sudo" in done.stderr:  # not root here, and that is what it says
        assert done.returncode == 1
        return
    assert done.returncode == 0, done.stderr
    _, _, rest = done.stdout.partition(BEGIN + "\n")
    answer = json.loads(rest.partition("\n" + END)[0])
    assert answer["record"]["version"] == 1
    assert answer["now"]["packages"]
    assert float(answer["uptime"].split()[0]) > 0
    assert lease.mark(answer["lease"]) == "t1"
    found = removal("here", answer, weights=True, docker=True)
    assert found.host == "here"
