from __future__ import annotations

import re
from pathlib import Path

import pytest

from provisioner.errors import GateError, HostError, UnreachableError
from provisioner.history.verdict import BenchmarkResult
from provisioner.hosts.transport import Result
from provisioner.validate.bench import bench_command, bench_docker_argv, progress_text, run_benchmark
from provisioner.validate.interrupt import RunInterrupted

from .fakes import FakeHost, server

RECORDED = (Path(__file__).parents[2] / "recorded" / "bench" / "bench-serve-0.32.json").read_text()
RUN = "bash -o pipefail -c 'timeout --signal=INT --kill-after=30 60 docker run --rm --name provision-bench-nemotron "
CLEAN = "rm -rf /var/lib/vllm/benchmarks/nemotron"
COMMANDS = {
    "docker rm --force provision-bench-nemotron": Result(1, "", "No such container"),
    "docker ps --all --quiet --filter 'name=^provision-bench-nemotron$'": "",
    "rm -rf": "",
    "install": "",
    RUN: "Starting\n",
    "cat /var/lib/vllm/benchmarks/nemotron/vllm_benchmark_serving_results.json": RECORDED,
}


def bench(host: FakeHost, tmp_path: Path, said: list[str] | None = None, api_key: str | None = None) -> BenchmarkResult:
    told = said if said is not None else []
    return run_benchmark(
        host,
        server(),
        cache_dir="/cache",
        save_to=tmp_path / "new" / "r.json",
        api_key=api_key,
        on_progress=told.append,
    )


def test_the_command_is_the_plans_benchmark_in_the_servers_image() -> None:
    argv = bench_docker_argv(server(), "/cache", "/res", env_file="/res.env")
    assert " ".join(argv) == (
        "docker run --rm --name provision-bench-nemotron --network host --entrypoint vllm --pull never"
        " --volume /cache:/root/.cache/huggingface:ro --volume /res:/results"
        " --env HF_HOME=/root/.cache/huggingface --env HF_HUB_OFFLINE=1 --env HF_MODULES_CACHE=/tmp/hf-modules"
        " --env-file /res.env"
        " vllm/vllm-openai:v0.32.0 bench serve --port 8000"
    )


def test_the_command_is_bounded_on_the_host_and_its_progress_bar_becomes_lines() -> None:
    assert bench_command(["docker", "run", "a b"], 60) == (
        "sudo -n bash -o pipefail -c 'timeout --signal=INT --kill-after=30 60 docker run '\"'\"'a b'\"'\"' 2>&1"
        " | stdbuf -oL tr '\"'\"'\\r'\"'\"' '\"'\"'\\n'\"'\"''"
    )


def test_the_whole_result_is_saved_and_nothing_stays_on_the_host(tmp_path: Path) -> None:
    host = FakeHost(COMMANDS)
    assert bench(host, tmp_path).completed == 20
    assert (tmp_path / "new" / "r.json").read_text() == RECORDED
    assert host.ran.index(CLEAN) < next(i for i, command in enumerate(host.ran) if command.startswith(RUN))
    assert host.ran[-1] == CLEAN
    assert host.ran[-3] == "docker rm --force provision-bench-nemotron"


def test_the_key_goes_through_stdin_into_a_file_that_is_removed(tmp_path: Path) -> None:
    host = FakeHost(COMMANDS)
    bench(host, tmp_path, api_key="sk-planted")
    assert host.stdins == ["OPENAI_API_KEY=sk-planted\n"]
    assert "install -m 0600 /dev/stdin /var/lib/vllm/benchmarks/nemotron.env" in host.ran
    assert not [command for command in host.ran if "sk-planted" in command]
    assert host.ran[-1] == f"{CLEAN} /var/lib/vllm/benchmarks/nemotron.env"


def test_docker_is_tried_again_when_it_failed_itself(tmp_path: Path) -> None:
    broken = Result(125, "", "runc create failed: connection reset by peer")
    host, said = FakeHost({**COMMANDS, RUN: [broken, broken, Result(0, "", "")]}), list[str]()
    assert bench(host, tmp_path, said).completed == 20
    assert "docker run failed before it started anything (attempt 2 of 3)" in said


