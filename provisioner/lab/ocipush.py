"""Images without a Docker engine: write layers, talk to the registry's HTTP API.

Why not `docker build`: the lab's engine may be an old one that stamps its own architecture on everything, and the
real vLLM image would be copied three times.  Media types are Docker's schema 2, which every engine pulls.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from provisioner.errors import LabError
from provisioner.lab.context import Arch

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CREATED = "2026-01-01T00:00:00Z"  # same input, same digest
INPUTS_LABEL = "provision.inputs"


@dataclass(frozen=True)
class Layer:
    """A gzipped layer on disk: digest of the file, digest of the tar inside, size in bytes."""

    file: Path
    digest: str
    diff_id: str
    size: int


@dataclass(frozen=True)
class Image:
    """An image in the registry: its manifest (with digest) and its config."""

    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        return self.config.get("config", {}).get("Labels") or {}


class Store:
    """One registry, by the address that this machine pushes to (plain HTTP). Every method raises LabError."""

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}/v2"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def image(self, repo: str, reference: str, arch: Arch | None = None) -> Image | None:
        """The image under a tag or digest, or None; of a multi-arch tag the one for `arch`."""
        found = self._get(f"{repo}/manifests/{reference}", f"{MANIFEST}, {MANIFEST_LIST}")
        if found is None:
            return None
        manifest = json.loads(found)
        if "manifests" in manifest:
            entries = [entry for entry in manifest["manifests"] if entry["platform"]["architecture"] == arch]
            return self.image(repo, entries[0]["digest"]) if entries else None
        config = self._get(f"{repo}/blobs/{manifest['config']['digest']}", "*/*")
        if config is None:
            return None
        return Image(_digest(found), manifest, json.loads(config))

    def put_layer(self, repo: str, layer: Layer) -> None:
        """Upload a layer unless the registry has it."""
        if not self._has(repo, layer.digest):
            with layer.file.open("rb") as data:
                self._put_blob(repo, layer.digest, layer.size, data)

    def put_image(
        self, repo: str, tag: str, base: Image | None, base_repo: str, layers: Sequence[Layer], config: dict[str, Any]
    ) -> Image:
        """Upload layers, config and manifest of an image that stands on `base` (of `base_repo`, same registry)."""
        below = base.manifest["layers"] if base else []
        for entry in below:
            self._mount(repo, base_repo, entry["digest"])
        for layer in layers:
            self.put_layer(repo, layer)
        raw = _json(config)
        if not self._has(repo, _digest(raw)):
            self._put_blob(repo, _digest(raw), len(raw), raw)
        entries = [{"mediaType": _LAYER, "size": layer.size, "digest": layer.digest} for layer in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(raw), "digest": _digest(raw)},
            "layers": [*below, *entries],
        }
        return Image(self._put_manifest(repo, tag, MANIFEST, manifest), manifest, config)

    def put_list(self, repo: str, tag: str, images: Mapping[Arch, Image]) -> str:
        """Make `tag` a multi-arch tag; the digest of the list."""
        entries = [
            {
                "mediaType": MANIFEST,
                "size": len(_json(image.manifest)),
                "digest": image.digest,
                "platform": {"architecture": arch, "os": "linux"},
            }
            for arch, image in sorted(images.items())
        ]
        body = {"schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": entries}
        return self._put_manifest(repo, tag, MANIFEST_LIST, body)

    def _put_manifest(self, repo: str, tag: str, kind: str, body: dict[str, Any]) -> str:
        self._request("PUT", f"{self._base}/{repo}/manifests/{tag}", data=_json(body), headers={"Content-Type": kind})
        return _digest(_json(body))

    def _mount(self, repo: str, source: str, digest: str) -> None:
        if repo == source or self._has(repo, digest):
            return
        status, _ = self._request("POST", f"{self._base}/{repo}/blobs/uploads/?mount={digest}&from={source}")
        if status != 201:
            raise LabError(f"the lab registry does not share {digest[:19]} of {source} with {repo} (HTTP {status})")

    def _put_blob(self, repo: str, digest: str, size: int, data: bytes | IO[bytes]) -> None:
        _, headers = self._request("POST", f"{self._base}/{repo}/blobs/uploads/")
        place = headers["Location"]
        place += ("&" if "?" in place else "?") + f"digest={digest}"
        kinds = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self._request("PUT", place, data=data, headers=kinds)

    def _has(self, repo: str, digest: str) -> bool:
        return self._try("HEAD", f"{self._base}/{repo}/blobs/{digest}") is not None

    def _get(self, path: str, accept: str) -> bytes | None:
        return self._try("GET", f"{self._base}/{path}", {"Accept": accept})

    def _try(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> bytes | None:
        asked = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310 – always http
        try:
            with self._opener.open(asked, timeout=60) as answer:
                return cast(bytes, answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            raise LabError(f"the lab registry answered {error.code} to {method} {url}") from error
        except OSError as error:
            raise LabError(f"the lab registry does not answer: {method} {url}: {error}") from error

    def _request(
        self, method: str, url: str, data: bytes | IO[bytes] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str]]:
        if data is None and method == "POST":
            data = b""
        asked = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))  # noqa: S310 – always http
        try:
            with self._opener.open(asked, timeout=600) as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as error:
            words = error.read(500).decode(errors="replace")
            raise LabError(f"the lab registry answered {error.code} to {method} {url}: {words}") from error
        except OSError as error:
            raise LabError(f"the lab registry does not answer: {method} {url}: {error}") from error


def config_on(
    base: Image | None,
    arch: Arch,
    layers: Sequence[Layer],
    *,
    labels: Mapping[str, str],
    created_by: str,
    **settings: Any,
) -> dict[str, Any]:
    """An image config: that of `base` with layers, labels and settings (Entrypoint, Env, …) added."""
    nothing: dict[str, Any] = {"config": {}, "rootfs": {"diff_ids": []}, "history": []}
    below = base.config if base else nothing
    inherited = below["config"]
    return {
        "architecture": arch,
        "os": "linux",
        "created": _CREATED,
        "config": {
            **inherited,
            **settings,
            "Env": [*(inherited.get("Env") or []), *settings.get("Env", [])],
            "Labels": {**(inherited.get("Labels") or {}), **labels},
        },
        "rootfs": {"type": "layers", "diff_ids": [*below["rootfs"]["diff_ids"], *(layer.diff_id for layer in layers)]},
        "history": [
            *(entry for entry in below.get("history", []) if not entry.get("empty_layer")),
            *({"created": _CREATED, "created_by": created_by} for _ in layers),
        ],
    }


def write_layer(file: Path, tree: Path, keep: Callable[[str], bool] | None = None) -> Layer:
    """Write `tree`, owned by root and without times, as a gzipped layer; `keep` chooses by
    path below the tree (None: everything).

    Device files and sockets are left out. Needs the `gzip` program. Raises LabError.
    """
    with file.open("wb") as out:
        zipper = subprocess.Popen(["gzip", "-n", "-1"], stdin=subprocess.PIPE, stdout=out)
        inner = Hashing(cast("IO[bytes]", zipper.stdin))
        with tarfile.open(fileobj=cast("IO[bytes]", inner), mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for path in _walk(tree):
                name = str(path.relative_to(tree))
                if keep is None or keep(name):
                    tar.add(path, name, recursive=False, filter=_plain)
        cast("IO[bytes]", zipper.stdin).close()
        if zipper.wait():
            raise LabError(f"gzip failed while writing {file}", hint="is the disk full?")
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return Layer(file, f"sha256:{digest.hexdigest()}", f"sha256:{inner.sha256.hexdigest()}", file.stat().st_size)


class Hashing:
    """A writer that hashes what passes (`sha256`)."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._out.write(data)


def _walk(tree: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(tree):
        names.sort()
        for name in sorted([*names, *files]):
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                yield path


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
