"""What somebody changed by hand is seen, named and repaired; what is as planned is left alone, by Ansible alone too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import BIN, DEPLOY_TAG, ROOT, SIM_IMAGE, Done, Lab, container, fingerprint, health, run, shell, wait_for

from provisioner.lab import faults
from provisioner.lab.hardware import model

UNIT = "/etc/systemd/system/vllm-sim.service"
PROOF = "/var/lib/vllm/proofs/sim.json"
DRIVER = model("h100").driver


@pytest.fixture
def fleet(lab: Lab, as_planned: Path) -> Path:
    """Converged at the start of every test."""
    done = lab.run("plan", as_planned)
    assert done.rc == 0, str(done)
    return as_planned


def test_drift_is_named_and_repaired(lab: Lab, served: str, fleet: Path) -> None:
    # as often as systemd allows in ten minutes: the repair must not be refused for it
    shell(served, "systemctl reset-failed vllm-sim")
    for _ in range(5):
        shell(served, "systemctl restart vllm-sim")
    wait_for(lambda: health(served), 60, f"/health on {served} after its restarts")
    with faults.driver(served, "590.44.01"):
        _names(lab.run("plan", fleet), f"sim: validate again: it was proven with driver {DRIVER}, now it is 590.44.01")
    shell(served, f"docker tag {SIM_IMAGE} kept:1 && docker image rm {SIM_IMAGE} {DEPLOY_TAG}")
    _names(lab.run("plan", fleet), f"{SIM_IMAGE}: not there; will be pulled")
    shell(served, f"docker tag kept:1 {SIM_IMAGE} && docker image rm kept:1")
    shell(served, f"echo '# DRIFT' >> {UNIT}")
    _names(lab.run("plan", fleet, "--diff"), DEPLOY_TAG, UNIT, "-# DRIFT")
    shell(served, "systemctl stop vllm-sim && systemctl disable vllm-sim")
    _names(lab.run("plan", fleet), DEPLOY_TAG, UNIT, "vllm-sim.service", "is inactive")
    repaired = lab.run(fleet, "--yes")
    assert repaired.rc == 0, str(repaired)
    assert lab.run("plan", fleet).rc == 0
    assert health(served)
    assert "DRIFT" not in shell(served, f"cat {UNIT}")
    assert shell(served, "systemctl is-enabled vllm-sim").strip() == "enabled"
    tagged = shell(served, f"docker image inspect -f '{{{{.Id}}}}' {DEPLOY_TAG} {SIM_IMAGE}").split()
    assert len(set(tagged)) == 1, tagged


def test_a_container_with_other_arguments_is_replaced(lab: Lab, served: str, fleet: Path) -> None:
    """The unit is as planned and active; what runs is what it said in between."""
    shell(
        served,
        f"cp {UNIT} /root/kept && sed -i 's/--max-num-seqs 8/--max-num-seqs 4/' {UNIT} && "
        f"systemctl daemon-reload && systemctl restart vllm-sim && cp /root/kept {UNIT} && rm /root/kept",
    )
    said = ("its container runs other arguments", "its file changed since systemd read it")
    _names(lab.run("plan", fleet, "--diff"), *said, "-4", "+8")
    checked = lab.run(fleet, "--check")
    _names(checked, *said, f"{served}  ~ vllm_server: Enable and start vllm-sim.service")
    repaired = lab.run(fleet, "--yes")
    assert repaired.rc == 0, str(repaired)
    argv = json.loads(shell(served, "docker inspect vllm-sim"))[0]["Args"]
    assert argv[argv.index("--max-num-seqs") + 1] == "8"


def test_ansible_alone_finds_nothing_to_do(lab: Lab, served: str, fleet: Path) -> None:
    """The rendered inventory serves without this program."""
    inventory = lab.folder / "rendered" / "inventory"
    rendered = lab.run("render", fleet, "-o", inventory.parent)
    assert rendered.rc == 0, str(rendered)
    assert f"file:{lab.fleet.parent / 'hf_token'}" in (inventory / "group_vars" / "all.yml").read_text()
    before = container(served)
    playbook = [str(BIN / "ansible-playbook"), "-i", str(inventory), str(ROOT / "playbooks" / "site.yml")]
    done = run(playbook, env=lab.environment(), timeout=300)
    assert done.rc == 0, str(done)
    (changed,) = re.findall(rf"{served}\s+: ok=\d+\s+changed=(\d+)", done.stdout)
    assert changed == "0", done.stdout
    assert container(served) == before


def test_check_says_what_ansible_would_change(lab: Lab, served: str, fleet: Path) -> None:
    changed = lab.write_fleet("check", [served], env={"MORE": "1"})
    before, proof = fingerprint(served), shell(served, f"cat {PROOF}")
    done = lab.run(changed, "--check", "--diff")
    _names(done, f"{UNIT}: differs", "Ansible in check mode:", "~ vllm_server: Write the units", "MORE=1")
    assert fingerprint(served) == before
    assert shell(served, f"cat {PROOF}") == proof
    assert lab.runs("check") == []
    nothing = lab.run(fleet, "--check")
    assert nothing.rc == 0, str(nothing)
    assert "nothing for Ansible to do" in nothing.stdout


def _names(done: Done, *words: str) -> None:
    assert done.rc == 5, str(done)
    for word in words:
        assert word in done.stdout, f"{word!r} is not in:\n{done}"
