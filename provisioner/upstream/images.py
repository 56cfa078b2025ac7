"""Images out of a registry as archives that every Docker loads. Import this module where it is used: see `registry`."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from dxf import DXF

from provisioner.errors import UpstreamError
from provisioner.plan.references import parse
from provisioner.upstream.registry import Registries, platform_of

_CHUNK = 1 << 20
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
Report = Callable[[int, int], None]
"""bytes that are there, bytes in all"""


def fetch(registries: Registries, reference: str, platform: str, archive: Path, parts: Path, report: Report) -> str:
    """Writes the archive of one platform's image, named by tag; its digest. What lies in `parts` is not fetched again.

    Raises UpstreamError when nobody has the image for the platform, or breaks off.
    """
    digest, manifest = registries.ask(
        reference, lambda client, version: _fetched(client, version, platform, parts, report)
    )
    _write(archive, reference, digest, manifest, parts)
    return digest


def _fetched(client: DXF, version: str, platform: str, parts: Path, report: Report) -> tuple[str, bytes]:
    """Digest and text of the platform's manifest, once all that it names lies in `parts`."""
    manifest = _manifest(client, version)
    told = json.loads(manifest)
    if "manifests" in told:
        entries = {platform_of(one.get("platform") or {}): one["digest"] for one in reversed(told["manifests"])}
        if platform not in entries:
            raise UpstreamError(f"it is there for {', '.join(sorted(entries))}, not for {platform}")
        manifest = _manifest(client, entries[platform])
        told = json.loads(manifest)
    wanted = [told["config"], *told["layers"]]
    total = sum(one["size"] for one in wanted)
    there = 0
    for one in wanted:
        path = parts / _hex(one["digest"])
        if not path.exists():
            _blob(client, one["digest"], path, partial(_further, report, there, total))
        there += one["size"]
    report(total, total)
    config = json.loads((parts / _hex(told["config"]["digest"])).read_bytes())
    if platform_of(config) != platform:
        raise UpstreamError(f"it is there for {platform_of(config)}, not for {platform}")
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}", manifest


def _further(report: Report, there: int, total: int, done: int) -> None:
    report(there + done, total)


def _manifest(client: DXF, version: str) -> bytes:
    content: bytes = client.get_manifest_and_response(version)[1].content
    if version.startswith("sha256:") and hashlib.sha256(content).hexdigest() != _hex(version):
        raise ValueError(f"the manifest is not {version}")
    return content


def _blob(client: DXF, digest: str, path: Path, report: Callable[[int], None]) -> None:
    """The library compares the digest when it has read all."""
    fresh = path.with_name(f"{path.name}.part")
    with fresh.open("wb") as stream:
        for chunk in client.pull_blob(digest, chunk_size=_CHUNK):
            stream.write(chunk)
            report(stream.tell())
    fresh.rename(path)


def _write(archive: Path, reference: str, digest: str, manifest: bytes, parts: Path) -> None:
    """An OCI archive that is one of `docker save` too: engines before 25 know that alone. The same bytes every time."""
    told: dict[str, Any] = json.loads(manifest)
    names = {one["digest"]: f"blobs/sha256/{_hex(one['digest'])}" for one in (told["config"], *told["layers"])}
    reference = reference.partition("@")[0]
    name = parse(reference)
    written = reference if ":" in reference.rpartition("/")[2] else f"{reference}:{name.tag}"
    entry = {
        "mediaType": told.get("mediaType", _OCI_MANIFEST),
        "digest": digest,
        "size": len(manifest),
        "annotations": {
            "io.containerd.image.name": f"{name.registry}/{name.repository}:{name.tag}",
            "org.opencontainers.image.ref.name": name.tag,
        },
    }
    docker = {
        "Config": names[told["config"]["digest"]],
        "RepoTags": [written],
        "Layers": [names[one["digest"]] for one in told["layers"]],
    }
    texts = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        "manifest.json": json.dumps([docker]).encode(),
        f"blobs/sha256/{_hex(digest)}": manifest,
    }
    fresh = archive.with_name(f"{archive.name}.part")
    with tarfile.open(fresh, "w", format=tarfile.GNU_FORMAT) as tar:
        for path, text in texts.items():
            _add(tar, path, io.BytesIO(text), len(text))
        for digest_of_one, path in dict(sorted(names.items())).items():
            part = parts / _hex(digest_of_one)
            with part.open("rb") as stream:
                _add(tar, path, stream, part.stat().st_size)
    fresh.rename(archive)


def _add(tar: tarfile.TarFile, path: str, stream: Any, size: int) -> None:
    info = tarfile.TarInfo(path)
    info.size = size
    tar.addfile(info, stream)


def clear(parts: Path, digests: Iterable[str]) -> None:
    """Removes parts that are in archives by now."""
    for digest in digests:
        (parts / _hex(digest)).unlink(missing_ok=True)


def _hex(digest: str) -> str:
    algorithm, _, word = digest.partition(":")
    if algorithm != "sha256" or not word.isalnum():
        raise ValueError(f"unknown kind of digest: {digest}")
    return word
