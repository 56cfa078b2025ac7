"""What an inventory plugin is given: with a lock beside the fleet file, what is locked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import facts, fleet, lock, spark

from provisioner.errors import UsageError
from provisioner.plan.lock import Lock
from provisioner.rollout.listing import listing
from provisioner.rollout.locking import write_lock


def folder(tmp_path: Path, locked: Lock | None) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text("hosts: [gpu-01, spark-01]\nservers:\n  nemotron: {recipe: nemotron-3-nano}\n")
    seen = {"gpu-01": facts().model_dump(), "spark-01": spark().model_dump()}
    (tmp_path / "fleet.facts.json").write_text(json.dumps(seen))
    if locked is not None:
        write_lock(fleet().model_copy(update={"path": path}), locked)
    return path


def test_what_is_locked(tmp_path: Path) -> None:
    hosts = listing(folder(tmp_path, lock())).hosts
    (image,) = hosts["gpu-01"]["vllm_image_list"]
    assert image["reference"] == f"vllm/vllm-openai:v0.12.0@sha256:{'a' * 64}"
    (plugin,) = hosts["spark-01"]["model_weights_plugins"]
    assert (plugin["revision"], plugin["sha256"]) == ("a" * 40, "a" * 64)


def test_what_is_lacking(tmp_path: Path) -> None:
    path = folder(tmp_path, lock().model_copy(update={"images": {}}))
    with pytest.raises(
        UsageError, match=r"fleet\.lock lacks what the fleet needs:\n  image vllm/vllm-openai:v0\.12\.0\n"
    ):
        listing(path)


def test_no_lock(tmp_path: Path) -> None:
    (image,) = listing(folder(tmp_path, None)).hosts["gpu-01"]["vllm_image_list"]
    assert image["reference"] == "vllm/vllm-openai:v0.12.0"
