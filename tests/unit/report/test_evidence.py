from __future__ import annotations

from provisioner.history.verdict import Evidence, GpuEvidence, GpuLoad, GpuProcess, GpuReading, Spread
from provisioner.report.evidence import circumstances


def test_what_was_seen_in_words() -> None:
    load = GpuLoad(
        readings=9,
        sm_clock_mhz=Spread(lowest=1410, mean=1800, highest=1980),
        power_w=Spread(lowest=612.4, mean=650, highest=689.9),
        temperature_c=Spread(lowest=66, mean=66, highest=66),
    )
    evidence = Evidence(
        driver="580.1",
        gpus=(
            GpuEvidence(index=0, name="NVIDIA H200", under_load=load),
            GpuEvidence(index=1, name="NVIDIA H200", after=GpuReading(power_w=71.6, memory_used_mib=120000)),
            GpuEvidence(index=2, name="NVIDIA H200", after=GpuReading()),
        ),
        cpus=16,
        load_before=0.4,
        load_after=12.25,
        other_gpu_processes=(GpuProcess(pid=7, name="python"),),
        notes=("power: [N/A]",),
    )
    assert circumstances(evidence) == (
        ("GPU 0", "1410 to 1980 MHz, 612 to 690 W, 66 °C"),
        ("GPU 1", "72 W, 120000 MiB used, after it"),
        ("host's load", "0.40 before, 12.2 after on 16 CPUs"),
        ("others on GPUs", "python (pid 7)"),
        ("not seen", "power: [N/A]"),
    )


def test_nothing_known_is_nothing_said() -> None:
    assert circumstances(None) == circumstances(Evidence()) == ()
