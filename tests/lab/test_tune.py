"""A tuning that is interrupted puts its server back and is gone on with; the choice ends in the fleet file."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import yaml
from support import Lab, shell, wait_for

ARGV = "docker container inspect --format '{{json .Args}}' vllm-sim"
TRYING = "trying max_num_seqs 2"


def test_interrupted_put_back_gone_on_with_and_written(lab: Lab, served: str, as_planned: Path) -> None:
    fleet = as_planned
    before = shell(served, ARGV)
    words = ("tune", fleet, "--sweep", "max-num-seqs=2", "--budget", "2m", "--yes")
    with lab.started(*words) as run:
        wait_for(lambda: TRYING in run.text or run.process.poll() is not None, 90, lambda: f"{TRYING}:\n{run.text}")
        os.kill(run.process.pid, signal.SIGINT)
        stopped = run.done(120)
    assert stopped.rc == 130, str(stopped)
    assert "left: interrupted" in stopped.stdout, str(stopped)
    assert shell(served, ARGV) == before
    assert lab.run("plan", fleet).rc == 0  # nothing to change, nothing to prove again

    done = lab.run(*words, "--pick", "latency", "--write", "--json")
    assert done.rc == 0, str(done)
    found = json.loads(done.stdout)
    assert {point["label"]: bool(point["kept_from"]) for point in found["points"]} == {
        "as it is": True,
        "max_num_seqs 2": False,
    }
    assert found["put_back"]
    assert shell(served, ARGV) == before
    written = yaml.safe_load(fleet.read_text())["servers"]["sim"]
    wanted = {"as it is": 8, "max_num_seqs 2": 2}[found["chosen"]]
    assert written["max_num_seqs"] == wanted, str(done)
    lab.write_fleet("sim", [served])
    assert lab.run("plan", fleet).rc == 0  # the server is as other tests know it
