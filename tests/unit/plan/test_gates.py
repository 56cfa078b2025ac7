"""Arguments against vLLM versions: the guide's two releases, the newest ones, those in between and unknown ones."""

from __future__ import annotations

import pytest

from provisioner.plan.gates import check_arguments

MODEL = "nvidia/Nano"
GUIDE = (
    "--trust-remote-code --async-scheduling --kv-cache-dtype fp8 --tensor-parallel-size 1 --max-num-seqs 8 "
    "--max-model-len 262144 --host 127.0.0.1 --port 8000 --enable-auto-tool-choice --tool-call-parser qwen3_coder "
    "--reasoning-parser-plugin nano_v3_reasoning_parser.py --reasoning-parser nano_v3 --mamba-ssm-cache-dtype float32"
)
GUIDE_BENCH = (
    "--host 0.0.0.0 --port 8000 --model nvidia/Nano --trust-remote-code --dataset-name random --random-input-len 1024 "
    "--random-output-len 1024 --num-warmups 20 --ignore-eos --max-concurrency 1024 --num-prompts 2048 --save-result "
    "--result-filename results.json"
)
VERSIONS = ("0.11.2", "0.12.0", "0.13.0", "0.17.1", "0.20.0", "0.32.0", "0.33.0", "0.40.0", None)


def errors(words: str, version: str | None) -> tuple[str, ...]:
    return check_arguments("serve", (MODEL, *words.split()), version).errors


def warnings(words: str, version: str | None) -> tuple[str, ...]:
    return check_arguments("serve", (MODEL, *words.split()), version).warnings


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guides_launch_is_fine_everywhere(version: str | None) -> None:
    assert errors(GUIDE, version) == ()
    known = "--reasoning-parser nemotron_v3 is built into vLLM"
    assert [text for text in warnings(GUIDE, version) if not text.startswith(known)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guides_benchmark_is_fine_everywhere(version: str | None) -> None:
    found = check_arguments("bench serve", tuple(GUIDE_BENCH.split()), version)
    assert (found.errors, found.warnings) == ((), ())


@pytest.mark.parametrize(
    ("words", "version", "message"),
    [
        (
            "--disable-log-requests",
            "0.32.0",
            "vLLM 0.32.0 does not have --disable-log-requests (vLLM 0.11.2 to 0.14.1, 0.33.0 has); "
            "use instead: --no-enable-log-requests",
        ),
        (
            "--swap-space 4",
            "0.33.0",
            "vLLM 0.33.0 does not have --swap-space (vLLM 0.11.2 to 0.17.1 has); use instead: leave it out",
        ),
        (
            "--task generate",
            "0.13.0",
            "vLLM 0.13.0 does not have --task (vLLM 0.11.2 to 0.12.0 has); use instead: --runner and --convert",
        ),
        (
            "--cuda-graph-sizes 8 16",
            "0.32.0",
            "vLLM 0.32.0 does not have --cuda-graph-sizes (vLLM 0.11.2 to 0.12.0 has); "
            "use instead: --cudagraph-capture-sizes",
        ),
        ("--moe-backend triton", "0.12.0", "vLLM 0.12.0 does not have --moe-backend (vLLM 0.17.1 to 0.33.0 has)"),
        (
            "--optimization-level 3",
            "0.11.2",
            "vLLM 0.11.2 does not have --optimization-level (vLLM 0.12.0 to 0.33.0 has)",
        ),
        ("--max-num-seq 8", "0.12.0", 'vLLM 0.12.0 does not have --max-num-seq; did you mean "--max-num-seqs"?'),
        ("--zzz", "0.12.1", "vLLM 0.12.1 does not have --zzz, nor does any other version known here"),
        (
            "--mamba-ssm-cache-dtype float16",
            "0.12.0",
            '--mamba-ssm-cache-dtype float16: vLLM 0.12.0 does not take that; did you mean "float32"?',
        ),
        (
            "--mamba-ssm-cache-dtype float16",
            "0.11.2",
            "vLLM 0.11.2 does not have --mamba-ssm-cache-dtype float16 (vLLM 0.13.0 has)",
        ),
        (
            "--mamba-ssm-cache-dtype bfloat16",
            "0.17.1",
            "vLLM 0.17.1 does not have --mamba-ssm-cache-dtype bfloat16 (vLLM 0.22.1 has)",
        ),
        (
            "--kv-cache-dtype nvfp4",
            "0.12.0",
            "--kv-cache-dtype nvfp4: vLLM 0.12.0 does not take that; "
            "it takes auto, bfloat16, fp8, fp8_ds_mla, fp8_e4m3, fp8_e5m2, fp8_inc",
        ),
        (
            "--reasoning-parser nemotron_v3",
            "0.12.0",
            "vLLM 0.12.0 does not have --reasoning-parser nemotron_v3 (vLLM 0.17.1 has)",
        ),
        (
            "--reasoning-parser nano_v3",
            "0.12.0",
            "--reasoning-parser nano_v3 needs --reasoning-parser-plugin: "
            "the parser is a file of the model's repository (nano_v3_reasoning_parser.py)",
        ),
        (
            "--reasoning-parser nano_v3",
            "0.32.0",
            "--reasoning-parser nano_v3 needs --reasoning-parser-plugin: the parser is a file of the model's "
            "repository (nano_v3_reasoning_parser.py); vLLM 0.32.0 has nemotron_v3 built in",
        ),
        ("--max-num-seqs", "0.12.0", "--max-num-seqs needs a value"),
        ("--max-num-seqs 8 9", "0.12.0", "--max-num-seqs takes one value: what is '9' after it?"),
        ("--trust-remote-code yes", "0.33.0", "--trust-remote-code takes no value: what is 'yes' after it?"),
    ],
)
def test_what_a_version_would_refuse(words: str, version: str, message: str) -> None:
    assert errors(words, version) == (message,)


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ("--disable-log-requests", "0.12.0"),
        ("--swap-space 4", "0.12.0"),
        ("--max_num_seqs 8", "0.12.0"),
        ("--max-num-seqs=8", "0.12.0"),
        ("--cuda-graph-sizes 8 16", "0.12.0"),
        ("-O3", "0.12.0"),
        ("-O.mode=3", "0.11.2"),
        ("--compilation-config.mode 3", "0.32.0"),
        ("--attention_config.backend FLASHINFER", "0.32.0"),
        ("--no-async-scheduling", "0.17.1"),
        ("--no-enable-prefix-caching", "0.32.0"),
        ("--mamba-ssm-cache-dtype float16", "0.13.0"),
        ("--hf-overrides {}", "0.33.0"),
        ("--seed -1", "0.12.0"),
    ],
)
def test_what_a_version_takes(words: str, version: str) -> None:
    found = check_arguments("serve", (MODEL, *words.split()), version)
    assert (found.errors, found.warnings) == ((), ())


