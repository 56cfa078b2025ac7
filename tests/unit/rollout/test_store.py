"""A bundle on the disk: what it says is checked, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.plan.bundle import BundledImage, Manifest
from provisioner.plan.lock import Lock, LockedImage
from provisioner.rollout import store

IMAGE = "vllm/vllm-openai:v0.12.0"
HINT = "\n  hint: make one with `provision bundle`"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tar").write_bytes(b"content")
    blob = store.blob_of(tmp_path, "images/a.tar")
    image = BundledImage(reference=IMAGE, platform="linux/amd64", digest="sha256:" + "1" * 64, archive=blob)
    store.write_manifest(tmp_path, Manifest(fleet="fleet", images=(image,)))
    return tmp_path


def test_what_was_written_is_read(bundle: Path) -> None:
    manifest = store.read_manifest(bundle)
    assert manifest.images[0].reference == IMAGE
    store.check(bundle, manifest.blobs())
    assert sorted(path.name for path in bundle.iterdir()) == ["images", "manifest.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "{folder} is no bundle: it has no manifest.json"),
        ("{", "{folder}/manifest.json cannot be read: 1 validation error for Manifest"),
        ('{"fleet": "x", "version": 2}', "{folder} is of version 2, this program reads 1"),
    ],
)
def test_what_is_no_bundle(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError) as raised:
        store.read_manifest(tmp_path)
    assert str(raised.value) == words.format(folder=tmp_path) + HINT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "images/a.tar is not there, or not whole"),
        (b"conten", "images/a.tar is not there, or not whole"),
        (b"Content", "images/a.tar is not what it was: its SHA-256 is another one"),
    ],
)
def test_what_is_damaged(bundle: Path, content: bytes | None, words: str) -> None:
    (bundle / "images" / "a.tar").unlink()
    if content is not None:
        (bundle / "images" / "a.tar").write_bytes(content)
    with pytest.raises(UsageError) as raised:
        store.check(bundle, store.read_manifest(bundle).blobs())
    assert str(raised.value) == (
        f"{bundle} is damaged:\n  {words}\n  hint: copy it again, or repair it by making it again in the same folder"
    )


def test_a_bundle_of_what_is_not_locked(bundle: Path) -> None:
    def lock(digest: str) -> Lock:
        return Lock(images={IMAGE: LockedImage(digest="sha256:" + "9" * 64, platforms={"linux/amd64": digest})})

    assert store.read_bundle(bundle, None)[0] == bundle
    assert store.read_bundle(bundle, lock("sha256:" + "1" * 64))[0] == bundle
    with pytest.raises(UsageError) as raised:
        store.read_bundle(bundle, lock("sha256:" + "2" * 64))
    assert str(raised.value) == (
        f"{bundle} has other images than the fleet's lock:\n"
        f"  {IMAGE} for linux/amd64 is sha256:111111111111, locked to sha256:222222222222\n"
        "  hint: make the bundle again: it is made from what is locked"
    )


def test_files_of_earlier_bundles_go(bundle: Path) -> None:
    (bundle / "models" / "old").mkdir(parents=True)
    (bundle / "models" / "old" / "w").touch()
    (bundle / "README").touch()
    store.prune(bundle, store.read_manifest(bundle))
    assert sorted(path.name for path in bundle.iterdir()) == ["README", "images", "manifest.json", "models"]
    assert list((bundle / "models").iterdir()) == []
    assert (bundle / "images" / "a.tar").exists()
