"""Hosts that reach nothing: everything comes with SSH, out of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import SIM_IMAGE, Lab, chat, health, shell

from provisioner.lab import faults

HOST = "lab-h100-4"


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Path:
    return lab.write_fleet("air-gap", [HOST])


@pytest.fixture(scope="module")
def bundle(lab: Lab, fleet: Path) -> Path:
    """Made before the host was cut off."""
    folder = lab.folder / "bundle"
    done = lab.run("bundle", fleet, "-o", folder)
    assert done.rc == 0, str(done)
    return folder


def test_a_bundle_holds_what_the_host_would_fetch(bundle: Path) -> None:
    told = json.loads((bundle / "manifest.json").read_text())
    assert [(one["reference"], one["platform"]) for one in told["images"]] == [(SIM_IMAGE, "linux/amd64")]
    assert len(told["models"]) == 1
    (packages,) = told["packages"]
    assert packages["system"] == {"id": "debian", "version": "13", "arch": "amd64"}
    assert {"docker.io", "python3-requests"} <= set(packages["packages"])
    assert not (bundle / ".work").exists()


def test_making_it_again_fetches_nothing(lab: Lab, fleet: Path, bundle: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (*bundle.glob("images/*"), *bundle.glob("models/**/*"))}
    done = lab.run("bundle", fleet, "-o", bundle)
    assert done.rc == 0, str(done)
    assert done.stderr.count("there already") == 2
    assert {path: path.stat().st_mtime_ns for path in (*bundle.glob("images/*"), *bundle.glob("models/**/*"))} == before


def test_a_bundle_that_does_not_fit_is_an_error_before_anything_is_touched(lab: Lab, bundle: Path) -> None:
    other = lab.write_fleet("air-gap-other", [HOST], image={"default": "vllm/vllm-openai:v0.12.1"})
    with faults.cut_off(HOST):
        done = lab.run(other, "--yes", "--bundle", bundle)
    assert done.rc == 2, str(done)
    assert f"the bundle has no image vllm/vllm-openai:v0.12.1 for linux/amd64; it has {SIM_IMAGE}" in done.stderr
    assert "nothing was changed" in done.stderr
    assert lab.runs("air-gap-other") == []
    assert shell(HOST, "ls /var/lib/vllm 2>&1; true").startswith("ls: cannot access")


def test_a_damaged_bundle_is_not_used(lab: Lab, fleet: Path, bundle: Path) -> None:
    archive = next((bundle / "images").iterdir())
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + b"x")
    try:
        with faults.cut_off(HOST):
            done = lab.run(fleet, "--yes", "--bundle", bundle)
    finally:
        archive.write_bytes(content)
    assert done.rc == 2, str(done)
    assert f"images/{archive.name} is not what it was" in done.stderr
    assert shell(HOST, "ls /var/lib/vllm 2>&1; true").startswith("ls: cannot access")


def test_a_host_without_a_way_out_is_served(lab: Lab, fleet: Path, bundle: Path) -> None:
    with faults.cut_off(HOST):
        assert "refused" in shell(HOST, f"curl -sS -m 5 http://{lab.gateway}:8800/health 2>&1; true").lower()
        done = lab.run(fleet, "--yes", "--smoke", "--bundle", bundle)
        assert done.rc == 0, str(done)
        assert health(HOST)
        model = json.loads((bundle / "manifest.json").read_text())["models"][0]["repo"]
        assert chat(HOST, model)[0] == 200
        again = lab.run("plan", fleet, "--bundle", bundle)
        assert "will be" not in again.stdout, str(again)
    # what came by SSH is gone, and Docker asks the distribution's archives again
    assert shell(HOST, "ls /var/lib/vllm").split() == ["huggingface", "images.json", "installed.json", "plugins"]
    assert "bundle" not in shell(HOST, "apt-config dump")
