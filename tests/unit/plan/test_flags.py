from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.plan import flags

ARGV = ("org/model", "--tensor-parallel-size", "2", "--async-scheduling", "--lora", "a", "b", "--port=8000")


@pytest.mark.parametrize(
    ("flag", "values", "expected"),
    [
        (
            "--tensor-parallel-size",
            ("4",),
            ("org/model", "--tensor-parallel-size", "4", "--async-scheduling", "--lora", "a", "b", "--port=8000"),
        ),
        ("--lora", ("c",), (*ARGV[:4], "--lora", "c", "--port=8000")),
        ("--port", ("9000",), (*ARGV[:7], "--port", "9000")),
        ("--host", ("::1",), (*ARGV, "--host", "::1")),
        ("--async-scheduling", (), ARGV),
    ],
)
def test_set_flag(flag: str, values: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert flags.set_flag(ARGV, flag, *values) == expected


def test_a_flag_set_is_there_once() -> None:
    argv = ("m", "--seed", "1", "--x", "--seed=2", "--y", "--seed", "3")
    assert flags.set_flag(argv, "--seed", "9") == ("m", "--seed", "9", "--x", "--y")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--lora", (*ARGV[:4], "--port=8000")),
        ("--async-scheduling", (*ARGV[:3], *ARGV[4:])),
        ("--port", ARGV[:7]),
        ("--host", ARGV),
        ("--tensor", ARGV),
    ],
)
def test_drop_flag(flag: str, expected: tuple[str, ...]) -> None:
    assert flags.drop_flag(ARGV, flag) == expected


def test_short_flags_and_negative_numbers() -> None:
    argv = ("m", "--offset", "-1", "-tp", "2", "-q", "fp8")
    assert flags.value_of(argv, "--offset") == "-1"
    assert flags.drop_flag(argv, "--offset") == ("m", "-tp", "2", "-q", "fp8")
    assert flags.set_flag(argv, "-tp", "4") == ("m", "--offset", "-1", "-tp", "4", "-q", "fp8")


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (("m",), None),
        (("m", "--port", "1"), "1"),
        (("m", "--port=1"), "1"),
        (("m", "--port", "1", "--port", "2"), "2"),
        (("m", "--port=1", "--port", "2", "--port=3"), "3"),
        (("m", "--port"), ""),
        (("m", "--port", "--host", "h"), ""),
        (("m", "--portal", "1"), None),
    ],
)
def test_value_of(argv: tuple[str, ...], value: str | None) -> None:
    assert flags.value_of(argv, "--port") == value


UNITS = [("--a",), ("--a", "1"), ("--a=3",), ("--b", "-2", "x"), ("--b=y",), ("-c", "x"), ("--bool",)]


@given(st.lists(st.sampled_from(UNITS)), st.text("xyz", min_size=1))
def test_what_was_set_is_what_is_read(units: list[tuple[str, ...]], value: str) -> None:
    argv = ["org/model", *(word for unit in units for word in unit)]
    changed = flags.set_flag(argv, "--a", value)
    assert flags.value_of(changed, "--a") == value
    assert flags.value_of(flags.drop_flag(changed, "--a"), "--a") is None
    assert changed.count("--a") == 1
    for other in ("--b", "-c", "--bool"):
        assert flags.value_of(changed, other) == flags.value_of(argv, other)


def test_any_flag() -> None:
    assert flags.any_flag(ARGV, "--port")
    assert flags.any_flag(ARGV, "--nothing", "--lora")
    assert not flags.any_flag(ARGV, "--por", "--tensor")
