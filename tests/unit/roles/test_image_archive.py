"""Archives of images, read without Docker: every compression, and what is no such archive."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from load import module

archive = module("vllm_image", "library/vllm_image_archive.py")
CONFIG = {"architecture": "arm64", "os": "linux", "config": {"Env": ["A=1"]}}
MANIFEST = [{"Config": "blobs/sha256/c", "RepoTags": ["vllm/vllm-openai:v1"], "Layers": ["blobs/sha256/l"]}]
FOUND = [{"names": ["vllm/vllm-openai:v1"], "platform": "linux/arm64"}]


def tar(**members: Any) -> bytes:
    """A tar in which the manifest comes last, as Docker writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, value in members.items():
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            info = tarfile.TarInfo({"c": "blobs/sha256/c", "l": "blobs/sha256/l", "m": "manifest.json"}[name])
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


WHOLE = tar(l=b"\0" * 100_000, c=CONFIG, m=MANIFEST)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


@pytest.mark.parametrize("how", COMPRESS)
def test_every_compression(tmp_path: Path, how: str) -> None:
    if how == "zstd" and shutil.which("zstd") is None:
        pytest.skip("no zstd on this machine")
    file = tmp_path / "image.tar"
    file.write_bytes(COMPRESS[how](WHOLE))
    assert archive.compression(file) == how
    assert archive.read(str(file), how) == FOUND


def test_an_older_layout_and_several_images(tmp_path: Path) -> None:
    entries = [*MANIFEST, {"Config": "blobs/sha256/c", "RepoTags": None}]
    file = tmp_path / "image.tar"
    file.write_bytes(tar(m=entries, c=CONFIG))
    assert archive.read(str(file), "") == [*FOUND, {"names": [], "platform": "linux/arm64"}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tar(c=CONFIG), "it has no manifest.json"),
        (tar(m={"a": 1}), "it has no manifest.json"),
        (tar(m=MANIFEST), "it lacks the configuration of vllm/vllm-openai:v1"),
    ],
)
def test_what_is_no_archive_of_images(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "image.tar"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}$"):
        archive.read(str(file), "")


@pytest.mark.parametrize("content", [b"", b"hello", WHOLE[:50_000]])
def test_what_is_no_tar(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "image.tar"
    file.write_bytes(content)
    with pytest.raises((tarfile.TarError, EOFError, ValueError)):
        archive.read(str(file), archive.compression(file))
