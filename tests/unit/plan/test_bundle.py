"""What a fleet needs of a bundle, what a host gets of it, and every word about what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from builders import converged, facts, fleet, plan, server, spark

from provisioner.errors import UsageError
from provisioner.fleet.models import Build, Image
from provisioner.plan.bundle import (
    ON_HOST,
    Blob,
    BundledImage,
    BundledModel,
    BundledPackages,
    BundledPlugin,
    Manifest,
    bundle_variables,
    bundled,
    from_bundle,
    wanted,
)
from provisioner.plan.diff import changes
from provisioner.plan.facts import Docker, Facts
from provisioner.plan.model import HostPlan
from provisioner.plan.packages import System

IMAGE = "vllm/vllm-openai:v0.12.0"
DEBIAN = {"os_id": "debian", "os_version": "13", "os_name": "Debian GNU/Linux 13 (trixie)"}
TRIXIE = System(id="debian", version="13", arch="amd64")
PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "python3-apt", "python3-requests")
COMMIT = "c" * 40


def blob(path: str) -> Blob:
    return Blob(path=path, size=3, sha256="0" * 64)


def whole(of: HostPlan, **changes: Any) -> Manifest:
    """Everything that a plan needs."""
    values: dict[str, Any] = {
        "images": [
            BundledImage(
                reference=one.reference, platform=one.platform, digest="sha256:1", archive=blob("images/i.tar")
            )
            for one in of.images
        ],
        "models": [
            BundledModel(
                repo=one.repo, revision=one.revision, commit=COMMIT, folder="models/m/c", files=(blob("models/m/c/f"),)
            )
            for one in of.weights
        ],
        "plugins": [
            BundledPlugin(
                repo=p.repo, revision=p.revision, commit=COMMIT, file=p.file, blob=blob(f"models/m/c/{p.file}")
            )
            for p in of.plugins
        ],
        "packages": [
            BundledPackages(system=TRIXIE, folder="packages/t", packages=PACKAGES, files=(blob("packages/t/Packages"),))
        ],
    }
    return Manifest(fleet="fleet", **(values | changes))


def debian(**seen: Any) -> Facts:
    return facts(**DEBIAN, **seen)


def pulled(**settings: Any) -> HostPlan:
    return plan(fleet(server(image={"default": Image(pull=IMAGE)}, **settings)), debian())


def test_a_fleet_needs_everything_once() -> None:
    the_fleet = fleet(server(image={"default": Image(pull=IMAGE)}), hosts=("a", "b", "s"))
    seen = {"a": facts("a", **DEBIAN), "b": facts("b", **DEBIAN), "s": spark("s", os_id="ubuntu", os_version="24.04")}
    needed = wanted([(plan(the_fleet, one), one) for one in seen.values()])
    assert needed.images == ((IMAGE, "linux/amd64"), (IMAGE, "linux/arm64"))
    assert len(needed.models) == len({repo for repo, _ in needed.models})
    assert needed.packages == {
        TRIXIE: PACKAGES,
        System(id="ubuntu", version="24.04", arch="arm64"): (
            "docker.io",
            "docker-buildx",
            "python3-apt",
            "python3-requests",
        ),
    }


def test_a_host_with_docker_needs_what_ansible_needs_alone() -> None:
    there = debian(docker=Docker(version="28.5.1"))
    needed = wanted([(plan(seen=there), there)])
    assert needed.packages == {
        TRIXIE: (
            "python3-apt",
            "python3-requests",
        )
    }
    red_hat = facts(docker=Docker(version="28.5.1"), os_id="rhel", os_version="9.4")
    assert wanted([(plan(seen=red_hat), red_hat)]).packages == {}


def test_what_no_bundle_can_have() -> None:
    build = Build(git="https://example.com/vllm.git", ref="v0.12.0", dockerfile="d", target="t")
    digest = f"{IMAGE}@sha256:{'0' * 64}"
    the_fleet = fleet(
        server("a", image={"default": Image(build=build)}, port=1),
        server("b", image={"default": Image(pull=digest)}, port=2),
        docker={"source": "docker.com"},
    )
    red_hat = facts(os_id="rhel", os_version="9.4", os_name="RHEL 9.4")
    hosts = [(plan(the_fleet, debian()), debian()), (plan(seen=red_hat), red_hat)]
    with pytest.raises(UsageError) as raised:
        wanted(hosts)
    built = plan(the_fleet, debian()).images[0].reference
    assert str(raised.value) == (
        "nothing was bundled:\n"
        f"  gpu-01: {built} is built on the host: push what was built to a registry and name it there, or save it to a "
        "file and name that\n"
        f"  gpu-01: {digest} is named by digest, which no archive gives to Docker: name it by a tag alone\n"
        "  gpu-01: Docker is to come from docker.com, whose packages cannot be bundled\n"
        "  hint: docker: {source: distribution}, or install Docker by hand\n"
        "  gpu-01: Docker is not installed, and packages of RHEL 9.4 cannot be bundled\n"
        "  hint: install Docker by hand; bundles have packages for Debian and Ubuntu"
    )


def test_a_fresh_host_gets_everything() -> None:
    of = pulled()
    found, lacking = bundled(of, debian(), whole(of))
    assert lacking == ()
    assert [one.reference for one in found.images] == [IMAGE]
    assert len(found.models) == len(of.weights) == 1
    assert len(found.plugins) == len(of.plugins)
    assert found.packages is not None
    assert len(found.blobs()) == 3 + len(of.plugins)


def test_a_host_gets_what_it_lacks_alone() -> None:
    of = pulled()
    there = converged(of, debian()).model_copy(update={"marked": ("/etc/systemd/system/vllm-nemotron.service",)})
    found, lacking = bundled(of, there, Manifest(fleet="fleet"))
    assert (found.blobs(), lacking) == ((), ())
    found, lacking = bundled(of, there.model_copy(update={"weights": {}}), whole(of))
    assert (len(found.models), found.images, found.packages, lacking) == (1, (), None, ())


def test_what_is_missing_is_named_with_what_is_there() -> None:
    of = pulled()
    (model,) = of.weights
    other = BundledImage(reference="vllm/vllm-openai:v0.11.0", platform="linux/amd64", digest="d", archive=blob("x"))
    _, lacking = bundled(of, debian(), Manifest(fleet="fleet", images=(other,)))
    assert lacking == (
        f"the bundle has no image {IMAGE} for linux/amd64; it has vllm/vllm-openai:v0.11.0",
        f"the bundle has no weights of {model.repo} at main",
        *(f"the bundle has no {one.file} of {one.repo} at main" for one in of.plugins),
        f"the bundle has no package {', '.join(PACKAGES)} for debian 13 amd64; it has packages for no system",
    )


def test_another_platform_revision_or_system() -> None:
    of = pulled()
    (model,) = of.weights
    arm = BundledImage(reference=IMAGE, platform="linux/arm64", digest="d", archive=blob("x"))
    old = BundledModel(repo=model.repo, revision=COMMIT, commit=COMMIT, folder="f", files=())
    bookworm = BundledPackages(
        system=System(id="debian", version="12", arch="amd64"), folder="f", packages=PACKAGES, files=()
    )
    _, lacking = bundled(of, debian(), whole(of, images=(arm,), models=(old,), packages=(bookworm,)))
    assert lacking == (
        f"the bundle has no image {IMAGE} for linux/amd64; it has it for linux/arm64",
        f"the bundle has no weights of {model.repo} at main; it has them at {COMMIT}",
        f"the bundle has no package {', '.join(PACKAGES)} for debian 13 amd64; it has packages for debian 12 amd64",
    )


def test_the_plan_says_where_things_come_from() -> None:
    of = pulled()
    found, _ = bundled(of, debian(), whole(of))
    told = {one.subject: one.reason for one in from_bundle(changes(of, debian(), {}), found).changes}
    assert told[IMAGE] == told[of.weights[0].repo] == "not there; will come from the bundle"
    assert told["docker"] == "Docker is not installed"


def test_roles_take_what_lies_on_the_host() -> None:
    of = pulled()
    found, _ = bundled(of, debian(), whole(of))
    variables = bundle_variables(of, found)
    (image,) = variables["vllm_image_list"]
    assert image["archive"] == {"path": f"{ON_HOST}/images/i.tar", "at": "host"}
    assert image["reference"] == IMAGE
    (weights,) = variables["model_weights_list"]
    assert (weights["folder"], weights["commit"]) == (f"{ON_HOST}/models/m/c", COMMIT)
    assert [one["folder"] for one in variables["model_weights_plugins"]] == [f"{ON_HOST}/models/m/c"] * len(of.plugins)
    assert variables["docker_engine_source"] == "distribution"
    assert variables["site_environment"] == {"APT_CONFIG": f"{ON_HOST}/packages/t/apt.conf"}


def test_roles_fetch_nothing_less_where_nothing_is_bundled() -> None:
    of = pulled()
    there = converged(of, debian()).model_copy(update={"marked": ("/etc/systemd/system/vllm-nemotron.service",)})
    found, _ = bundled(of, there, whole(of))
    variables = bundle_variables(of, found)
    assert variables["vllm_image_list"][0]["archive"] == {}
    assert "folder" not in variables["model_weights_list"][0]
    assert "site_environment" not in variables
