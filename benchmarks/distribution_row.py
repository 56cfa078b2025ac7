"""The row on distribution: one large image and as much of weights to many hosts, through one narrow uplink.

Once each host fetches for itself, once hosts give to each other (`distribution: peers`), on the same hosts in the same
state: Docker and a small image serve, image and model are on none. Bytes are counted where hosts reach registry and
hub, which is the uplink of the lab. The hub's files go with the lab; the registry's, which is kept with the lab's
caches, are removed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from frame import Results, Row, Sample
from lab_fleet import LABEL, Fleet, lab, must_be_free

from provisioner.lab.engines import SIM_REPO, SIM_TAG
from provisioner.lab.faults import on_host
from provisioner.lab.ocipush import Hashing, Layer, Store, config_on
from provisioner.lab.paths import cache_dir, state_dir
from provisioner.lab.uplink import counts

MIB, GIB = 2**20, 2**30
TAG = f"{SIM_TAG}-distribution"
IMAGE_KEY = "linux/amd64"
"""of the lab's fleet file"""
MODEL = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
"""what the lab's hosts serve"""
WEIGHTS = "benchmark.bin"
"""a file more of that model; the hub names it by its SHA-256, as it does weights"""
LISTS = 1.02
"""bytes that may come once: the content, with manifests, lists and headers of all hosts"""
STILL_S = 1.0
"""without a byte, after which what was counted is whole; it is written five times a second"""


@dataclass(frozen=True)
class Half:
    """One way of bringing it to all hosts."""

    sample: Sample
    upstream: int
    """bytes from registry and hub"""


def measured(results: Results, hosts: int, mib: int, uplink_mib_s: float) -> None:
    """Two rows: bytes from upstream, and time."""
    must_be_free()
    size = mib * MIB
    with lab(hosts, "--uplink-mib-s", f"{uplink_mib_s:g}") as fleet:
        with fleet.file.open("a", encoding="utf-8") as stream:
            stream.write("distribution:\n  mode: upstream\n")
        fleet.apply("--smoke")
        with _published(size):  # only now: nobody shall fetch it before it counts
            alone = _half(fleet, "upstream")
            _small(fleet)
            shared = _half(fleet, "peers")
    results.add(*_rows(alone, shared, hosts, size, uplink_mib_s))


def _half(fleet: Fleet, mode: str) -> Half:
    """From hosts that have neither image nor model to hosts that serve both."""
    forget = f"docker image rm --force {_image(TAG)} 2>/dev/null; rm -rf /var/lib/vllm/huggingface"
    for host in fleet.hosts:
        on_host(host, ["sh", "-c", forget], timeout=120)
    fleet.change(IMAGE_KEY, _image(TAG))
    fleet.change("mode", mode)
    before = _counted()
    sample = fleet.apply("--smoke")
    return Half(sample, _counted() - before)


def _small(fleet: Fleet) -> None:
    """Back to what the first half began from."""
    fleet.change(IMAGE_KEY, _image(SIM_TAG))
    fleet.apply("--smoke")


def _rows(alone: Half, shared: Half, hosts: int, size: int, uplink_mib_s: float) -> list[Row]:
    content = 2 * size
    work = f"{_gib(size)} of image and {_gib(size)} of weights to {hosts} hosts"
    label = f"{LABEL}; the uplink is a process that lets {uplink_mib_s:g} MiB/s through"
    samples = {"distribution: peers": [shared.sample], "distribution: upstream": [alone.sample]}
    least = content / MIB / uplink_mib_s if uplink_mib_s else 0.0
    return [
        Row(
            work,
            "bytes from upstream, of one platform, against image and weights once (2 % for lists and headers)",
            LISTS,
            shared.upstream / content,
            "×",
            {},
            label,
            f"{_gib(shared.upstream)} came from registry and hub; {_gib(alone.upstream)} where every host fetched",
        ),
        Row(
            work,
            "time against every host fetching for itself",
            0.35,
            shared.sample.seconds / alone.sample.seconds,
            "×",
            samples,
            label,
            f"once through the uplink takes {least:.0f} s at least, {hosts} times {hosts * least:.0f} s; the rest is "
            f"packing, sending and unpacking, with the processors {shared.sample.busy:.0%} busy "
            f"({alone.sample.busy:.0%} where every host fetched)",
        ),
    ]


def _image(tag: str) -> str:
    return f"{SIM_REPO}:{tag}"


def _counted() -> int:
    """Bytes from registry and hub so far, once nothing comes any more."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < STILL_S:
        now = sum(sum(by_host.values()) for by_host in counts(state_dir()).values())
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(STILL_S / 10)
    return before


@contextmanager
def _published(size: int) -> Iterator[None]:
    """The image in the lab's registry, the weights at its hub: random content, which nothing makes smaller."""
    store = Store((state_dir() / "registry-push.address").read_text(encoding="utf-8"))
    base = store.image(SIM_REPO, SIM_TAG, "amd64")
    if base is None:
        raise SystemExit(f"the lab's registry has no {_image(SIM_TAG)}")
    weights = state_dir() / "hub" / MODEL / WEIGHTS
    _fill(weights, size)
    with tempfile.TemporaryDirectory() as place:
        layer = _layer(Path(place) / "layer.tar.gz", weights)
        config = config_on(base, "amd64", [layer], labels={}, created_by="benchmark: content of no use")
        image = store.put_image(SIM_REPO, TAG, base, SIM_REPO, [layer], config)
    try:
        yield
    finally:
        _unpublish(cache_dir() / "registry", image.digest, layer.digest, image.manifest["config"]["digest"])


def _unpublish(registry: Path, manifest: str, *blobs: str) -> None:
    """Takes an image out of the registry's store: its own blobs, and what names them."""
    root = registry / "docker" / "registry" / "v2"
    repo = root / "repositories" / SIM_REPO
    shutil.rmtree(repo / "_manifests" / "tags" / TAG)
    shutil.rmtree(repo / "_manifests" / "revisions" / manifest.replace(":", "/"))
    for digest in blobs:
        shutil.rmtree(repo / "_layers" / digest.replace(":", "/"))
    for digest in (manifest, *blobs):
        kind, _, name = digest.partition(":")
        shutil.rmtree(root / "blobs" / kind / name[:2] / name)


def _fill(file: Path, size: int) -> None:
    """Bytes without any order: the key stream of a cipher, which comes faster than the kernel's random bytes."""
    stream, nothing = Cipher(algorithms.AES(os.urandom(16)), modes.CTR(bytes(16))).encryptor(), bytes(MIB)
    with file.open("wb") as out:
        for _ in range(size // MIB):
            out.write(stream.update(nothing))


def _layer(file: Path, content: Path) -> Layer:
    """One file as a layer. Stored, not compressed: packing would take longer than all the rest, and gain nothing."""
    with file.open("wb") as out, gzip.GzipFile(fileobj=out, mode="wb", compresslevel=0, mtime=0) as zipper:
        inner = Hashing(cast("IO[bytes]", zipper))
        with tarfile.open(fileobj=cast("IO[bytes]", inner), mode="w|", format=tarfile.GNU_FORMAT) as tar:
            tar.add(content, content.name)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Layer(file, f"sha256:{digest}", f"sha256:{inner.sha256.hexdigest()}", file.stat().st_size)


def _gib(size: float) -> str:
    return f"{size / GIB:.2g} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
