from __future__ import annotations

from reports import HOSTILE, events, host, hostile, measurement, report, verdict

from provisioner.history.rundir import HostOutcome
from provisioner.report.terminal import failures, foot, head


def test_head_and_foot() -> None:
    measured = (measurement(1000, 0), measurement(900, 1, driver="590.1"))
    broken = host(
        "gpu-02",
        verdict("gpu-02"),
        measured=(measurement(host="gpu-02"),),
        outcome=HostOutcome(state="failed", phase="apply", task=""),
        failures=(events("gpu-02")[1].model_copy(update={"status": "failed", "detail": "E: no space\nleft"}),),
    )
    found = report(host(measured=measured), broken, ending="a host failed")
    assert head(found) == "lab: a host failed; run 20261124T120000Z-abc123, 2026-11-24 12:00 UTC, took 2:05"
    assert foot(found).splitlines() == [
        "gpu-01, nemotron: ▆▃  1000 → 900.0 output tok/s (−10.0 %), 2 benchmarks; driver changed",
        "    24 Nov 13:00: driver 580.95.05 → 590.1",
        "gpu-02: apply: vllm_server: Write the unit failed",
        "    E: no space",
        "    left",
    ]


def test_failures_say_why_with_the_log() -> None:
    bad = verdict(passed=False, reasons=("vllm-nemotron.service is not healthy",), log="one\ntwo")
    assert failures([verdict(), bad]) == [
        "gpu-01, nemotron: vllm-nemotron.service is not healthy",
        "    one",
        "    two",
    ]
    assert HOSTILE in foot(hostile())
