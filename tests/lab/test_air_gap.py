"""Hosts that reach nothing: everything comes with SSH, out of a bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import SIM_IMAGE, SLOW_VARIABLE, Lab, chat, health, shell, slow_jobs

from provisioner.lab import faults

HOSTS = {"amd64": "lab-h100-4", "arm64": "lab-gb10-1"}


@dataclass(frozen=True)
class Place:
    """A host that was never provisioned, its fleet file, and a bundle that was made before it is cut off."""

    host: str
    arch: str
    fleet: Path
    bundle: Path


@pytest.fixture(scope="module", params=list(HOSTS))
def place(lab: Lab, request: pytest.FixtureRequest) -> Place:
    if request.param == "arm64" and not slow_jobs():
        pytest.skip(f"a slow job ({SLOW_VARIABLE}=1, on its own: it needs a fresh {HOSTS['arm64']})")
    host, bundle = HOSTS[request.param], lab.folder / f"bundle-{request.param}"
    fleet = lab.write_fleet(f"air-gap-{request.param}", [host])
    done = lab.run("bundle", fleet, "-o", bundle)
    assert done.rc == 0, str(done)
    return Place(host, request.param, fleet, bundle)


def test_a_bundle_holds_what_the_host_would_fetch(place: Place) -> None:
    told = json.loads((place.bundle / "manifest.json").read_text())
    assert [(one["reference"], one["platform"]) for one in told["images"]] == [(SIM_IMAGE, f"linux/{place.arch}")]
    assert len(told["models"]) == 1
    (packages,) = told["packages"]
    assert packages["system"] == {"id": "debian", "version": "13", "arch": place.arch}
    assert {"docker.io", "python3-requests"} <= set(packages["packages"])
    assert not (place.bundle / ".work").exists()


def test_making_it_again_fetches_what_is_missing_alone(lab: Lab, place: Place) -> None:
    model = next(path for path in place.bundle.glob("models/**/*") if path.is_file())
    content = model.read_bytes()
    model.unlink()
    archive = next(place.bundle.glob("images/*"))
    before = archive.stat().st_mtime_ns
    done = lab.run("bundle", place.fleet, "-o", place.bundle)
    assert done.rc == 0, str(done)
    assert done.stderr.count("there already") == 1
    assert archive.stat().st_mtime_ns == before
    assert model.read_bytes() == content


def test_a_bundle_that_does_not_fit_is_an_error_before_anything_is_touched(lab: Lab, place: Place) -> None:
    other = lab.write_fleet("air-gap-other", [place.host], image={"default": "vllm/vllm-openai:v0.12.1"})
    with faults.cut_off(place.host):
        done = lab.run(other, "--yes", "--bundle", place.bundle)
    assert done.rc == 2, str(done)
    words = f"the bundle has no image vllm/vllm-openai:v0.12.1 for linux/{place.arch}; it has {SIM_IMAGE}"
    assert words in done.stderr, str(done)
    assert "nothing was changed" in done.stderr
    assert lab.runs("air-gap-other") == []
    _untouched(place.host)


def test_a_damaged_bundle_is_not_used(lab: Lab, place: Place) -> None:
    archive = next(place.bundle.glob("images/*"))
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + b"x")
    try:
        with faults.cut_off(place.host):
            done = lab.run(place.fleet, "--yes", "--bundle", place.bundle)
    finally:
        archive.write_bytes(content)
    assert done.rc == 2, str(done)
    assert f"images/{archive.name} is not what it was" in done.stderr
    _untouched(place.host)


def test_a_host_without_a_way_out_is_served(lab: Lab, place: Place) -> None:
    host = place.host
    with faults.cut_off(host):
        tried = shell(host, f"curl -sS -m 5 http://{lab.gateway}:8800/health 2>&1; true")
        assert "connect" in tried, tried
        done = lab.run(place.fleet, "--yes", "--smoke", "--bundle", place.bundle, timeout=1500)
        assert done.rc == 0, str(done)
        assert health(host)
        model = json.loads((place.bundle / "manifest.json").read_text())["models"][0]["repo"]
        assert chat(host, model)[0] == 200
        again = lab.run("plan", place.fleet, "--bundle", place.bundle)
        assert "  ~ " not in again.stdout, str(again)
    # what came by SSH is gone, and apt asks the distribution's archives again
    assert "bundle" not in shell(host, "ls /var/lib/vllm; apt-config dump")


def _untouched(host: str) -> None:
    assert shell(host, "ls -d /var/lib/vllm /etc/docker 2>/dev/null; true") == ""
