"""`provision lab status` and a second `up`."""

from __future__ import annotations

import json

import fabric
from support import PROVISION, Lab, run

from provisioner.lab.docker import inspect


def test_status_tells_what_runs(lab: Lab) -> None:
    done = run([str(PROVISION), "lab", "status", "--json"])
    assert done.rc == 0, str(done)
    told = json.loads(done.stdout)
    assert told["up"] is True
    hosts = {host["name"]: host for host in told["hosts"]}
    assert {"lab-h200-1", "lab-h200-2", "lab-h100-1", "lab-h100-2", "lab-gb10-1"} <= set(hosts)
    assert hosts["lab-gb10-1"]["arch"] == "arm64"
    assert all(host["running"] for host in hosts.values())
    text = run([str(PROVISION), "lab", "status"]).stdout
    assert "simulated" in text
    assert str(lab.fleet) in text


def test_up_again_keeps_what_runs(lab: Lab) -> None:
    names = ["lab-h100-1", "lab-gb10-1"]
    before = [(host["Id"], host["State"]["StartedAt"]) for host in inspect("container", names)]
    text = lab.fleet.read_text()
    engine = "auto" if lab.real_vllm else "sim"
    argv = ["lab", "up", "--hosts", "h100:2", "--fleet", str(lab.fleet), "--engine", engine]
    done = run([str(PROVISION), *argv], timeout=300)
    assert done.rc == 0, str(done)
    assert [(host["Id"], host["State"]["StartedAt"]) for host in inspect("container", names)] == before
    # asked for H100s alone this time; a GB10 that is there stays in the file
    assert "lab-gb10-1" in lab.fleet.read_text()
    assert ("dgx_spark_gb10" in text) == ("dgx_spark_gb10" in lab.fleet.read_text())


def test_other_tools_log_in_with_its_configuration(lab: Lab) -> None:
    """What `lab up` writes is plain SSH configuration: Fabric reaches every host with it, as scripts would."""
    machines = {"lab-h200-1": "x86_64", "lab-h100-1": "x86_64", "lab-gb10-1": "aarch64"}
    config = fabric.Config(runtime_ssh_path=str(lab.fleet.parent / "ssh_config"))
    with fabric.ThreadingGroup(*machines, config=config) as group:
        told = group.run("sudo uname -m", hide=True, in_stream=False)
    assert {one.original_host: answer.stdout.strip() for one, answer in told.items()} == machines