@pytest.mark.parametrize(
    ("words", "version", "message"),
    [
        # Between two tables that disagree.
        (
            "--swap-space 4",
            "0.20.0",
            "it is not known whether vLLM 0.20.0 has --swap-space (vLLM 0.11.2 to 0.17.1 has)",
        ),
        (
            "--mamba-ssm-cache-dtype bfloat16",
            "0.20.0",
            "it is not known whether vLLM 0.20.0 has --mamba-ssm-cache-dtype bfloat16 (0.17.1 has not, 0.22.1 has)",
        ),
        # Newer than every table, and unknown.
        (
            "--max-num-seq 8",
            "0.40.0",
            'it is not known whether vLLM 0.40.0 has --max-num-seq (did you mean "--max-num-seqs"?)',
        ),
        (
            "--task generate",
            None,
            "it is not known whether this vLLM, whose version its name does not tell, has --task "
            "(vLLM 0.11.2 to 0.12.0 has)",
        ),
        # 0.33's help shows the negative of --enable-… as --disable-… alone.
        (
            "--no-enable-flashinfer-autotune",
            "0.33.0",
            "it is not known whether vLLM 0.33.0 has --no-enable-flashinfer-autotune (vLLM 0.32.0 has)",
        ),
    ],
)
def test_what_is_not_known_is_a_warning(words: str, version: str | None, message: str) -> None:
    found = check_arguments("serve", (MODEL, *words.split()), version)
    assert (found.errors, found.warnings) == ((), (message,))


def test_benchmark_flags_have_gates_too() -> None:
    found = check_arguments("bench serve", ("--common-prefix-len", "8"), "0.12.0")
    assert found.errors == ("vLLM 0.12.0 does not have --common-prefix-len (bench serve) (vLLM 0.13.0 has)",)
    assert check_arguments("bench serve", ("--ready-check-timeout-sec", "600"), "0.12.0").errors == ()


def test_all_errors_are_told_at_once() -> None:
    assert len(errors("--task generate --swap-space 4 --max-num-seqs", "0.32.0")) == 3
