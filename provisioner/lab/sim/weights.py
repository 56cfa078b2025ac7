"""Finding a model where vLLM finds it: a folder, or the Hugging Face cache; downloading only when online."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class ModelMissingError(Exception):
    """The model's files cannot be had; the text is what the log should end with."""


def find_model(model: str, environ: Mapping[str, str], revision: str | None = None) -> Path:
    """The folder with the model's config.json, tokenizer.json and weights. `revision` None: main."""
    folder = Path(model)
    if (folder / "config.json").is_file():
        return folder
    cached = cached_snapshot(model, environ, revision or "main")
    if cached is None and not _offline(environ):
        cached = _download(model, revision)
    if cached is None:
        raise ModelMissingError(
            "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in "
            f"the cached files ({cache_dir(environ)}): {model} at {revision or 'main'}. Check the "
            "cache, or unset HF_HUB_OFFLINE."
        )
    absent = [name for name in ("config.json", "tokenizer.json") if not (cached / name).is_file()]
    if not list(cached.glob("*.safetensors")):
        absent.append("*.safetensors")
    if absent:
        raise ModelMissingError(f"RuntimeError: cannot find {', '.join(absent)} of {model} in {cached}")
    return cached


def cache_dir(environ: Mapping[str, str]) -> Path:
    """HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub."""
    if "HF_HUB_CACHE" in environ:
        return Path(environ["HF_HUB_CACHE"])
    home = environ.get("HF_HOME") or str(Path(environ.get("HOME", "/root")) / ".cache/huggingface")
    return Path(home) / "hub"


def cached_snapshot(model: str, environ: Mapping[str, str], revision: str) -> Path | None:
    """The snapshot that a branch names in refs/, or that a commit names itself; None where there is none."""
    repo = cache_dir(environ) / f"models--{model.replace('/', '--')}"
    ref = repo / "refs" / revision
    snapshot = repo / "snapshots" / (ref.read_text().strip() if ref.is_file() else revision)
    return snapshot if snapshot.is_dir() else None


def context_length(folder: Path) -> int:
    """The model's own maximum length in tokens."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return int(config.get("max_position_embeddings", 4096))


def _offline(environ: Mapping[str, str]) -> bool:
    return environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "on", "yes", "true"}


def _download(model: str, revision: str | None) -> Path | None:
    try:
        from huggingface_hub import snapshot_download  # type: ignore[import-not-found,unused-ignore]  # in images
    except ImportError:  # outside of the image there is none
        return None
    try:
        return Path(snapshot_download(model, revision=revision))
    except Exception as error:  # whatever the hub client says belongs into the log, as with vLLM
        raise ModelMissingError(f"{type(error).__name__}: {error}") from error
