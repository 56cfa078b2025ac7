"""The simulated engine takes what vLLM 0.12.0 takes and refuses what it refuses."""

from __future__ import annotations

import argparse

import pytest

from provisioner.lab.sim.arguments import human_int, parse
from provisioner.plan.helptext import flags_of

GUIDE_SERVE = (
    "serve nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 --max-num-seqs 8 --tensor-parallel-size 1 "
    "--max-model-len 262144 --port 8000 --trust-remote-code --enable-auto-tool-choice "
    "--tool-call-parser qwen3_coder --reasoning-parser-plugin nano_v3_reasoning_parser.py --reasoning-parser nano_v3"
)
GUIDE_BENCH = (
    "bench serve --host 0.0.0.0 --port 8000 --model nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 --trust-remote-code "
    "--dataset-name random --random-input-len 1024 --random-output-len 1024 --num-warmups 20 --ignore-eos "
    "--max-concurrency 1024 --num-prompts 2048 --save-result --result-filename vllm_benchmark_serving_results.json"
)


def test_the_guides_launch_command() -> None:
    options = parse(GUIDE_SERVE.split())
    assert options.command == "serve"
    assert options.model_tag == "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
    assert (options.max_num_seqs, options.max_model_len, options.port) == (8, 262144, 8000)
    assert (options.enable_auto_tool_choice, options.trust_remote_code, options.reasoning_parser) == (
        True,
        True,
        "nano_v3",
    )


def test_the_guides_benchmark_command() -> None:
    options = parse(GUIDE_BENCH.split())
    assert options.command == "bench serve"
    assert (options.num_prompts, options.max_concurrency, options.num_warmups) == (2048, 1024, 20)
    assert (options.ignore_eos, options.save_result, options.ready_check_timeout_sec) == (True, True, 600)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("serve m --foo", "vllm: error: unrecognized arguments: --foo"),
        ("serve m --moe-backend flashinfer", "vllm: error: unrecognized arguments: --moe-backend flashinfer"),
        (
            "serve m --mamba-ssm-cache-dtype float16",
            "vllm serve: error: argument --mamba-ssm-cache-dtype: invalid choice: 'float16'",
        ),
        ("serve m --port high", "vllm serve: error: argument --port: invalid int value: 'high'"),
        ("serve m --kv-cache", "vllm: error: unrecognized arguments: --kv-cache"),
        ("bench serve --num-gpus 1", "vllm: error: unrecognized arguments: --num-gpus 1"),
    ],
)
def test_bad_command_lines_exit_2(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(line.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == "0.12.0\n"


def test_no_forms_underscores_and_lists() -> None:
    options = parse(["serve", "m", "--no-enable-log-requests", "--max_model_len=4k", "--served-model-name", "a", "b"])
    assert (options.enable_log_requests, options.max_model_len, options.served_model_name) == (False, 4000, ["a", "b"])


@pytest.mark.parametrize(
    ("text", "value"), [("2048", 2048), ("4k", 4000), ("4K", 4096), ("1.5k", 1500), ("1M", 1 << 20)]
)
def test_human_numbers(text: str, value: int) -> None:
    assert human_int(text) == value


@pytest.mark.parametrize("text", ["", "-1", "4kk", "1.5K", "auto"])
def test_not_so_human_numbers(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        human_int(text)


def test_the_table_maker_reads_every_form() -> None:
    text = """options:
  --plain VALUE         Words. (default:
                        None)
  --switch              Words (default: 7) and more. (default: False)
  --yes, --no-yes       Words. (default: True)
  --many MANY [MANY ...]
                        Words. (default: [])
  --maybe [MAYBE], -m [MAYBE]
                        Words.
  --pick {a,b}          Words. (default: a)
  --parser {x,y} or name registered in --parser-plugin
                        Words.
  -h, --help            show this help message and exit
"""
    assert flags_of(text) == [
        {"names": ["--plain"], "kind": "value"},
        {"names": ["--switch"], "kind": "switch", "default": "False"},
        {"names": ["--yes", "--no-yes"], "kind": "boolean", "default": "True"},
        {"names": ["--many"], "kind": "list", "default": "[]"},
        {"names": ["--maybe", "-m"], "kind": "optional"},
        {"names": ["--pick"], "kind": "value", "choices": ["a", "b"], "default": "a"},
        {"names": ["--parser"], "kind": "value"},
        {"names": ["-h", "--help"], "kind": "switch"},
    ]
