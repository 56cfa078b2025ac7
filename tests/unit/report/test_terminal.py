from __future__ import annotations

from datetime import UTC, datetime

from reports import HOSTILE, events, host, hostile, measurement, report, verdict

from provisioner.history.rundir import HostOutcome
from provisioner.history.steps import Step
from provisioner.report.terminal import course, failures, foot, head


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


def test_the_course_of_a_rollout() -> None:
    at = datetime(2026, 11, 24, 12, 0, 7, tzinfo=UTC)
    steps = (
        Step(kind="wave", wave="canary", hosts=("gpu-01",), time=at),
        Step(kind="rolling_back", hosts=tuple(f"gpu-{number:02}" for number in range(10)), time=at),
        Step(kind="aborted", wave="canary", detail="its gate failed: gpu-01", time=at),
    )
    clock = at.astimezone().strftime("%H:%M:%S")
    assert course(report(host()).model_copy(update={"steps": steps})) == [
        f"{clock}  wave: canary: gpu-01",
        f"{clock}  rolling back: gpu-00, gpu-01, gpu-02, gpu-03, gpu-04, gpu-05, gpu-06, gpu-07 and 2 more",
        f"{clock}  aborted: canary: its gate failed: gpu-01",
    ]
    whole = (Step(kind="wave", wave="all", hosts=("gpu-01",)), Step(kind="finished"))
    assert course(report(host()).model_copy(update={"steps": whole})) == []


def test_failures_say_why_with_the_log() -> None:
    bad = verdict(passed=False, reasons=("vllm-nemotron.service is not healthy",), log="one\ntwo")
    assert failures([verdict(), bad]) == [
        "gpu-01, nemotron: vllm-nemotron.service is not healthy",
        "    one",
        "    two",
    ]
    assert HOSTILE in foot(hostile())
