"""Every rejected fleet file, with the whole message. A new case is a folder with fleet.yaml and expected.txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.errors import Exit, InputError
from provisioner.fleet.load import load_fleet

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/fleet.yaml"))


def test_there_are_cases() -> None:
    assert len(CASES) > 80


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_message(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    with pytest.raises(InputError) as caught:
        load_fleet(Path("fleet.yaml"))
    assert f"{caught.value}\n" == (case / "expected.txt").read_text(encoding="utf-8")
    assert caught.value.exit_code == Exit.BAD_INPUT
    assert "sEcReT" not in str(caught.value)


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^fleet.yaml: no such file$"):
        load_fleet(Path("fleet.yaml"))


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a directory, expected a fleet file$"):
        load_fleet(tmp_path)


def test_nested_too_deeply(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("hosts: " + "[" * 100_000, encoding="utf-8")
    with pytest.raises(InputError, match=r"nested too deeply$"):
        load_fleet(file)
