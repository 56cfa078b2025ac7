"""`provision bench`: explanations and imported results, as a user sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.cli.main import run
from provisioner.fleet.metrics import metrics

RECORDED = Path(__file__).parents[2] / "recorded" / "bench"
GUIDE = """\
completed                           2048  requests
failed                                 0  requests
max_concurrency                     1024  requests
duration                          132.49  s
total_input_tokens               2097155  tokens
total_output_tokens              2097152  tokens
request_throughput                 15.46  requests/s
output_throughput               15828.30  tok/s
output_throughput_per_gpu       15828.30  tok/s
max_output_tokens_per_s         21157.00  tok/s
max_concurrent_requests             1088  requests
total_token_throughput          31656.63  tok/s
total_token_throughput_per_gpu  31656.63  tok/s
mean_ttft_ms                     4490.58  ms
median_ttft_ms                   1534.84  ms
p99_ttft_ms                     15465.31  ms
mean_tpot_ms                       59.45  ms
median_tpot_ms                     61.04  ms
p99_tpot_ms                        63.01  ms
mean_itl_ms                        59.45  ms
median_itl_ms                      52.75  ms
p99_itl_ms                        131.46  ms
"""


def test_the_guides_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "import", str(RECORDED / "guide-h200-fp8.txt")]) == 0
    assert capsys.readouterr().out == GUIDE


def test_a_result_file_for_a_server_of_two_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "import", str(RECORDED / "bench-serve-0.32.json"), "--gpus", "2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["output_throughput", "202.22", "tok/s"] in lines
    assert ["output_throughput_per_gpu", "101.11", "tok/s"] in lines
    assert ["request_goodput", "12.64", "requests/s"] in lines


def test_other_percentiles_stand_with_their_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads((RECORDED / "bench-serve-0.12.json").read_text())
    file = tmp_path / "r.json"
    file.write_text(json.dumps(data | {"p95_ttft_ms": 22.0}))
    assert run(["bench", "import", str(file)]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names.index("p99_ttft_ms") + 1 == names.index("p95_ttft_ms")


def test_every_key_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    file = RECORDED / "bench-serve-0.32.json"
    assert run(["bench", "import", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(file.read_text())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone", None, "error: gone: No such file or directory\n"),
        (
            "log",
            "hello",
            'error: log: there is no block of `vllm bench serve` in it: no line "Serving Benchmark Result"\n',
        ),
        ("json", '{"a": 1}', "error: json: the benchmark's result has no 'num_prompts'; keys: a\n"),
    ],
)
def test_what_is_no_result(
    name: str,
    text: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_text(text)
    assert run(["bench", "import", name]) == 2
    assert capsys.readouterr().err == message


def test_every_figure_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--explain"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{metric.name} ({metric.unit}" in f"\n{told}" for metric in metrics())
    assert max(map(len, told.splitlines())) <= 120


def test_one_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--explain", "p95_tpot_ms"]) == 0
    assert capsys.readouterr().out == (
        "p95_tpot_ms (ms, lower is better)\n"
        "    the value that 95 % are at or below, of the time per output token: how long a token takes\n"
        "    once the first one is there, on average over one answer. It is what a reader sees as speed;\n"
        "    larger batches make it longer.\n"
    )


def test_a_figure_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "explain", "p95_tpto_ms"]) == 2
    assert capsys.readouterr().err == 'error: unknown metric "p95_tpto_ms"\n  hint: did you mean "p95_tpot_ms"?\n'
