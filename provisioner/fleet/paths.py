"""Paths and references of a fleet file, made absolute: relative ones start at the file's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from provisioner.fleet.layers import Layer


def below(folder: Path, path: Path) -> Path:
    """A path of the fleet file as an absolute one."""
    try:
        return folder / path.expanduser()
    except RuntimeError:  # ~somebody who has no home here: whoever opens the path says that it is not there
        return folder / path


def exists(path: Path) -> bool:
    """Whether there is something at `path`."""
    try:
        return path.exists()
    except OSError:  # a name that no file system takes
        return False


def is_file(path: Path) -> bool:
    """Whether there is a file at `path`."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder at `path`."""
    try:
        return path.is_dir()
    except OSError:
        return False


def reference_below(folder: Path, reference: str) -> str:
    """A reference to a secret whose file, where it has one, is named by an absolute path."""
    kind, _, rest = reference.partition(":")
    return f"{kind}:{below(folder, Path(rest))}" if kind in ("file", "vault") else reference


def layer_below(folder: Path, layer: Layer) -> Layer:
    """The layer with its references made absolute."""
    key = layer.values.get("api_key")
    return replace(layer, values={**layer.values, "api_key": reference_below(folder, key)}) if key else layer
