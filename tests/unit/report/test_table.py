from __future__ import annotations

from typing import Any

from rich.console import Console

from provisioner.history.verdict import BenchmarkResult, ImageSeen, Latency, ServerVerdict
from provisioner.report.table import COLUMNS, HISTORY, as_data, lines, row, table
from provisioner.report.terminal import failures
from provisioner.report.words import engine_label

WITHOUT_HISTORY = tuple(name for name in COLUMNS if name != HISTORY)
BENCH = BenchmarkResult(
    num_prompts=20,
    completed=20,
    failed=0,
    duration_s=1.5,
    total_input_tokens=641,
    total_output_tokens=320,
    request_throughput=12.6,
    output_throughput=15828.3,
    total_token_throughput=31656.63,
    ttft=Latency(mean_ms=4490.58, median_ms=1534.84, p99_ms=15465.31),
    tpot=Latency(mean_ms=59.45, median_ms=61.04, p99_ms=63.01),
    itl=Latency(mean_ms=59.45, median_ms=5.275, p99_ms=131.46),
    raw={"extra": [1, 2]},
)


def image(engine: str | None = None, digest: str | None = "sha256:" + "d" * 64, build: str | None = None) -> ImageSeen:
    return ImageSeen(
        reference="vllm/vllm-openai:v0.12.0", id="sha256:" + "a" * 64, digest=digest, engine=engine, build=build
    )


def verdict(**changes: Any) -> ServerVerdict:
    values: dict[str, Any] = {
        "host": "gpu-01",
        "server": "nemotron",
        "platform": "linux/amd64",
        "hardware": "h200",
        "hardware_name": "2 × NVIDIA H200",
        "gpu_count": 2,
        "simulated": False,
        "image": image(),
        "variant": "fp8",
        "precision": "fp8",
        "model": "nvidia/Tiny",
        "endpoint": "http://127.0.0.1:8000",
        "version": "0.12.0",
        "benchmark": BENCH,
        "passed": True,
    }
    return ServerVerdict(**{**values, **changes})


def failed() -> ServerVerdict:
    return verdict(
        host="[b]",
        benchmark=None,
        image=None,
        passed=False,
        reasons=("vllm-nemotron.service is not healthy",),
        log="one\ntwo",
        exit_code=1,
    )


def test_a_row_has_everything() -> None:
    assert row(verdict()) == {
        "host": "gpu-01",
        "server": "nemotron",
        "hardware": "2 × NVIDIA H200",
        "image": "dddddddddddd",
        "engine": "vLLM 0.12.0",
        "variant": "fp8",
        "output tok/s": "15828",
        "history": "",
        "total tok/s": "31657",
        "per GPU": "7914",
        "TTFT ms": "1535 / 15465",
        "TPOT ms": "61.0 / 63.0",
        "ITL ms": "5.28 / 131.5",
        "verdict": "passed",
    }


def test_stand_ins_are_named_wherever_they_show() -> None:
    stand_in = verdict(simulated=True, image=image("sim", digest=None), version="0.32.0")
    cells = row(stand_in)
    assert cells["hardware"] == "2 × NVIDIA H200 (simulated GPU)"
    assert cells["engine"] == "sim engine 0.32.0"
    assert cells["image"] == "aaaaaaaaaaaa"
    console = Console(width=240, color_system=None)
    with console.capture() as capture:
        console.print(table([stand_in]))
    for text in (capture.get(), "\n".join(lines([stand_in])), str(as_data(stand_in))):
        assert "simulated GPU" in text
        assert "sim engine" in text


def test_engines() -> None:
    assert engine_label(verdict(image=image("vllm", build="cpu"))) == "vLLM 0.12.0 (CPU build)"
    assert engine_label(verdict(image=image("other"))) == "other (stand-in) 0.12.0"
    assert engine_label(verdict(image=None)) == "–"
    assert engine_label(verdict(version=None)) == "vLLM"


def test_the_table_shows_every_cell_and_takes_no_markup_from_hosts() -> None:
    console = Console(width=240, color_system=None)
    with console.capture() as capture:
        console.print(table([verdict(), failed()]))
    text = capture.get()
    for cell in (*WITHOUT_HISTORY, *row(verdict()).values(), "[b]", "FAILED"):
        assert cell in text


def test_a_history_is_a_column_where_there_is_one() -> None:
    history = {("gpu-01", "nemotron"): (15000.0, 15900.0, 15828.3)}
    assert row(verdict(), history)[HISTORY] == "▄▅▅"
    assert row(verdict(benchmark=None), history)[HISTORY] == ""  # nothing of this run would be its last figure
    console = Console(width=240, color_system=None)
    with console.capture() as capture:
        console.print(table([verdict(), failed()], history))
    for text in (capture.get(), "\n".join(lines([verdict(), failed()], history))):
        assert "▄▅▅" in text
        assert "history" in text
        assert "TTFT, TPOT, ITL: median / P99; history: output tok/s of the server's benchmarks, this one last" in text


def test_plain_lines_are_aligned() -> None:
    head, first, second, caption = lines([verdict(), failed()])
    assert head.split() == " ".join(WITHOUT_HISTORY).split()
    assert first.index("passed") == second.index("FAILED") == head.index("verdict")
    assert first.index("15828") + len("15828") == head.index("output tok/s") + len("output tok/s")
    assert caption == "TTFT, TPOT, ITL: median / P99"


def test_failures_say_why_with_the_log() -> None:
    assert failures([verdict(), failed()]) == [
        "[b], nemotron: vllm-nemotron.service is not healthy",
        "    one",
        "    two",
    ]


def test_data_has_everything() -> None:
    data = as_data(verdict())
    assert data["benchmark"]["raw"] == {"extra": [1, 2]}
    assert data["output_per_gpu"] == 15828.3 / 2
    assert as_data(failed())["reasons"] == ["vllm-nemotron.service is not healthy"]
