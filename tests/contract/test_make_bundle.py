"""A whole bundle, made from a registry, a hub and an archive of packages on this machine's loopback."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builders import facts, plan, server
from builders import fleet as fleet_of
from oci_server import Registry, Store
from test_bundle import REPO, deb, put, sources

from provisioner.errors import UpstreamError, UsageError
from provisioner.fleet.models import Docker, Fleet, Hub, Image
from provisioner.hosts.fake import FakeTransport
from provisioner.lab import hub as lab
from provisioner.plan.bundle import Manifest
from provisioner.plan.lock import Lock
from provisioner.rollout import store
from provisioner.rollout.bundling import make_bundle
from provisioner.rollout.connections import Connections
from provisioner.rollout.survey import HostSurvey, Survey
from provisioner.upstream import packages
from provisioner.upstream.registry import Registries

DEBIAN = {"os_id": "debian", "os_version": "13", "os_name": "Debian GNU/Linux 13 (trixie)"}
PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "python3-apt", "python3-requests")

pytestmark = pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="no apt on this machine")


class World:
    """One host of a fleet, and everything that it would fetch."""

    def __init__(self, folder: Path, registry: Registry, endpoint: str) -> None:
        self.folder, self.registry = folder, registry
        mirror = f"http://127.0.0.1:{registry.server_address[1]}"
        self.fleet: Fleet = fleet_of(
            server(image={"default": Image(pull=f"{REPO}:v1")}),
            docker=Docker(registry_mirrors=(mirror,)),
            hub=Hub(endpoint=endpoint),
        )
        seen = facts(**DEBIAN)
        host = HostSurvey(self.fleet.hosts[0], facts=seen, plan=plan(self.fleet, seen))
        self.survey = Survey(fleet=self.fleet, hosts=(host,), secrets={})
        self.said: list[str] = []
        (folder / "archive").mkdir()
        for name in PACKAGES:
            deb(folder / "archive", name, "amd64")
        stanzas = [packages._stanza(file) for file in sorted((folder / "archive").glob("*.deb"))]
        (folder / "archive" / "Packages").write_text("\n".join(stanzas))
        text = f"deb [trusted=yes] copy:{folder}/archive ./\n"
        self.told = base64.b64encode(sources(folder, text)).decode()

    def make(self, lock: Lock | None = None, name: str = "bundle") -> Manifest:
        self.said.clear()
        transport = FakeTransport("gpu-01", [("base64", self.told)])
        connections = Connections(lambda _: transport)
        return make_bundle(self.survey, lock, connections, self.folder / name, {}, self.said.append)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    stored = Store()
    stored.put_index(REPO, "v1", [put(stored, "amd64"), put(stored, "arm64")])
    the_plan = plan(fleet_of(server(image={"default": Image(pull=f"{REPO}:v1")})), facts(**DEBIAN))
    for repo in {one.repo for one in (*the_plan.weights, *the_plan.plugins)}:
        (tmp_path / "root" / repo).mkdir(parents=True)
        (tmp_path / "root" / repo / "model.safetensors").write_bytes(b"w" * 1000)
    for plugin in the_plan.plugins:
        (tmp_path / "root" / plugin.repo / plugin.file).write_text("x = 1\n")
    running = lab.Hub(tmp_path / "root", ("127.0.0.1", 0))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with Registry(stored) as registry:
        yield World(tmp_path, registry, f"http://127.0.0.1:{running.server_address[1]}")
    running.shutdown()
    thread.join()
    running.server_close()


def test_everything_is_there_and_is_what_the_manifest_says(world: World) -> None:
    manifest = world.make()
    (image,) = manifest.images
    assert (image.reference, image.platform) == (f"{REPO}:v1", "linux/amd64")
    (host,) = world.survey.hosts
    assert host.plan is not None
    assert {one.repo for one in manifest.models} == {one.repo for one in host.plan.weights}
    assert [one.file for one in manifest.plugins] == [one.file for one in host.plan.plugins]
    assert manifest.packages[0].packages == PACKAGES
    folder = world.folder / "bundle"
    assert store.read_manifest(folder) == manifest
    store.check(folder, manifest.blobs())
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == {"manifest.json", *(blob.path for blob in manifest.blobs())}


def test_a_second_time_fetches_what_has_changed_alone(world: World) -> None:
    first = world.make()
    world.registry.store.blobs.clear()
    assert world.make() == first
    assert sum("there already" in words for words in world.said) == 2
    stored = world.registry.store
    stored.put_index(REPO, "v1", [put(stored, "amd64") | {"annotations": {"new": "yes"}}])
    stored.put_image(REPO, "other", note="other")
    assert world.make().images == first.images  # the platform's own manifest is the same


def test_an_interruption_keeps_what_is_whole(world: World) -> None:
    first, manifests = world.make(), world.registry.store.manifests.copy()
    (world.folder / "bundle" / first.models[0].files[0].path).unlink()
    world.registry.store.manifests.clear()
    with pytest.raises(UpstreamError):
        world.make()
    world.registry.store.manifests.update(manifests)
    world.registry.store.blobs.clear()  # the image is not fetched again
    assert world.make() == first


def test_what_is_locked_is_bundled(world: World) -> None:
    mirror = f"http://127.0.0.1:{world.registry.server_address[1]}"
    locked = Registries(mirrors=[mirror]).locked(f"{REPO}:v1")
    stored = world.registry.store
    stored.put_index(REPO, "v1", [])  # the tag has moved on
    manifest = world.make(Lock(images={f"{REPO}:v1": locked}))
    assert manifest.images[0].digest == locked.platforms["linux/amd64"]
    store.read_bundle(world.folder / "bundle", Lock(images={f"{REPO}:v1": locked}))


def test_a_folder_with_something_else_in_it_is_left_alone(world: World) -> None:
    (world.folder / "mine").mkdir()
    (world.folder / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError) as raised:
        world.make(name="mine")
    assert str(raised.value) == (
        f"{world.folder / 'mine'} has something in it that is no bundle\n  hint: name another folder"
    )


def test_a_host_that_could_not_be_planned(world: World) -> None:
    (host,) = world.survey.hosts
    lost = replace(host, facts=None, plan=None, problems=("gpu-01: refuses the connection",))
    world.survey = replace(world.survey, hosts=(lost,))
    with pytest.raises(Exception, match="it is not known what these hosts need"):
        world.make()
