from __future__ import annotations

import os
from pathlib import Path

import pytest
from builders import fleet, server

from provisioner.errors import Exit, UsageError
from provisioner.rollout import secrets as module
from provisioner.rollout.secrets import resolve_secrets, take_from_environment


def test_values_by_reference(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    found = resolve_secrets(
        ["env:A", f"file:{tmp_path}/token", "command:printf '%s\\n' from-command", "env:A"], {"A": "from env "}
    )
    assert found == {
        "env:A": "from env ",
        f"file:{tmp_path}/token": "from-file",
        "command:printf '%s\\n' from-command": "from-command",
    }


def test_the_environment_is_our_own_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    assert resolve_secrets(["env:A_SECRET"]) == {"env:A_SECRET": "x"}


def test_what_this_program_starts_inherits_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A_TOKEN", "A_KEY", "A_PASSWORD", "OTHER"):
        monkeypatch.setenv(name, f"value of {name}")
    the_fleet = fleet(
        server(api_key="env:A_KEY", env={"X": "env:OTHER"}),
        server("b", api_key="env:UNSET"),
        hub={"token": "env:A_TOKEN"},
        docker={"registries": {"r.lan": {"username": "ops", "password": "env:A_PASSWORD"}}},
    )
    environment = take_from_environment(the_fleet)
    references = ["env:A_TOKEN", "env:A_KEY", "command:echo $OTHER", "command:echo $A_KEY"]
    assert list(resolve_secrets(references, environment).values()) == [
        *("value of A_TOKEN", "value of A_KEY", "value of OTHER", "value of A_KEY")
    ]
    assert {"A_TOKEN", "A_KEY", "A_PASSWORD", "OTHER"} & set(os.environ) == {"OTHER"}


def test_a_file_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t").write_text("home\r\n")
    assert resolve_secrets(["file:~/t"]) == {"file:~/t": "home"}


VALUES = {"EMPTY": "", "NEWLINE": "\n", "LINES": "s3cret\nmore", "BELL": "s3cret\a"}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:MISSING", "the secret env:MISSING is not set\n  hint: export MISSING=… before running this"),
        ("env:EMPTY", "the secret env:EMPTY is empty"),
        ("env:NEWLINE", "the secret env:NEWLINE is empty"),
        ("env:LINES", "the secret env:LINES has more than one line or control characters"),
        ("env:BELL", "the secret env:BELL has more than one line or control characters"),
        ("file:/nowhere/token", "the secret file:/nowhere/token cannot be read: No such file or directory"),
        ("file:/proc", "the secret file:/proc cannot be read: Is a directory"),
        ("command:true", "the secret command:true is empty"),
        ("command:echo no >&2; exit 3", "the secret command:echo no >&2; exit 3 failed (rc 3): no"),
        (
            r"command:printf 's3cret\377'",
            r"the secret command:printf 's3cret\377' did not print UTF-8 text",
        ),
    ],
)
def test_what_cannot_be_resolved(reference: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_secrets([reference], VALUES)
    assert str(caught.value) == message
    assert caught.value.exit_code == Exit.BAD_INPUT


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"s3cret\xff")
    with pytest.raises(UsageError) as caught:
        resolve_secrets([f"file:{tmp_path}/t"])
    assert str(caught.value) == f"the secret file:{tmp_path}/t cannot be read: not UTF-8 text"


def test_what_a_failing_command_printed_is_not_told() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_secrets(["command:cat /dev/stdin <&-; printf s3; printf cret; exit 1"])
    assert "s3cret" not in str(caught.value)


def test_a_command_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 0.05)
    with pytest.raises(UsageError) as caught:
        resolve_secrets(["command:exec sleep 60"])
    assert str(caught.value) == "the secret command:exec sleep 60 did not end within 0.05 s"
