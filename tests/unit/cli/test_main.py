"""The command line as a whole: what it takes for what, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from provisioner.cli import main
from provisioner.cli.main import app, run
from provisioner.cli.words import with_default_command
from provisioner.errors import Exit, HostError, InputError, Problem, UnreachableError, UsageError

COMMANDS = (
    *("apply", "plan", "bundle", "destroy", "lock", "explain", "probe", "validate", "bench", "render"),
    *("report", "monitoring", "history", "compare", "baseline", "schema", "version", "lab", "recipe"),
    *("rollback", "releases", "resume", "drift", "unlock", "schedule", "tune"),
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ""),
        ("fleet.yaml", "apply fleet.yaml"),
        ("dir/fleet.yml --yes", "apply dir/fleet.yml --yes"),
        ("--yes fleet.yaml", "apply --yes fleet.yaml"),
        ("--hosts gpu-01 fleet.yaml", "apply --hosts gpu-01 fleet.yaml"),
        ("fleet.yaml --hosts plan", "apply fleet.yaml --hosts plan"),
        ("apply fleet.yaml", "apply fleet.yaml"),
        ("plan fleet.yaml", "plan fleet.yaml"),
        ("--help", "--help"),
        ("--help plan", "--help plan"),
        ("pln fleet.yaml", "pln fleet.yaml"),
        ("--yes", "--yes"),
        ("fleet", "fleet"),
    ],
)
def test_apply_is_the_default_command(words: str, expected: str) -> None:
    assert with_default_command(words.split(), COMMANDS) == expected.split()


def test_a_file_of_any_name_is_a_fleet_file(tmp_path: Path) -> None:
    (tmp_path / "hosts").touch()
    assert with_default_command([str(tmp_path / "hosts")], COMMANDS) == ["apply", str(tmp_path / "hosts")]


def test_the_commands_are_these() -> None:
    assert set(typer.main.get_command(app).commands) == set(COMMANDS)  # type: ignore[attr-defined]  # it is a click group


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert run([flag]) == Exit.OK
    text = capsys.readouterr().out
    assert "Turn a list of GPU machines into measured vLLM servers." in text
    assert "Exit codes: 0 all served and validated, 1 a host failed, 2 bad input" in text
    assert all(f"\n  {command} " in text for command in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [
        "apply",
        "plan",
        "bundle",
        "destroy",
        "lock",
        "explain",
        "probe",
        "validate",
        "render",
        "monitoring",
        "rollback",
        "releases",
        "resume",
        "drift",
        "unlock",
    ],
)
def test_help_of_a_command_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run([command, "--help"]) == Exit.OK
    assert f"Example: provision {command} fleet.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "Usage: provision [OPTIONS] COMMAND [ARGS]..."),
        ("apply", "Missing argument 'FLEET'"),
        ("frobnicate", "No such command 'frobnicate'"),
        ("pln fleet.yaml", "No such command 'pln'"),
        ("--yes", "No such option: --yes"),
        ("plan fleet.yaml --yes", "No such option: --yes"),
        ("fleet.yaml other.yaml", "unexpected extra argument"),
        ("render fleet.yaml", "Missing option '--output'"),
        ("apply fleet.yaml --strategy warp", "error: --strategy warp: expected one of mitogen_free, free, linear"),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
        ("plan nowhere.yaml", "nowhere.yaml: no such file"),
    ],
)
def test_usage_errors_exit_2(capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert run(words.split()) == Exit.BAD_INPUT
    said = capsys.readouterr()
    assert message in said.err + (said.out if not words else "")
    assert "Traceback" not in said.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == Exit.OK
    assert capsys.readouterr().out.startswith("provision ")


PROBLEM = InputError([Problem(Path("/etc/x.yaml"), 12, 9, "servers.a", "unknown key")])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no", hint="do"), 2, "error: no\n  hint: do\n"),
        (PROBLEM, 2, "/etc/x.yaml:12:9: servers.a: unknown key\n"),
        (HostError("fleet gone"), 1, "error: fleet gone\n"),
        (UnreachableError("a: x"), 4, "error: a: x\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_become_messages_and_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("provisioner.cli.probe.probe", refuse)
    assert run(["probe", "fleet.yaml"]) == code
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("provisioner.cli.probe.probe", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        run(["probe", "fleet.yaml"])


def test_main_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["provision", "version"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 0
