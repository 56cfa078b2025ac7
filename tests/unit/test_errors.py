from __future__ import annotations

from pathlib import Path

import pytest

from provisioner import errors
from provisioner.errors import Exit, HostError, InputError, Problem, ProvisionError


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ProvisionError", 1),
        ("UsageError", 2),
        ("HostError", 1),
        ("GateError", 3),
        ("UnreachableError", 4),
        ("LabError", 1),
        ("LockedError", 6),
    ],
)
def test_exit_codes(kind: str, code: int) -> None:
    error = getattr(errors, kind)("a", hint="b")
    assert isinstance(error, ProvisionError)
    assert error.exit_code == code
    assert str(error) == "a\n  hint: b"
    assert str(getattr(errors, kind)("a")) == "a"


def test_the_documented_codes() -> None:
    assert {code.name: code.value for code in Exit} == {
        "OK": 0,
        "HOST_FAILED": 1,
        "BAD_INPUT": 2,
        "GATE_FAILED": 3,
        "UNREACHABLE": 4,
        "CHANGES": 5,
        "LOCKED": 6,
        "INTERRUPTED": 130,
    }


def test_a_host_has_the_last_word() -> None:
    assert HostError("a", log="why").log == "why"
    assert HostError("a").log == ""


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(Path("f.yaml"), 3, 7, "hosts.a", "is wrong"), "f.yaml:3:7: hosts.a: is wrong"),
        (Problem(Path("f.yaml"), 3, 7, "hosts.a", "is wrong", "mend it"), "f.yaml:3:7: hosts.a: is wrong; mend it"),
        (Problem(Path("f.yaml"), 0, 0, "", "no such file"), "f.yaml: no such file"),
    ],
)
def test_problems_as_text(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_problems_are_told_in_the_files_order() -> None:
    def at(line: int) -> Problem:
        return Problem(Path("f"), line, 1, "k", "r")

    error = InputError([at(10), at(2), at(3)])
    assert [problem.line for problem in error.problems] == [2, 3, 10]
    assert str(error) == "f:2:1: k: r\nf:3:1: k: r\nf:10:1: k: r"
    assert error.exit_code == Exit.BAD_INPUT
