"""Commands with --bundle: what does not fit is told, and nothing is touched before that is known."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from builders import converged, facts, lock, plan
from leasing import LeaseHosts
from worlds import World, proven

from provisioner.cli.main import run
from provisioner.errors import Exit
from provisioner.fleet.load import load_fleet
from provisioner.plan.bundle import Manifest
from provisioner.plan.facts import Facts
from provisioner.plan.lock import UNLOCKED
from provisioner.rollout import store
from provisioner.rollout.locking import without_images, write_lock
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.survey import Survey

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


@pytest.fixture
def provisioned(world: World, tmp_path: Path) -> World:
    """The host as it is after an `apply --bundle` of a locked fleet: no archive gives Docker the digests of a lock."""
    of = load_fleet(tmp_path / "fleet.yaml")
    write_lock(of, lock())
    the_plan = plan(of, facts("a"), without_images(lock()) or UNLOCKED)
    ours = (the_plan.servers[0].unit_file.path,)
    world.hosts = {"a": proven(converged(the_plan), the_plan).model_copy(update={"marked": ours})}
    return world


def words(folder: Path, command: str, *more: str, bundle: str = "bundle") -> list[str]:
    return [command, str(folder / "fleet.yaml"), "--bundle", str(folder / bundle), *more]


def test_what_is_no_bundle(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(words(tmp_path, "plan", bundle="none")) == Exit.BAD_INPUT
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/none is no bundle: it has no manifest.json\n  hint: make one with `provision bundle`\n"
    )
    assert world.requests == {}


@pytest.mark.parametrize(("command", "more"), [("plan", ()), ("apply", ("--yes",)), ("validate", ())])
def test_a_bundle_that_does_not_fit(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, more: tuple[str, ...]
) -> None:
    assert run(words(tmp_path, command, *more)) == Exit.BAD_INPUT
    err = capsys.readouterr().err
    assert "1 of 1 host cannot be provisioned as they are:\n  a  the bundle has no image " in err
    assert "the bundle has no weights of nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 at main\n" in err
    assert "for debian 13 amd64; it has packages for no system\n" in err
    assert not (tmp_path / "state" / "provision" / "runs").exists()


def test_drift_against_a_bundle_that_does_not_fit(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(words(tmp_path, "drift")) == Exit.BAD_INPUT
    assert capsys.readouterr().out.startswith("a\n  ! unfit: the bundle has no image ")


def test_a_validation_of_what_came_from_a_bundle(
    provisioned: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    validated: list[str] = []

    def execute(seen: Survey, *_: Any, **__: Any) -> tuple[HostOutcome, ...]:
        validated.extend(host.host.name for host in seen.work)
        return (HostOutcome("a", Exit.OK),)

    monkeypatch.setattr("provisioner.cli.validate.execute", execute)
    hosts = LeaseHosts(monkeypatch, tmp_path / "leases")
    monkeypatch.setattr("provisioner.cli.looking.connect", lambda host, _: hosts.transport(host.name))
    fleet = tmp_path / "fleet.yaml"
    assert run(["validate", str(fleet)]) == Exit.CHANGES
    assert capsys.readouterr().err.endswith(f"\na: not as planned; run `provision plan {fleet}` to see why\n")
    assert run(words(tmp_path, "validate")) == Exit.OK
    assert validated == ["a"]


def test_a_validation_says_how_to_see_why(
    provisioned: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = provisioned.hosts["a"]
    assert isinstance(found, Facts)
    provisioned.hosts = {"a": found.model_copy(update={"files": ()})}
    assert run(words(tmp_path, "validate")) == Exit.CHANGES
    fleet = f"{tmp_path}/fleet.yaml --bundle {tmp_path}/bundle"
    assert capsys.readouterr().err.endswith(f"\na: not as planned; run `provision plan {fleet}` to see why\n")


def test_what_came_from_a_bundle_has_not_drifted(
    provisioned: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["drift", str(tmp_path / "fleet.yaml")]) == Exit.CHANGES
    assert run(words(tmp_path, "drift")) == Exit.OK
    assert capsys.readouterr().out.endswith("1 host: 1 as planned, 0 not as planned\n")


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
