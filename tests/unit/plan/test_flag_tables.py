from __future__ import annotations

import json
from pathlib import Path

import pytest

import provisioner.lab.sim
from provisioner.plan import flag_tables
from provisioner.plan.gate_data import gates
from provisioner.plan.versions import default_of, parse

SIM = Path(provisioner.lab.sim.__file__).parent
ALL = ("0.11.2", "0.12.0", "0.13.0", "0.14.1", "0.17.1", "0.22.1", "0.23.0", "0.32.0", "0.33.0")


@pytest.mark.parametrize(
    ("version", "there"),
    [("0.11.0", True), ("0.11.2", True), ("0.17.1", True), ("0.17.9", True), ("0.18.0", None), ("0.22.0", False),
     ("0.30.0", False), ("0.33.1", False), ("0.34.0", None), (None, None)],
)  # fmt: skip
def test_a_flag_that_went(version: str | None, there: bool | None) -> None:
    assert flag_tables.has("serve", "--swap-space", version) is there


@pytest.mark.parametrize(
    ("version", "there"),
    [("0.10.0", None), ("0.12.0", False), ("0.14.1", False), ("0.15.0", None), ("0.17.0", True), ("1.0.0", True),
     (None, True)],
)  # fmt: skip
def test_a_flag_that_came(version: str | None, there: bool | None) -> None:
    assert flag_tables.has("serve", "--moe-backend", version) is there


def test_known_in() -> None:
    assert flag_tables.known_in("serve", "--port") == "0.11.2 to 0.33.0"
    assert flag_tables.known_in("serve", "--disable-log-requests") == "0.11.2 to 0.14.1, 0.33.0"
    assert flag_tables.known_in("serve", "--no-such") == ""


def test_what_an_option_takes() -> None:
    option, told = flag_tables.option("serve", "--mamba-ssm-cache-dtype", "0.12.0")
    assert told
    assert option is not None
    assert option["choices"] == ["auto", "float32"]
    option, told = flag_tables.option("serve", "--mamba-ssm-cache-dtype", "0.20.0")
    assert not told
    assert option is not None
    assert option["choices"] == ["auto", "float32"]
    assert flag_tables.option("serve", "--no-such", "0.12.0") == (None, False)


@pytest.mark.parametrize(("command", "file"), [("serve", "serve_flags.json"), ("bench serve", "bench_flags.json")])
def test_the_simulated_engine_has_the_same_table(command: flag_tables.Command, file: str) -> None:
    for flag in json.loads((SIM / file).read_text()):
        option, told = flag_tables.option(command, flag["names"][0], "0.12.0")
        assert told
        assert option is not None
        ours = {key: value for key, value in option.items() if key != "in"}
        assert ours == {key: value for key, value in flag.items() if key != "default"}


@pytest.mark.parametrize("version", ALL)
def test_no_table_is_empty(version: str) -> None:
    assert len(flag_tables.names("serve", version)) > 150
    assert len(flag_tables.names("bench serve", version)) > 70


def test_what_replaces_a_flag_exists_after_it() -> None:
    for entry in gates().instead:
        assert flag_tables.known_in("serve", entry) != ""


def test_gates_name_versions_and_sources() -> None:
    assert all(parse(gate.before) < parse(gate.since) for gate in gates().values)
    assert all(entry.source for entry in (*gates().values, *gates().defaults, *gates().environment, *gates().needs))


@pytest.mark.parametrize(
    ("flag", "version", "value"),
    [
        ("--mamba-ssm-cache-dtype", "0.11.2", "bfloat16"),
        ("--mamba-ssm-cache-dtype", "0.12.0", "bfloat16"),
        ("--mamba-ssm-cache-dtype", "0.13.0", "the model's own mamba_ssm_cache_dtype, or float16"),
        ("--mamba-ssm-cache-dtype", None, "the model's own mamba_ssm_cache_dtype, or float16"),
        ("--gpu-memory-utilization", "0.12.0", "0.9"),
        ("--gpu-memory-utilization", "0.32.0", "0.92"),
        ("--ready-check-timeout-sec", "0.12.0", "600"),
        ("--ready-check-timeout-sec", "0.33.0", "0"),
        ("--port", "0.12.0", None),
    ],
)
def test_defaults_that_changed(flag: str, version: str | None, value: str | None) -> None:
    assert default_of(flag, version) == value
