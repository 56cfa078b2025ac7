"""What goes into a bundle, fetched from real servers on this machine's loopback and by its own apt."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from oci_server import MANIFEST, Registry, Store, digest

from provisioner.errors import UpstreamError, UpstreamUnreachableError
from provisioner.lab import hub as lab
from provisioner.plan.packages import System
from provisioner.upstream import images, packages
from provisioner.upstream.hub import Hub
from provisioner.upstream.registry import Registries

REPO = "vllm/vllm-openai"


def put(store: Store, architecture: str) -> dict[str, object]:
    """An image with one layer; its entry in an index."""
    layer = f"layer of {architecture}".encode()
    config = json.dumps({"os": "linux", "architecture": architecture, "rootfs": {"diff_ids": [digest(layer)]}}).encode()
    for blob in (layer, config):
        store.blobs[digest(blob)] = blob
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "c", "size": len(config), "digest": digest(config)},
        "layers": [{"mediaType": "l", "size": len(layer), "digest": digest(layer)}],
    }
    made = store.put(REPO, architecture, MANIFEST, body)
    return {"mediaType": MANIFEST, "digest": made, "size": 1, "platform": {"os": "linux", "architecture": architecture}}


@pytest.fixture
def registry() -> Iterator[Registry]:
    store = Store()
    store.put_index(REPO, "v1", [put(store, "amd64"), put(store, "arm64")])
    with Registry(store) as running:
        yield running


def registries(running: Registry) -> Registries:
    return Registries(mirrors=[f"http://127.0.0.1:{running.server_address[1]}"])


def fetch(running: Registry, folder: Path, platform: str = "linux/arm64", reference: str = f"{REPO}:v1") -> str:
    (folder / "parts").mkdir(exist_ok=True)
    return images.fetch(
        registries(running), reference, platform, folder / "image.tar", folder / "parts", lambda _done, _all: None
    )


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {one.name: stream.read() for one in tar if (stream := tar.extractfile(one))}


def test_an_archive_is_one_of_docker_and_one_of_oci(registry: Registry, tmp_path: Path) -> None:
    found = fetch(registry, tmp_path)
    files = contents(tmp_path / "image.tar")
    (docker,) = json.loads(files["manifest.json"])
    assert docker["RepoTags"] == [f"{REPO}:v1"]
    assert json.loads(files[docker["Config"]])["architecture"] == "arm64"
    assert [files[layer] for layer in docker["Layers"]] == [b"layer of arm64"]
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["digest"] == found
    assert entry["annotations"]["io.containerd.image.name"] == f"docker.io/{REPO}:v1"
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    blobs = {name: text for name, text in files.items() if name.startswith("blobs/sha256/")}
    assert {hashlib.sha256(text).hexdigest() for text in blobs.values()} == {name[13:] for name in blobs}
    assert f"blobs/sha256/{found[7:]}" in blobs


def test_the_same_image_gives_the_same_bytes(registry: Registry, tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fetch(registry, tmp_path / name)
        made.append((tmp_path / name / "image.tar").read_bytes())
    assert made[0] == made[1]


def test_what_is_there_is_not_fetched_again(registry: Registry, tmp_path: Path) -> None:
    fetch(registry, tmp_path)
    registry.store.blobs.clear()
    (tmp_path / "image.tar").unlink()
    fetch(registry, tmp_path)
    assert (tmp_path / "image.tar").exists()


def test_an_image_that_is_locked_is_named_by_its_tag(registry: Registry, tmp_path: Path) -> None:
    locked = registries(registry).locked(f"{REPO}:v1").digest
    registry.store.put_index(REPO, "v1", [])  # the tag has moved on
    fetch(registry, tmp_path, reference=f"{REPO}:v1@{locked}")
    (docker,) = json.loads(contents(tmp_path / "image.tar")["manifest.json"])
    assert docker["RepoTags"] == [f"{REPO}:v1"]


def test_a_platform_that_the_image_does_not_have(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match="it is there for linux/amd64, linux/arm64, not for linux/s390x"):
        fetch(registry, tmp_path, "linux/s390x")
    with pytest.raises(UpstreamError, match="it is there for linux/amd64, not for linux/arm64"):
        fetch(registry, tmp_path, reference=f"{REPO}:amd64")


def test_a_layer_that_is_another_is_refused(registry: Registry, tmp_path: Path) -> None:
    layer = digest(b"layer of arm64")
    registry.store.blobs[layer] = b"another"
    with pytest.raises(UpstreamError, match="DXFDigestMismatchError"):
        fetch(registry, tmp_path)
    assert not (tmp_path / "image.tar").exists()
    assert not (tmp_path / "parts" / layer[7:]).exists()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Hub, Path]]:
    root = tmp_path / "root" / "org" / "model"
    (root / "sub").mkdir(parents=True)
    (root / "config.json").write_text("{}")
    (root / "sub" / "model.safetensors").write_bytes(b"w" * 100_000)
    running = lab.Hub(tmp_path / "root", ("127.0.0.1", 0))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Hub(f"http://127.0.0.1:{running.server_address[1]}"), root
    running.shutdown()
    thread.join()
    running.server_close()


def test_all_files_of_a_model(hub: tuple[Hub, Path], tmp_path: Path) -> None:
    at, root = hub
    files = at.fetch("org/model", at.commit_of("org/model", "main"), tmp_path / "out")
    assert set(files) == {"config.json", "sub/model.safetensors"}
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (root / name).read_bytes()


def test_one_file_of_a_model(hub: tuple[Hub, Path], tmp_path: Path) -> None:
    at, _ = hub
    assert set(at.fetch("org/model", at.commit_of("org/model", "main"), tmp_path / "out", "config.json")) == {
        "config.json"
    }
    assert not (tmp_path / "out" / "sub").exists()


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")  # from an earlier try: no reason to be content
    with pytest.raises(UpstreamUnreachableError):
        Hub("http://127.0.0.1:1").fetch("org/model", "0" * 40, tmp_path / "out")


def deb(folder: Path, name: str, arch: str, depends: str = "") -> None:
    """A package without files."""
    (folder / name / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 1:2.0\nArchitecture: {arch}\nMaintainer: a <a@b.c>\nDescription: a test\n"
    (folder / name / "DEBIAN" / "control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(folder / name), str(folder)], check=True, stdout=-3
    )


def sources(folder: Path, text: str) -> bytes:
    """What a host would tell of where its apt gets packages from."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("etc/apt/sources.list")
        info.size = len(text.encode())
        tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """Sources that name an archive of three packages for a machine that is not this one."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, arch, depends in (
        ("demo", "arm64", "demo-data (>= 1:1)"),
        ("demo-data", "all", ""),
        ("other", "arm64", ""),
    ):
        deb(folder, name, arch, depends)
    stanzas = [packages._stanza(file) for file in sorted(folder.glob("*.deb"))]
    (folder / "Packages").write_text("\n".join(stanzas))
    return sources(folder, f"deb [trusted=yes] copy:{folder} ./\n")


needs_apt = pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="no apt on this machine")
SYSTEM = System(id="debian", version="13", arch="arm64")


@needs_apt
def test_packages_with_all_that_they_need_for_another_machine(archive: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "bundle" / "packages"
    packages.fetch(SYSTEM, ["demo"], archive, folder, PurePosixPath(folder), tmp_path / "work")
    names = {file.name for file in folder.iterdir()}
    assert names == {"Packages", "apt.conf", "sources.list", "demo_1_2.0_arm64.deb", "demo-data_1_2.0_all.deb"}
    # a second time, with everything downloaded already
    packages.fetch(SYSTEM, ["demo"], archive, folder, PurePosixPath(folder), tmp_path / "work")
    assert {file.name for file in folder.iterdir()} == names


@needs_apt
def test_an_apt_that_is_told_so_installs_from_the_folder_alone(archive: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    packages.fetch(SYSTEM, ["demo"], archive, folder, PurePosixPath(folder), tmp_path / "work")
    (folder / "lists" / "partial").mkdir(parents=True)  # as `sending.update_packages` does
    env = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    private = ["-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64", "-o", "Dir::State::status=/dev/null"]
    for words in (["update"], ["--simulate", "install", "demo"]):
        done = subprocess.run(
            ["apt-get", "-o", "Debug::NoLocking=true", *private, *words],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Inst")] == ["demo-data", "demo"]


@needs_apt
def test_packages_that_nobody_has(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError) as raised:
        packages.fetch(SYSTEM, ["none"], archive, tmp_path / "out", PurePosixPath("/x"), tmp_path / "work")
    assert str(raised.value) == (
        "downloading none for debian 13 arm64: apt failed (exit 100): E: Unable to locate package none\n"
        "  hint: the archives that the hosts' apt names must be reachable from this machine"
    )
