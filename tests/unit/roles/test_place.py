"""A model that lies on the host, placed as a download would leave it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from load import module

place = module("model_weights", "library/model_weights_place.py")
download = module("model_weights", "library/model_weights_download.py")

REPO, COMMIT = "org/model", "c" * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    (made / "sub").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "sub" / "w.safetensors").write_bytes(b"w")
    (made / ".cache" / "huggingface").mkdir(parents=True)
    (made / ".cache" / "huggingface" / "x.metadata").write_text("no part of it")
    return made


def complete(tmp_path: Path, revision: str = "main", file: str = "") -> Any:
    """What the download would say of it."""
    params = {"repo": REPO, "revision": revision, "cache_dir": str(tmp_path / "cache"), "file": file, "sha256": ""}
    return download.completed({**params, "plugin_dir": str(tmp_path / "plugins"), "download": True})


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_model_is_complete_as_after_a_download(tmp_path: Path, folder: Path, revision: str) -> None:
    assert complete(tmp_path, revision) is None
    snapshot, changed = place.place_model(REPO, revision, COMMIT, str(folder), str(tmp_path / "cache"))
    assert changed
    assert complete(tmp_path, revision)["commit"] == COMMIT
    files = sorted(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file())
    assert files == ["config.json", "sub/w.safetensors"]
    ref = tmp_path / "cache" / "hub" / "models--org--model" / "refs" / "main"
    assert ref.exists() == (revision == "main")
    assert revision != "main" or ref.read_text() == COMMIT
    assert (snapshot / "config.json").samefile(folder / "config.json")
    assert place.place_model(REPO, revision, COMMIT, str(folder), str(tmp_path / "cache")) == (snapshot, False)


def test_a_placing_that_was_interrupted_is_done_again(tmp_path: Path, folder: Path) -> None:
    half = tmp_path / "cache" / "hub" / "models--org--model" / "snapshots" / f".{COMMIT}.new"
    half.mkdir(parents=True)
    (half / "config.json").write_text("half")
    snapshot, _ = place.place_model(REPO, "main", COMMIT, str(folder), str(tmp_path / "cache"))
    assert (snapshot / "config.json").read_text() == "{}"
    assert not half.exists()


def test_another_file_system_gets_copies(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(place.os, "link", refuse)
    snapshot, _ = place.place_model(REPO, "main", COMMIT, str(folder), str(tmp_path / "cache"))
    assert (snapshot / "sub" / "w.safetensors").read_bytes() == b"w"


def test_a_plugin(tmp_path: Path, folder: Path) -> None:
    (folder / "parser.py").write_text("x = 1\n")
    given = (REPO, "main", COMMIT, str(folder), "parser.py", str(tmp_path / "plugins"))
    path, changed = place.place_file(*given)
    assert changed
    assert complete(tmp_path, file="parser.py")["sha256"] == hashlib.sha256(b"x = 1\n").hexdigest()
    assert json.loads((tmp_path / "plugins" / ".provision" / "parser.py.json").read_text())["commit"] == COMMIT
    assert place.place_file(*given) == (path, False)
    path.write_text("x = 2\n")  # somebody changed it
    assert place.place_file(*given) == (path, True)
    assert path.read_text() == "x = 1\n"
