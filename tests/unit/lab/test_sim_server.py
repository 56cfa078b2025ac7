"""The simulated engine over HTTP (loopback): what is open, what is guarded, and what the benchmark makes of it."""

from __future__ import annotations

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.lab.process import wait_until
from provisioner.lab.sim import arguments
from provisioner.lab.sim.bench import BenchError, bench
from provisioner.lab.sim.engine import Engine
from provisioner.lab.sim.hardware import Hardware, slow_factor
from provisioner.lab.sim.protocol import Rules
from provisioner.lab.sim.serve import serve
from provisioner.lab.sim.server import Server
from provisioner.lab.sim.weights import ModelMissingError, find_model

# The keys of a result file of real vLLM 0.12.0, in order.
RESULT_KEYS = """
    date endpoint_type backend label model_id tokenizer_id num_prompts request_rate burstiness max_concurrency
    duration
    completed failed total_input_tokens total_output_tokens request_throughput request_goodput output_throughput
    total_token_throughput max_output_tokens_per_s max_concurrent_requests mean_ttft_ms median_ttft_ms std_ttft_ms
    p99_ttft_ms mean_tpot_ms median_tpot_ms std_tpot_ms p99_tpot_ms mean_itl_ms median_itl_ms std_itl_ms p99_itl_ms
    mean_e2el_ms median_e2el_ms std_e2el_ms p99_e2el_ms
""".split()  # noqa: SIM905 – a list of 37 lines says no more
FAST = Hardware((), 0.0001, 0.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 4096}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def server() -> Iterator[Server]:
    engine = Engine("m", FAST, slots=4, context=4096, tensor_parallel=1)
    running = Server(("127.0.0.1", 0), engine, Rules("m", ("m",), 4096, "", False, False), ["key"], die=False)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def ask(server: Server, path: str, body: dict[str, Any] | None = None, key: str | None = "key") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_address[1]}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 – our own server
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("path", ["/health", "/version", "/metrics", "/ping", "/load"])
def test_the_key_guards_v1_alone(server: Server, path: str) -> None:
    assert ask(server, path, key=None)[0] == 200


@pytest.mark.parametrize("key", [None, "wrong"])
def test_v1_wants_the_key(server: Server, key: str | None) -> None:
    assert ask(server, "/v1/models", key=key) == (401, '{"error": "Unauthorized"}')


def test_models_and_version(server: Server) -> None:
    assert json.loads(ask(server, "/v1/models")[1])["data"][0]["id"] == "m"
    assert json.loads(ask(server, "/version")[1]) == {"version": "0.12.0"}


def test_metrics_count_what_was_served(server: Server) -> None:
    ask(server, "/v1/completions", {"prompt": "one two three", "max_tokens": 5, "ignore_eos": True})
    # an answer may arrive before its request is counted as ended
    idle = 'vllm:num_requests_running{engine="0",model_name="m"} 0.0'
    assert wait_until(lambda: idle in ask(server, "/metrics")[1], timeout=10, every=0.01)
    text = ask(server, "/metrics")[1]
    assert 'vllm:generation_tokens_total{engine="0",model_name="m"} 5.0' in text
    assert 'vllm:prompt_tokens_total{engine="0",model_name="m"} 3.0' in text


def test_bad_json_and_unknown_paths(server: Server) -> None:
    assert ask(server, "/v1/nothing", {})[0] == 404
    assert ask(server, "/v1/chat/completions", {"messages": 3})[0] == 400


def bench_options(server: Server, model: Path, *more: str) -> list[str]:
    words = ["bench", "serve", "--host", "127.0.0.1", "--port", str(server.server_address[1]), "--model", "m"]
    words += ["--tokenizer", str(model), "--random-input-len", "20", "--random-output-len", "10", "--num-prompts", "6"]
    return [*words, "--max-concurrency", "3", "--ignore-eos", "--ready-check-timeout-sec", "0", *more]


@pytest.mark.parametrize("how", [[], ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]])
def test_the_benchmark_measures_and_writes_vllms_keys(
    server: Server, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: list[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    words = ["--save-result", "--result-dir", str(tmp_path), "--result-filename", "r.json"]
    words += ["--percentile-metrics", "ttft,tpot,itl,e2el", *how]
    assert bench(arguments.parse(bench_options(server, model, *words))) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert list(result) == RESULT_KEYS
    assert (result["completed"], result["failed"]) == (6, 0)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (120, 60)
    assert 0 < result["median_ttft_ms"] < result["median_e2el_ms"]


@pytest.mark.parametrize(("limits", "share"), [([], None), (["ttft:60000", "e2el:60000"], 1), (["tpot:0.000001"], 0)])
def test_goodput_counts_answers_within_every_limit(
    server: Server, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: list[str], share: int | None
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    words = ["--save-result", "--result-dir", str(tmp_path), "--result-filename", "r.json"]
    words += ["--goodput", *limits] if limits else []
    assert bench(arguments.parse(bench_options(server, model, *words))) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["request_goodput"] == (None if share is None else share * result["request_throughput"])


def test_failed_requests_are_counted_and_the_exit_code_stays_0(
    server: Server, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    assert bench(arguments.parse(bench_options(server, model))) == 0
    assert f"{'Failed requests:':<40} 6" in capsys.readouterr().out


def test_the_ready_check_gives_up(server: Server, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(BenchError, match="Initial test run failed"):
        bench(arguments.parse([*bench_options(server, model), "--ready-check-timeout-sec", "1"]))


def test_a_model_is_found_in_the_cache_or_named_as_missing(model: Path, tmp_path: Path) -> None:
    repo = tmp_path / "hf/hub/models--org--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("abc")
    (repo / "snapshots").mkdir()
    model.rename(repo / "snapshots/abc")
    environ = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    assert find_model("org/name", environ) == repo / "snapshots/abc"
    assert find_model("org/name", environ, "abc") == repo / "snapshots/abc"
    with pytest.raises(ModelMissingError, match="org/name at 0123"):
        find_model("org/name", environ, "0123")
    with pytest.raises(ModelMissingError, match="couldn't find them in the cached files"):
        find_model("org/other", environ)
    (repo / "snapshots/abc/model.safetensors").unlink()
    with pytest.raises(ModelMissingError, match=r"cannot find \*\.safetensors of org/name"):
        find_model("org/name", environ)


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (["--reasoning-parser", "nano_v3"], "KeyError: invalid reasoning parser: nano_v3"),
        (["--reasoning-parser-plugin", "gone.py"], "No such file or directory: 'gone.py'"),
        (["--enable-auto-tool-choice"], "--enable-auto-tool-choice requires --tool-call-parser"),
        (["--max-model-len", "8192"], "User-specified max_model_len (8192) is greater than"),
        (["--gpu-memory-utilization", "1.5"], "GPU memory utilization must be in (0, 1]"),
    ],
)
def test_what_vllm_would_not_start_with(
    model: Path, words: list[str], last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert serve(arguments.parse(["serve", str(model), *words])) == 1
    assert last in capsys.readouterr().out


def test_exit_at_start(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setitem(os.environ, "SIM_FAULT", "exit-at-start")
    assert serve(arguments.parse(["serve", str(model)])) == 1
    assert "CUDA out of memory" in capsys.readouterr().out


def test_slow_is_a_factor() -> None:
    assert [slow_factor(fault) for fault in ("", "slow=20", "wrong-answer")] == [1.0, 20.0, 1.0]
