"""A bundle on the disk: its manifest and its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from provisioner.errors import UsageError
from provisioner.plan.bundle import MANIFEST, VERSION, Blob, Manifest
from provisioner.plan.lock import Lock, short

FOLDERS = ("images", "models", "packages")
"""what a bundle consists of, besides its manifest"""


def read_manifest(folder: Path) -> Manifest:
    """UsageError where there is no bundle, or one of another version."""
    file = folder / MANIFEST
    hint = "make one with `provision bundle`"
    try:
        manifest = Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is no bundle: it has no {MANIFEST}", hint=hint) from error
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(f"{file} cannot be read: {str(error).splitlines()[0]}", hint=hint) from error
    if manifest.version != VERSION:
        raise UsageError(f"{folder} is of version {manifest.version}, this program reads {VERSION}", hint=hint)
    return manifest


def read_bundle(folder: Path, lock: Lock | None) -> tuple[Path, Manifest]:
    """A bundle that hosts are to get what they lack from. UsageError where it has other images than the lock."""
    manifest = read_manifest(folder)
    wrong = [
        f"  {image.reference} for {image.platform} is {short(image.digest)}, locked to {short(locked)}"
        for image in manifest.images
        if lock and image.reference in lock.images
        if (locked := lock.images[image.reference].platforms.get(image.platform)) not in (None, image.digest)
    ]
    if wrong:
        raise UsageError(
            "\n".join([f"{folder} has other images than the fleet's lock:", *wrong]),
            hint="make the bundle again: it is made from what is locked",
        )
    return folder, manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """In one step: whoever reads it meanwhile has the old one or the new one."""
    fresh = folder / f".{MANIFEST}.{os.getpid()}"
    fresh.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    fresh.replace(folder / MANIFEST)


def blob_of(folder: Path, path: str) -> Blob:
    """A file of a bundle as its manifest tells it."""
    return Blob(path=path, size=(folder / path).stat().st_size, sha256=sha256_of(folder / path))


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def there(folder: Path, blob: Blob) -> bool:
    """Whether a file is there, as far as its size tells."""
    path = folder / blob.path
    return path.is_file() and path.stat().st_size == blob.size


def check(folder: Path, blobs: Iterable[Blob]) -> None:
    """UsageError naming every file that is not what the manifest says; all of them are read."""
    wrong = []
    for blob in blobs:
        if not there(folder, blob):
            wrong.append(f"{blob.path} is not there, or not whole")
        elif sha256_of(folder / blob.path) != blob.sha256:
            wrong.append(f"{blob.path} is not what it was: its SHA-256 is another one")
    if wrong:
        raise UsageError(
            "\n".join([f"{folder} is damaged:", *(f"  {words}" for words in wrong)]),
            hint="copy it again, or repair it by making it again in the same folder",
        )


def prune(folder: Path, manifest: Manifest) -> None:
    """Removes files of earlier bundles in the same folder."""
    wanted = {folder / blob.path for blob in manifest.blobs()}
    for place in FOLDERS:
        for path in sorted((folder / place).rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif not path.is_dir() and path not in wanted:
                path.unlink()
