"""What somebody changed by hand is seen, named and repaired; what is as planned is left alone, by Ansible alone too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import BIN, DEPLOY_TAG, ROOT, SIM_IMAGE, Done, Lab, container, health, run, shell, wait_for

UNIT = "/etc/systemd/system/vllm-sim.service"


@pytest.fixture
def fleet(lab: Lab, served: str) -> Path:
    """Converged at the start of every test."""
    path = lab.folder / "sim.yaml"
    done = lab.run("plan", path)
    assert done.rc == 0, str(done)
    return path


def test_drift_is_named_and_repaired(lab: Lab, served: str, fleet: Path) -> None:
    # as often as systemd allows in ten minutes: the repair must not be refused for it
    shell(served, "systemctl reset-failed vllm-sim")
    for _ in range(5):
        shell(served, "systemctl restart vllm-sim")
        # before it serves, the first process of a container does not heed SIGTERM: the next stop would take its time
        wait_for(lambda: health(served), 60, f"/health on {served} after its restart")
    shell(served, f"docker image rm {DEPLOY_TAG}")
    _names(lab.run("plan", fleet), DEPLOY_TAG)
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


def test_a_container_of_somebody_else_in_our_place_is_replaced(lab: Lab, served: str, fleet: Path) -> None:
    """The unit is as planned and active; what runs under its name is not what it says."""
    shell(served, f"docker tag {SIM_IMAGE} kept:1 && docker image rm {SIM_IMAGE}")
    _names(lab.run("plan", fleet), SIM_IMAGE)
    shell(served, f"docker tag kept:1 {SIM_IMAGE} && docker image rm kept:1")


def test_ansible_alone_finds_nothing_to_do(lab: Lab, served: str, fleet: Path) -> None:
    """The rendered inventory serves without this program: no change, with and without --check."""
    inventory = lab.folder / "rendered" / "inventory"
    rendered = lab.run("render", fleet, "-o", inventory.parent)
    assert rendered.rc == 0, str(rendered)
    assert f"file:{lab.fleet.parent / 'hf_token'}" in (inventory / "group_vars" / "all.yml").read_text()
    before = container(served)
    playbook = [str(BIN / "ansible-playbook"), "-i", str(inventory), str(ROOT / "playbooks" / "site.yml")]
    for words in (["--check", "--diff"], []):
        done = run([*playbook, *words], env=lab.environment(), timeout=300)
        assert done.rc == 0, str(done)
        (changed,) = re.findall(rf"{served}\s+: ok=\d+\s+changed=(\d+)", done.stdout)
        assert changed == "0", done.stdout
    assert container(served) == before
    assert lab.run("plan", fleet).rc == 0


def test_ansible_alone_says_what_it_would_change(lab: Lab, served: str, fleet: Path) -> None:
    changed = lab.write_fleet("render-changed", [served], env={"MORE": "1"})
    inventory = lab.folder / "rendered-changed" / "inventory"
    assert lab.run("render", changed, "-o", inventory.parent).rc == 0
    before = container(served)
    playbook = [str(BIN / "ansible-playbook"), "-i", str(inventory), str(ROOT / "playbooks" / "site.yml")]
    done = run([*playbook, "--check", "--diff"], env=lab.environment(), timeout=300)
    assert done.rc == 0, str(done)
    assert "MORE=1" in done.stdout
    assert not re.search(rf"{served}\s+: ok=\d+\s+changed=0", done.stdout), done.stdout
    assert container(served) == before
    assert lab.run("plan", fleet).rc == 0


def _names(done: Done, *words: str) -> None:
    assert done.rc == 5, str(done)
    for word in words:
        assert word in done.stdout, f"{word!r} is not in:\n{done}"
