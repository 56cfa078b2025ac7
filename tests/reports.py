"""Reports for tests: runs, measurements and hosts with figures that can be foretold."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from provisioner.history.events import Event
from provisioner.history.rows import Measurement, RunRow
from provisioner.history.rundir import HostOutcome
from provisioner.history.tuning import TunedPoint, Tuning
from provisioner.history.verdict import BenchmarkResult, CheckResult, Evidence, ImageSeen, Latency, ServerVerdict
from provisioner.plan.model import Change
from provisioner.plan.tuning import Candidate
from provisioner.report.gather import phase_times
from provisioner.report.model import HostReport, Report
from provisioner.report.trend import trends

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LOAD = "10ad10ad10ad"
_IDS = itertools.count(1)


def latency(median: float, p99: float | None = None) -> Latency:
    return Latency(mean_ms=median, median_ms=median, p99_ms=2 * median if p99 is None else p99)


def result(output: float = 1000.0, **figures: Any) -> BenchmarkResult:
    values: dict[str, Any] = {
        "num_prompts": 32,
        "completed": 32,
        "failed": 0,
        "duration_s": 10.0,
        "total_input_tokens": 32768,
        "total_output_tokens": 32768,
        "request_throughput": 3.2,
        "output_throughput": output,
        "total_token_throughput": 2 * output,
        "ttft": latency(40.0),
        "tpot": latency(10.0),
        "itl": latency(9.0),
        "raw": {"max_concurrency": 8, "output_throughput": output},
    }
    return BenchmarkResult(**(values | figures))


def verdict(host: str = "gpu-01", output: float | None = 1000.0, **changes: Any) -> ServerVerdict:
    values: dict[str, Any] = {
        "host": host,
        "server": "nemotron",
        "platform": "linux/amd64",
        "hardware": "h200",
        "hardware_name": "1 × NVIDIA H200",
        "gpu_count": 1,
        "simulated": False,
        "image": ImageSeen(reference="vllm/vllm-openai:v0.12.0", id="sha256:" + "a" * 64),
        "variant": "fp8",
        "precision": "fp8",
        "model": "nvidia/Tiny",
        "endpoint": "http://127.0.0.1:8000",
        "version": "0.12.0",
        "checks": (CheckResult(name="plain chat", passed=True, detail="18 tokens", seconds=0.1),),
        "benchmark": None if output is None else result(output),
        "passed": True,
    }
    return ServerVerdict(**(values | changes))


def measurement(output: float = 1000.0, hour: int = 0, **changes: Any) -> Measurement:
    """`hour`: how many hours after noon."""
    values: dict[str, Any] = {
        "id": next(_IDS),
        "run_id": f"run-{hour}",
        "at": NOON + timedelta(hours=hour),
        "fleet": "lab",
        "host": "gpu-01",
        "server": "nemotron",
        "hardware": "h200",
        "gpu_count": 1,
        "platform": "linux/amd64",
        "model": "nvidia/Tiny",
        "variant": "fp8",
        "version": "0.12.0",
        "image": "aaaaaaaaaaaa",
        "driver": "580.95.05",
        "workload": LOAD,
        "passed": True,
        "accepted": False,
        "result": result(output),
    }
    return Measurement(**(values | changes))


def run(**changes: Any) -> RunRow:
    values: dict[str, Any] = {
        "id": "20261124T120000Z-abc123",
        "fleet": "lab",
        "fleet_path": "/fleets/lab.yaml",
        "began_at": NOON,
        "ended_at": NOON + timedelta(seconds=125),
        "exit_code": 0,
        "command": ("provision", "fleet.yaml"),
        "user": "ops",
        "hosts": ("gpu-01",),
    }
    return RunRow(**(values | changes))


def events(host: str = "gpu-01") -> tuple[Event, ...]:
    def at(seconds: int, **values: Any) -> Event:
        return Event(host=host, time=NOON + timedelta(seconds=seconds), **values)

    return (
        at(0, phase="apply", task="vllm_server: Write the unit", status="running"),
        at(5, phase="apply", task="vllm_server: Write the unit", status="changed"),
        at(60, phase="health", server="nemotron", status="started"),
        at(90, phase="benchmark", server="nemotron", status="started"),
        at(120, phase="done", status="ok"),
    )


def host(
    name: str = "gpu-01", *verdicts: ServerVerdict, measured: tuple[Measurement, ...] = (), **changes: Any
) -> HostReport:
    seen = events(name)
    values: dict[str, Any] = {
        "name": name,
        "outcome": HostOutcome(state="done", phase="done", task=""),
        "plan": None,
        "changes": (Change(role="vllm_server", subject="vllm-nemotron.service", reason="is not there"),),
        "phases": phase_times(seen),
        "applied": tuple(event for event in seen if event.status == "changed"),
        "failures": (),
        "verdicts": verdicts or (verdict(name),),
        "trends": trends(measured or (measurement(host=name),)),
    }
    return HostReport(**(values | changes))


def report(*hosts: HostReport, **changes: Any) -> Report:
    hosts = hosts or (host(),)
    values: dict[str, Any] = {
        "run": run(hosts=tuple(one.name for one in hosts)),
        "ending": "passed",
        "made_at": NOON + timedelta(hours=1),
        "hosts": hosts,
    }
    return Report(**(values | changes))


def measured(seqs: int, output: float, tpot: float, **changes: Any) -> TunedPoint:
    found = result(output, tpot=latency(tpot), ttft=latency(40), raw={"max_concurrency": seqs})
    candidate = Candidate(settings=(("max_num_seqs", seqs),))
    return TunedPoint(candidate=candidate, key=str(seqs), state="measured", result=found, **changes)


def tuning(*points: TunedPoint, **changes: Any) -> Tuning:
    values: dict[str, Any] = {
        "host": "gpu-01",
        "server": "nemotron",
        "hardware": "h200",
        "hardware_name": "2 × NVIDIA H200",
        "model": "nvidia/Tiny",
        "budget_s": 600,
        "original_argv": ("nvidia/Tiny",),
    }
    return Tuning(**(values | {"points": points} | changes))


THREE = tuning(
    measured(8, 800, 5),
    measured(64, 3000, 20, kept_from="run-1"),
    measured(16, 700, 10),
    TunedPoint(
        candidate=Candidate(settings=(("max_num_seqs", 512),)),
        state="failed",
        reason="CUDA out of memory",
        log="torch.OutOfMemoryError",
    ),
    TunedPoint(candidate=Candidate(settings=(("max_num_seqs", 4),)), state="left", reason="the time was over"),
)


HOSTILE = """</pre><script>alert(1)</script>"'><img src=x onerror=alert(1)> {{ 7 * 7 }} **bold** | [x](javascript:y)"""


