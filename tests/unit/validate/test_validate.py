from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.errors import UnreachableError
from provisioner.fleet.slo import parse_objective
from provisioner.history.events import Event
from provisioner.history.rundir import HostOutcome, outcomes
from provisioner.history.verdict import BenchmarkResult, CheckResult, ImageSeen, ServerVerdict
from provisioner.plan.model import HostPlan, Server
from provisioner.validate.remote import parse_image
from provisioner.validate.validate import Again, Depth, Judged, SpeedGate, validate_host

from .fakes import FakeHost, host_plan, http, server, state, well
from .test_bench import COMMANDS, RECORDED

RECORDED_GPU = Path(__file__).parents[2] / "recorded" / "gpu" / "h100"
IMAGE = json.dumps(
    [
        {
            "Id": "sha256:" + "a" * 64,
            "RepoDigests": ["other/name@sha256:" + "0" * 64, "vllm/vllm-openai@sha256:" + "d" * 64],
            "Config": {"Labels": {"provision.engine": "sim", "provision.build": "lab"}},
        }
    ]
)
SNAPSHOT = (RECORDED_GPU / "snapshot-load.txt").read_text()
HOST = {
    **COMMANDS,
    "docker container inspect --format '{{.Id}}' vllm-nemotron": "c" * 64 + "\n",
    "sh -c 'echo": SNAPSHOT,
    "sh -c 'timeout 20 nvidia-smi": SNAPSHOT.split("\n", 1)[1].split("===")[0],
    "systemctl show": state(),
    "journalctl": "last words",
    "docker container inspect --format '{{.Image}}' vllm-nemotron": "sha256:" + "a" * 64 + "\n",
    "docker image inspect sha256:aaaa": IMAGE,
}


def validate(
    host: FakeHost, tmp_path: Path, depth: Depth = "benchmark", secrets: dict[str, str] | None = None, **changes: object
) -> tuple[ServerVerdict, list[Event]]:
    events: list[Event] = []
    plan = host_plan(server(**changes))
    (verdict,) = validate_host(host, plan, secrets or {}, on_event=events.append, results_dir=tmp_path, depth=depth)
    return verdict, events


def phases(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.phase, event.status) for event in events if event.status != "running"]


def test_a_good_server_passes_with_everything_the_table_needs(tmp_path: Path) -> None:
    verdict, events = validate(FakeHost(HOST, well), tmp_path)
    assert verdict.passed
    assert verdict.reasons == ()
    assert verdict.exit_code == 0
    assert verdict.image == ImageSeen(
        reference="vllm/vllm-openai:v0.32.0",
        id="sha256:" + "a" * 64,
        digest="sha256:" + "d" * 64,
        engine="sim",
        build="lab",
    )
    assert verdict.benchmark is not None
    assert verdict.output_per_gpu == verdict.benchmark.output_throughput / 2
    assert verdict.chat_answer == "A GPU computes."
    assert verdict.version == "0.32.0"
    assert [check.name for check in verdict.checks][-1] == "figures are numbers"
    assert verdict.evidence is not None
    assert verdict.evidence.driver == "580.159.04"
    assert verdict.evidence.image_digest == "sha256:" + "d" * 64
    assert verdict.evidence.serve_argv == ("serve", "nvidia/Tiny")
    assert verdict.evidence.bench_argv == ("bench", "serve", "--port", "8000")
    assert (tmp_path / "gpu-01_nemotron.json").read_text() == RECORDED
    assert phases(events) == [
        ("health", "started"),
        ("health", "ok"),
        ("answers", "started"),
        ("answers", "ok"),
        ("benchmark", "started"),
        ("benchmark", "ok"),
        ("done", "ok"),
    ]


def test_smoke_needs_no_benchmark(tmp_path: Path) -> None:
    verdict, events = validate(FakeHost(HOST, well), tmp_path, depth="smoke")
    assert verdict.passed
    assert verdict.benchmark is None
    assert "benchmark" not in {event.phase for event in events}


def test_a_server_that_never_comes_up(tmp_path: Path) -> None:
    verdict, events = validate(FakeHost({**HOST, "systemctl show": state("failed", "failed")}, well), tmp_path)
    assert not verdict.passed
    assert verdict.exit_code == 1
    assert verdict.log == "last words"
    assert verdict.health_s is None
    assert phases(events) == [("health", "started"), ("health", "failed"), ("failed", "failed")]