def test_docker_is_not_tried_for_ever(tmp_path: Path) -> None:
    host = FakeHost({**COMMANDS, RUN: Result(125, "", "Unable to find image 'x'")})
    with pytest.raises(HostError, match=r"docker could not run the benchmark of nemotron \(3 attempts\)") as caught:
        bench(host, tmp_path)
    assert caught.value.log == "Unable to find image 'x'"
    assert sum(command.startswith(RUN) for command in host.ran) == 3


def test_a_benchmark_that_fails_is_told_with_its_output(tmp_path: Path) -> None:
    host = FakeHost({**COMMANDS, RUN: Result(2, "", "vllm: error: unrecognized arguments: --nope")})
    with pytest.raises(GateError, match="ended with exit code 2; its last output:\nvllm: error: unrecognized"):
        bench(host, tmp_path)
    assert host.ran[-1] == CLEAN


def test_exit_code_0_without_a_result_is_a_failure(tmp_path: Path) -> None:
    missing = Result(1, "", "cat: no such file")
    host = FakeHost({key: missing if key.startswith("cat") else value for key, value in COMMANDS.items()})
    with pytest.raises(GateError, match="the benchmark ended well but left no result: cat: no such file"):
        bench(host, tmp_path)


def test_137_before_the_time_is_over_is_no_timeout(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="ended with exit code 137"):
        bench(FakeHost({**COMMANDS, RUN: Result(137, "", "")}), tmp_path)


def test_a_timeout_says_how_to_give_it_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 61.0])
    monkeypatch.setattr("provisioner.validate.bench.time.monotonic", lambda: next(times))
    with pytest.raises(GateError, match="did not end within 60 s; its last output:\n5/20") as caught:
        bench(FakeHost({**COMMANDS, RUN: Result(124, "", "5/20")}), tmp_path)
    assert "benchmark.timeout_s" in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), HostError("did not end in 120 s")])
def test_the_container_is_removed_however_it_ends(tmp_path: Path, error: BaseException) -> None:
    host = FakeHost({**COMMANDS, RUN: error})
    with pytest.raises(type(error)):
        bench(host, tmp_path)
    assert host.ran[-3:] == [
        "docker rm --force provision-bench-nemotron",
        "docker ps --all --quiet --filter 'name=^provision-bench-nemotron$'",
        CLEAN,
    ]


def test_a_lost_connection_is_the_error_that_is_told(tmp_path: Path) -> None:
    lost = UnreachableError("gpu-01: connection lost")
    rm = "docker rm --force provision-bench-nemotron"
    host = FakeHost({**COMMANDS, RUN: lost, rm: ["", UnreachableError("not connected")]})
    with pytest.raises(UnreachableError, match="gpu-01: connection lost") as caught:
        bench(host, tmp_path)
    assert caught.value.__notes__ == ["cleaning up after it failed as well: not connected"]


def test_a_container_that_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    ps = "docker ps --all --quiet --filter 'name=^provision-bench-nemotron$'"
    with pytest.raises(HostError, match=re.escape("provision-bench-nemotron of an earlier benchmark cannot be")):
        bench(FakeHost({**COMMANDS, ps: "0123abcd\n"}), tmp_path)


def test_an_interrupted_run_ends_the_benchmark(tmp_path: Path) -> None:
    host = FakeHost(COMMANDS)
    with pytest.raises(RunInterrupted):
        run_benchmark(host, server(), cache_dir="/c", save_to=tmp_path / "r.json", interrupted=lambda: True)
    assert host.ran[-1] == CLEAN


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (" 45%|####  | 9/20 [00:00<00:00, 72.84it/s]", "9/20 requests"),
        ("Starting main benchmark run...", "Starting main benchmark run..."),
        ("Namespace(subparser='bench', bench_type='serve')", ""),
        ("", ""),
    ],
)
def test_progress(line: str, text: str) -> None:
    assert progress_text(line) == text