def hostile() -> Report:
    """A failed run in which every word that a host or an operator can choose tries to be markup."""
    check = CheckResult(
        name=HOSTILE, passed=False, detail=HOSTILE, seconds=0.1, request=HOSTILE, answer=HOSTILE, log=HOSTILE
    )
    bad = verdict(
        passed=False, hardware_name=HOSTILE, model=HOSTILE, variant=HOSTILE, precision=HOSTILE, version=HOSTILE,
        endpoint=HOSTILE, server=HOSTILE, chat_answer=HOSTILE, reasons=(HOSTILE,), log=HOSTILE, checks=(check,),
        evidence=Evidence(driver=HOSTILE, notes=(HOSTILE,)),
        image=ImageSeen(reference=HOSTILE, id="sha256:" + "a" * 64, engine=HOSTILE),
    )  # fmt: skip
    changed = Event(host="gpu-01", phase="apply", task=HOSTILE, status="changed", time=NOON)
    one = host(
        "gpu-01",
        bad,
        measured=(
            measurement(1000, 0, server=HOSTILE, model=HOSTILE, image=HOSTILE, driver=HOSTILE),
            measurement(900, 1, server=HOSTILE, model=HOSTILE, image="other", driver="other"),
        ),
        changes=(Change(role="vllm_server", subject=HOSTILE, reason=HOSTILE),),
        applied=(changed,),
        notes=(HOSTILE,),
    )
    broken = host(
        "gpu-02",
        verdict("gpu-02", output=None),
        outcome=HostOutcome(state="failed", phase="apply", task=HOSTILE, detail=HOSTILE),
        failures=(Event(host="gpu-02", phase="apply", task=HOSTILE, status="failed", detail=HOSTILE, time=NOON),),
    )
    earlier = measurement(800, 0, model=HOSTILE, image=HOSTILE, host="gpu-09")
    return report(
        one, broken, run=run(fleet=HOSTILE, user=HOSTILE, command=(HOSTILE,), exit_code=3), ending="a gate failed",
        before=(earlier,),
    )  # fmt: skip