def test_a_server_that_the_first_request_kills(tmp_path: Path) -> None:
    def handler(path: str, headers: dict[str, str], body: bytes) -> bytes:
        return b"" if path == "/v1/chat/completions" else well(path, headers, body)

    verdict, _ = validate(FakeHost(HOST, handler), tmp_path)
    assert verdict.exit_code == 3
    assert "was healthy but broke on a request (plain chat" in verdict.reasons[0]
    assert verdict.log == "last words"
    assert verdict.health_s is not None


def test_a_failed_check_stops_before_the_benchmark(tmp_path: Path) -> None:
    def handler(path: str, headers: dict[str, str], body: bytes) -> bytes:
        return http(200, {"data": []}) if path == "/v1/models" else well(path, headers, body)

    verdict, events = validate(FakeHost(HOST, handler), tmp_path)
    assert verdict.reasons == ("served name: serves nothing; expected tiny",)
    assert verdict.exit_code == 3
    assert verdict.log == "last words"
    assert verdict.chat_answer == "A GPU computes."
    assert "benchmark" not in {event.phase for event in events}


def test_a_benchmark_with_failed_requests_keeps_its_figures(tmp_path: Path) -> None:
    bad = json.dumps({**json.loads(RECORDED), "failed": 2, "completed": 18})
    cat = next(command for command in COMMANDS if command.startswith("cat"))
    verdict, _ = validate(FakeHost({**HOST, cat: bad}, well), tmp_path)
    assert verdict.reasons == ("no request failed: 2 of 20 failed; every request completed: 18 of 20 completed",)
    assert verdict.exit_code == 3
    assert verdict.benchmark is not None
    assert verdict.log == "last words"


def gated(host: FakeHost, tmp_path: Path, gate: SpeedGate, **changes: object) -> tuple[ServerVerdict, list[Event]]:
    events: list[Event] = []
    plan = host_plan(server(**changes))
    (verdict,) = validate_host(host, plan, {}, on_event=events.append, results_dir=tmp_path, speed_gate=gate)
    return verdict, events


def test_a_gate_may_measure_again_and_choose(tmp_path: Path) -> None:
    results: list[BenchmarkResult] = []

    def gate(plan: HostPlan, of: Server, image: ImageSeen | None, result: BenchmarkResult, again: Again) -> Judged:
        assert (plan.host, of.name, image.engine if image else None) == ("gpu-01", "nemotron", "sim")
        results.extend([result, again("is it a loss?"), again("is it one now?")])
        said = CheckResult(name="baseline", passed=True, detail="as fast as ever", seconds=0.0)
        return Judged(results[1], (said,))

    verdict, events = gated(FakeHost(HOST, well), tmp_path, gate)
    assert verdict.passed
    assert verdict.benchmark is results[1]
    assert verdict.evidence is not None
    assert [check.name for check in verdict.checks].count("no request failed") == 1
    assert verdict.checks[-1].detail == "as fast as ever"
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["gpu-01_nemotron.2.json", "gpu-01_nemotron.3.json", "gpu-01_nemotron.json"]
    assert [event.task for event in events if event.task.startswith("is it")] == ["is it a loss?", "is it one now?"]
    ended = next(event for event in events if (event.phase, event.status) == ("benchmark", "ok"))
    assert ended.detail == "as fast as ever"


def test_a_loss_fails_beside_missed_objectives(tmp_path: Path) -> None:
    def gate(_plan: HostPlan, _of: Server, _image: ImageSeen | None, result: BenchmarkResult, _again: Again) -> Judged:
        return Judged(result, (CheckResult(name="baseline", passed=False, detail="a loss", seconds=0.0),))

    slo = (parse_objective("output_throughput >= 1e9"),)
    verdict, _ = gated(FakeHost(HOST, well), tmp_path, gate, slo=slo)
    (reason,) = verdict.reasons
    assert reason.startswith("slo: output_throughput: ")
    assert reason.endswith("; baseline: a loss")
    assert (verdict.exit_code, verdict.log) == (3, "last words")
    assert verdict.benchmark is not None


