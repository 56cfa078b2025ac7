"""`plan` and `apply` with --bundle: what does not fit is told, and nothing is touched before that is known."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from builders import facts
from worlds import World

from provisioner.cli.main import run
from provisioner.errors import Exit
from provisioner.plan.bundle import Manifest
from provisioner.rollout import store

FLEET = "hosts: [a]\nservers:\n  nemotron: {recipe: nemotron-3-nano}\n"
DEBIAN = {"os_id": "debian", "os_version": "13", "os_name": "Debian GNU/Linux 13 (trixie)"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """One fresh host; a fleet file beside an empty bundle."""
    made = World({"a": facts("a", **DEBIAN)})
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("provisioner.rollout.survey.probe_all", made.probe_all)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "bundle").mkdir()
    store.write_manifest(tmp_path / "bundle", Manifest(fleet="other"))
    return made


def words(folder: Path, command: str, *more: str, bundle: str = "bundle") -> list[str]:
    return [command, str(folder / "fleet.yaml"), "--bundle", str(folder / bundle), *more]


def test_what_is_no_bundle(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(words(tmp_path, "plan", bundle="none")) == Exit.BAD_INPUT
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/none is no bundle: it has no manifest.json\n  hint: make one with `provision bundle`\n"
    )
    assert world.requests == {}


@pytest.mark.parametrize(("command", "more"), [("plan", ()), ("apply", ("--yes",))])
def test_a_bundle_that_does_not_fit(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, more: tuple[str, ...]
) -> None:
    assert run(words(tmp_path, command, *more)) == Exit.BAD_INPUT
    err = capsys.readouterr().err
    assert "1 of 1 host cannot be provisioned as they are:\n  a  the bundle has no image " in err
    assert "the bundle has no weights of nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 at main\n" in err
    assert "for debian 13 amd64; it has packages for no system\n" in err
    assert not (tmp_path / "state" / "provision" / "runs").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--update-lock", "error: --bundle and --update-lock do not go together: a bundle holds what was locked"),
        ("--check", "error: --check asks the roles, which look for no bundle: `plan --bundle` tells what would change"),
    ],
)
def test_flags_that_make_no_sense_together(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, flag: str, message: str
) -> None:
    assert run(words(tmp_path, "apply", flag)) == Exit.BAD_INPUT
    assert capsys.readouterr().err.startswith(message)
    assert world.requests == {}
