"""Our own YAML files say the same to the fast reader as to the one for files that people write."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

import provisioner
from provisioner.fleet.packaged import read_packaged

ROOT = Path(provisioner.__file__).parent
FILES = sorted([*ROOT.glob("*/data/*.yaml"), *(ROOT / "fleet" / "recipes").rglob("*.yaml")])


def test_there_are_such_files() -> None:
    assert {"hardware.yaml", "gates.yaml", "known_bad.yaml"} <= {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_both_readers_agree(file: Path) -> None:
    expected = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    assert repr(read_packaged(file)) == repr(expected)