def test_a_lost_connection_is_unreachable(tmp_path: Path) -> None:
    verdict, _ = validate(FakeHost({**HOST, "systemctl show": UnreachableError("gpu-01: gone")}), tmp_path)
    assert (verdict.reasons, verdict.exit_code) == (("gpu-01: gone",), 4)


def test_the_hint_of_an_error_is_told(tmp_path: Path) -> None:
    lost = UnreachableError("gpu-01: gone", hint="is it on?")
    verdict, events = validate(FakeHost({**HOST, "systemctl show": lost}), tmp_path)
    assert verdict.reasons == ("gpu-01: gone\n  hint: is it on?",)
    assert "gpu-01: gone\n  hint: is it on?" in {event.detail for event in events}


def test_secrets_are_in_no_event_and_no_verdict(tmp_path: Path) -> None:
    key = "sk-planted-key"

    def handler(path: str, headers: dict[str, str], body: bytes) -> bytes:
        assert path in ("/health", "/version") or "authorization" in headers or path == "/v1/models"
        if path == "/v1/models" and headers.get("authorization") != f"Bearer {key}":
            return http(401, {})
        return http(500, key) if path == "/v1/chat/completions" else well(path, headers, body)

    host = FakeHost({**HOST, "journalctl": f"key={key}"}, handler)
    verdict, events = validate(host, tmp_path, secrets={"env:KEY": key}, api_key="env:KEY")
    assert verdict.exit_code == 3
    assert "[redacted]" in verdict.log
    assert key not in verdict.model_dump_json() + "".join(event.model_dump_json() for event in events)


def test_a_key_that_was_not_resolved_is_an_error(tmp_path: Path) -> None:
    verdict, _ = validate(FakeHost(HOST, well), tmp_path, api_key="env:KEY")
    assert (verdict.reasons, verdict.exit_code) == (("nemotron: the API key env:KEY was not resolved",), 2)


def test_an_interrupted_run_leaves_the_host_where_it_stood(tmp_path: Path) -> None:
    events: list[Event] = []
    (verdict,) = validate_host(
        FakeHost(HOST, well),
        host_plan(server()),
        {},
        on_event=events.append,
        results_dir=tmp_path,
        interrupted=lambda: True,
    )
    why = "interrupted\n  hint: running the command again goes on where this stopped"
    assert (verdict.reasons, verdict.exit_code) == ((why,), 130)
    assert outcomes(events)["gpu-01"] == HostOutcome(state="stopped", phase="health", task="", detail=why)


@pytest.mark.parametrize(
    ("reference", "digest"),
    [
        ("vllm/vllm-openai:v0.32.0", "sha256:" + "d" * 64),
        ("vllm/vllm-openai", "sha256:" + "d" * 64),
        ("vllm/vllm-openai@sha256:" + "d" * 64, "sha256:" + "d" * 64),
        ("localhost:5000/vllm/vllm-openai", None),
        ("vllm-build:0123456789ab", None),
    ],
)
def test_the_digest_is_the_one_of_the_references_repository(reference: str, digest: str | None) -> None:
    assert parse_image(reference, IMAGE).digest == digest


def test_a_built_image_is_told_by_its_id() -> None:
    image = parse_image("vllm-build:1", json.dumps([{"Id": "sha256:" + "b" * 64, "RepoDigests": None, "Config": None}]))
    assert (image.short, image.engine) == ("b" * 12, None)


def test_objectives_that_are_not_met_fail_the_gate(tmp_path: Path) -> None:
    slo = tuple(map(parse_objective, ("output_throughput >= 200", "p99_ttft_ms <= 100")))
    verdict, _ = validate(FakeHost(HOST, well), tmp_path, slo=slo)
    assert verdict.reasons == ("slo: p99_ttft_ms: 144.65 ms, asked for is at most 100 ms, 44.6 % above it",)
    assert verdict.exit_code == 3
    assert [(check.name, check.passed) for check in verdict.checks[-2:]] == [
        ("slo: output_throughput", True),
        ("slo: p99_ttft_ms", False),
    ]


def test_a_skipped_check_is_told_in_the_events(tmp_path: Path) -> None:
    _, events = validate(FakeHost(HOST, well), tmp_path, depth="smoke", log_stats=False)
    told = next(event.task for event in events if (event.phase, event.status) == ("answers", "ok"))
    assert told == "11 checks passed; metrics skipped: the server keeps no statistics (--disable-log-stats)"
