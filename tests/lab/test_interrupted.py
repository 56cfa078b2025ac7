"""A run that is stopped in the middle, in every way, on a host that was empty: it says where, and the next one goes on.

One host, in the order of a provisioning: each test stops a later phase, the last one finishes.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import FP8, Lab, chat, container, fingerprint, shell, show, wait_for

from provisioner.lab import faults

NAME = "interrupted"


@pytest.fixture(scope="module")
def fleet(lab: Lab, free_host: str) -> Path:
    return lab.write_fleet(NAME, [free_host])


def test_check_on_an_empty_host_says_what_would_be_done(lab: Lab, free_host: str, fleet: Path) -> None:
    """Ansible's check mode on a host with nothing on it; nothing is there afterwards."""
    before = fingerprint(free_host)
    key = lab.folder / "check_key"
    key.write_text("k\n")
    done = lab.run(lab.write_fleet("check-empty", [free_host], api_key=f"file:{key}"), "--check", "--diff")
    assert done.rc == 5, str(done)
    for words in ("docker: Docker is not installed", "Ansible in check mode:", "docker_engine: Say what would be"):
        assert words in done.stdout, str(done)
    assert fingerprint(free_host) == before
    assert lab.runs("check-empty") == []


def test_ctrl_c_while_docker_is_installed(lab: Lab, free_host: str, fleet: Path) -> None:
    before = lab.runs(NAME)
    with lab.started(fleet, "--yes") as run:
        run.wait_for_task(NAME, before, "docker_engine: Install the packages")
        os.killpg(run.process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        code = run.wait(60)
        assert code == 130, run.text
        assert "interrupted" in run.text
        assert "Traceback" not in run.text
    record = lab.record(NAME)
    assert record["exit_code"] == 130
    where = record["hosts"][free_host]
    assert where["state"] in ("stopped", "failed")
    assert (where["phase"], where["task"]) == ("apply", "docker_engine: Install the packages"), record
    _nobody_left(lab)


def test_kill_9_while_the_image_is_pulled(lab: Lab, free_host: str, fleet: Path) -> None:
    before = lab.runs(NAME)
    with lab.started(fleet, "--yes") as run:
        # what the others left of apt's work is finished on the way
        run.wait_for_task(NAME, before, "vllm_image: Pull")
        os.kill(run.process.pid, signal.SIGKILL)
        assert run.wait(60) == -signal.SIGKILL
    record = lab.record(NAME)
    assert record["finished"] is None
    # nobody was left to write it down, but the events are on the disk
    last = (lab.latest_run(NAME) / "events.jsonl").read_text().splitlines()[-1]
    assert "vllm_image: Pull" in last, last
    _nobody_left(lab)


def test_ssh_cut_while_the_model_is_fetched(lab: Lab, free_host: str) -> None:
    task = f"model_weights: Download {FP8}"
    fleet = lab.write_fleet(NAME, [free_host], top_rollout={"rollback": "never"})
    before = lab.runs(NAME)
    with lab.started(fleet, "--yes") as run:
        run.wait_for_task(NAME, before, task)
        cut = shell(free_host, "pkill -e -f '^sshd-session: [o]ps'; true")
        assert "killed" in cut, cut
        code = run.wait(120)
        assert code == 4, run.text
        assert f"{free_host}: unreachable: lost during “{task}”" in run.text
    record = lab.record(NAME)
    assert record["hosts"][free_host]["state"] == "failed", record
    assert record["hosts"][free_host]["phase"] == "apply", record
    assert record["hosts"][free_host]["task"] == task, record
    _nobody_left(lab)


def test_network_gone_while_it_is_validated(lab: Lab, free_host: str) -> None:
    """The cable is out for longer than a connection may be silent: the run ends by itself and says which host."""
    # a long benchmark, to have something to interrupt
    benchmark = {"random_input_len": 8, "random_output_len": 512, "num_prompts": 64, "max_concurrency": 1}
    # where hosts are near, less than the usual half a minute of silence is enough
    config = lab.folder / "impatient"
    config.write_text(
        (lab.fleet.parent / "ssh_config").read_text() + "Host *\n  ServerAliveInterval 2\n  ServerAliveCountMax 2\n"
    )
    fleet = lab.write_fleet(
        NAME,
        [free_host],
        benchmark={**benchmark, "num_warmups": 0},
        env={"SLOW": "1"},
        top_rollout={"rollback": "never"},  # which would wait for the host
        top_ssh={"config": str(config), "connect_timeout_s": 3},
    )
    before = lab.runs(NAME)
    with lab.started(fleet, "--yes") as run:
        run.wait_for_task(NAME, before, '"phase":"benchmark"')
        with faults.without_network(free_host):
            code = run.wait(180)
        assert code in (1, 4), run.text
        assert "Traceback" not in run.text
    record = lab.record(NAME)
    assert record["hosts"][free_host]["state"] == "failed", record
    assert record["hosts"][free_host]["phase"] == "benchmark", record


def test_the_next_run_finishes(lab: Lab, free_host: str) -> None:
    fleet = lab.write_fleet(NAME, [free_host])
    done = lab.run(fleet, "--yes")
    assert done.rc == 0, str(done)
    assert chat(free_host, FP8)[0] == 200
    assert lab.record(NAME)["hosts"][free_host]["state"] == "done"
    before = container(free_host)
    again = lab.run(fleet, "--yes")
    assert again.rc == 0, str(again)
    assert "nothing changed" in again.stdout
    assert container(free_host) == before
    leftovers = shell(free_host, "docker ps --all --format '{{.Names}} {{.Status}}'").splitlines()
    assert [line.split()[0] for line in leftovers] == ["vllm-sim"], leftovers
    assert shell(free_host, "find /run /tmp /root /home -name '*token*' -o -name 'ansible-tmp-*' | head").strip() == ""


def _nobody_left(lab: Lab) -> None:
    """No process of a run that has ended goes on on this machine."""

    def left() -> list[str]:
        found = []
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it ended meanwhile
                continue
            if str(lab.state / "provision" / "runs" / NAME) in words:
                found.append(words[:200])
        return found

    wait_for(lambda: not left(), 60, lambda: f"the end of {left()}")
    show("nothing of the stopped run is left on this machine")
