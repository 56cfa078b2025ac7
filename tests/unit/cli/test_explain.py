"""`provision explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.cli.main import run
from provisioner.errors import Exit

FLEET = """\
hosts:
  spark-01: {hardware: dgx_spark_gb10, servers: {a: {max_model_len: 4096}}}
  gpu-01:
servers:
  a: {recipe: nemotron-3-nano}
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("fleet.yaml").write_text(FLEET, encoding="utf-8")
    return "fleet.yaml"


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, tuple[str, str]]:
    assert run(["explain", *words, "--json"]) == Exit.OK
    return {one["key"]: (one["value"], one["source"]) for one in json.loads(capsys.readouterr().out)}


def test_the_recipe_decides_what_nobody_said(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, fleet, "spark-01")
    assert found["servers.a.max_model_len"] == ("4096", "fleet.yaml:2:54 (host spark-01)")
    value, source = found["servers.a.max_num_seqs"]
    assert (value, source.startswith("recipe ")) == ("8", True)


def test_hardware_by_flag(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, fleet, "gpu-01", "a.variant") == {"servers.a.variant": ("–", "not said")}
    found = told(capsys, fleet, "gpu-01", "a.variant", "--hardware", "h200")
    assert found["servers.a.variant"][0] == "fp8"


def test_as_text(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", fleet, "gpu-01", "a.port"]) == Exit.OK
    assert capsys.readouterr().out == "servers.a.port  8000  default\n"


def test_unknown_hardware(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", fleet, "gpu-01", "--hardware", "h20"]) == Exit.BAD_INPUT
    assert 'unknown hardware "h20"' in capsys.readouterr().err
