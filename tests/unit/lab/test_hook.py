"""The stand-in for NVIDIA's prestart hook, and the front of runc: what they make of a container's bundle."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.lab.hardware import gpu_table, parse_hosts

IMAGE = Path(__file__).parents[3] / "provisioner/lab/host_image"
HOOK = IMAGE / "nvidia-container-runtime-hook"


def chosen(wanted: str) -> str:
    """The hook's table for a container that asked for `wanted` on a host of eight GPUs."""
    names = runpy.run_path(str(HOOK), run_name="hook")
    return str(names["chosen"](gpu_table(parse_hosts(["h100:1x8"])[0]), wanted))


@pytest.fixture(autouse=True)
def _as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hook", "poststop"])  # the program does its work at "prestart" alone


def test_all_gpus() -> None:
    assert len(chosen("all").splitlines()) == 9


def test_some_gpus_are_counted_from_zero_again() -> None:
    rows = chosen("3,5").splitlines()[1:]
    assert [row.split(", ")[0] for row in rows] == ["0", "1"]
    assert [row.split(", ")[3] for row in rows] == ["00000000:04:00.0", "00000000:06:00.0"]


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(SystemExit, match="unknown device"):
        chosen("8")


def test_gpus_are_described_as_devices(tmp_path: Path) -> None:
    table, written = tmp_path / "gpus.csv", tmp_path / "cdi" / "nvidia.yaml"
    table.write_text(gpu_table(parse_hosts(["h100:1x2"])[0]))
    argv = ["sh", str(IMAGE / "nvidia-ctk"), "cdi", "generate", f"--output={written}"]
    subprocess.run(argv, env={**os.environ, "LAB_GPUS": str(table)}, check=True)
    told = json.loads(written.read_text())
    assert told["kind"] == "nvidia.com/gpu"
    assert [device["name"] for device in told["devices"]] == ["0", "1", "all"]
    assert told["annotations"] == {"lab.driver": "580.159.04"}


def test_a_container_that_asks_for_none_is_left_alone(tmp_path: Path) -> None:
    config = {"root": {"path": str(tmp_path / "root")}, "process": {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = json.dumps({"id": "x", "pid": 1, "bundle": str(tmp_path)})
    done = subprocess.run([sys.executable, str(HOOK), "prestart"], input=state, text=True, check=False)
    assert done.returncode == 0
    assert not (tmp_path / "root").exists()
