from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.history.verdict import GpuProcess, GpuReading
from provisioner.validate.snapshot import Snapshot, gpus_command, parse_gpus, parse_snapshot, snapshot_command

RECORDED = Path(__file__).parents[2] / "recorded" / "gpu" / "h100"
CONTAINER = "c" * 64


def test_a_real_h100_at_work() -> None:
    seen = parse_snapshot((RECORDED / "snapshot-load.txt").read_text(), None)
    (gpu,) = seen.gpus
    assert (gpu.index, gpu.name, gpu.driver) == (0, "NVIDIA H100 80GB HBM3", "580.159.04")
    assert gpu.reading == GpuReading(
        sm_clock_mhz=1410,
        memory_clock_mhz=2619,
        temperature_c=69,
        power_w=696.24,
        memory_used_mib=1011,
        utilization_percent=100,
    )
    assert seen.processes == (GpuProcess(pid=427, name="python3", memory_mib=1002),)
    assert (seen.load, seen.cpus, seen.notes) == (0.22, 16, ())


def test_the_servers_own_processes_are_no_other_load() -> None:
    assert parse_snapshot((RECORDED / "snapshot-load.txt").read_text(), CONTAINER).processes == ()


def test_a_real_h100_at_rest() -> None:
    seen = parse_snapshot((RECORDED / "snapshot-idle.txt").read_text(), CONTAINER)
    assert seen.gpus[0].reading.sm_clock_mhz == 480
    assert seen.processes == ()


def test_what_a_spark_does_not_tell_is_unknown() -> None:
    gpus, notes = parse_gpus("0, NVIDIA GB10, 580.95.05, 2405, [N/A], 51, 12.91, [N/A], 3\n")
    assert gpus[0].reading == GpuReading(sm_clock_mhz=2405, temperature_c=51, power_w=12.91, utilization_percent=3)
    assert notes == ()


def test_without_nvidia_smi_the_rest_is_told() -> None:
    text = (
        "=== gpus\ntimeout: failed to run command 'nvidia-smi': No such file or directory\nnvidia-smi ended with 127\n"
        "=== processes\n=== groups\n=== load\n1.50 0.05 0.02 3/226 470\n4\n"
    )
    assert parse_snapshot(text, CONTAINER) == Snapshot(
        gpus=(),
        processes=(),
        load=1.5,
        cpus=4,
        notes=("timeout: failed to run command 'nvidia-smi': No such file or directory nvidia-smi ended with 127",),
    )


def test_a_name_may_have_commas_and_memory_may_be_unknown() -> None:
    text = "=== processes\n17, /usr/bin/render, fast, [N/A]\nno process\n"
    assert parse_snapshot(text, None).processes == (GpuProcess(pid=17, name="/usr/bin/render, fast"),)


@given(st.text(), st.none() | st.text(min_size=1))
def test_anything_else_is_nothing(text: str, container: str | None) -> None:
    seen = parse_snapshot(text, container)
    assert isinstance(seen, Snapshot)


@pytest.mark.parametrize("command", [gpus_command(), snapshot_command()])
def test_no_command_waits_for_a_driver_that_hangs(command: str) -> None:
    assert command.startswith("sudo -n sh -c ")
    assert command.count("nvidia-smi --query") == command.count("timeout 20 nvidia-smi --query")
