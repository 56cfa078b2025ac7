"""`provision recipe`: what it prints, and that a catalogue's lines come out of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from provisioner.cli.main import run
from provisioner.errors import Exit

CATALOGUE = os.environ.get("PROVISION_RECIPES")
RECIPE = """\
meta: {slug: tiny, title: Tiny}
model: {model_id: org/Tiny, base_args: [--trust-remote-code, --swap-space, 4], docker_image: vllm/vllm-openai:v0.32.0}
variants: {default: {precision: bf16, vram_minimum_gb: 8}}
"""


@pytest.fixture(autouse=True)
def _no_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROVISION_RECIPES", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "Tiny.yaml").write_text(RECIPE)
    return tmp_path


def test_list(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(["recipe", "list", "--recipes", str(folder)]) == 0
    assert capsys.readouterr().out == (
        "org/Tiny                                    default\n"
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16  default, fp8, nvfp4\n"
    )


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["variants"] == ["default", "fp8", "nvfp4"]
    assert "nemotron-3-nano" in row["names"]


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "show", "nemotron-3-nano"]) == 0
    out = capsys.readouterr().out
    assert "  fp8: fp8, nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8, 35.0 GB" in out
    assert "  reasoning (on request): " in out
    assert "  --kv-cache-dtype: the guide: fp8 with the FP8 model, otherwise auto" in out
    assert run(["recipe", "show", "nemotron-3-nano", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["model_id"] == "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "command", "nemotron-3-nano", "--hardware", "h200"]) == 0
    assert capsys.readouterr().out == (
        "# image: vllm/vllm-openai:v0.12.0\n"
        "export VLLM_USE_FLASHINFER_MOE_FP8=1\n"
        "export VLLM_FLASHINFER_MOE_BACKEND=throughput\n"
        "vllm serve nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 --trust-remote-code --async-scheduling "
        "--kv-cache-dtype fp8 --tensor-parallel-size 1\n"
    )


def test_command_of_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "command", "nemotron-3-nano", "--hardware", "dgx_spark_gb10", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["image"] is None
    assert made["build"]["args"]["torch_cuda_arch_list"] == "12.1"
    assert (made["vllm_version"], made["problems"], made["notes"]) == ("0.12.0", [], [])


def test_command_says_what_its_image_would_refuse(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(["recipe", "command", "org/Tiny", "--hardware", "h200", "--recipes", str(folder)]) == 0
    assert "# problem: vLLM 0.32.0 does not have --swap-space" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["show", "nemotron-3-nan"],
            'error: unknown recipe "nemotron-3-nan"\n  hint: did you mean "nemotron-3-nano"?\n',
        ),
        (
            ["command", "nemotron-3-nano", "--hardware", "h20"],
            'error: unknown hardware "h20"\n  hint: did you mean "h200"?\n',
        ),
        (
            ["command", "nemotron-3-nano", "--hardware", "h200", "--variant", "fp16"],
            'error: recipe nemotron-3-nano-30b-a3b has no variant "fp16"\n  hint: known: default, fp8, nvfp4\n',
        ),
        (["list", "--recipes", "nowhere"], "error: --recipes: no such folder: nowhere\n"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert run(["recipe", *words]) == Exit.BAD_INPUT
    assert capsys.readouterr().err == message


@pytest.mark.skipif(CATALOGUE is None, reason="PROVISION_RECIPES is not set to a catalogue with expected.jsonl")
def test_every_line_of_a_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    for line in Path(str(CATALOGUE), "expected.jsonl").read_text(encoding="utf-8").splitlines():
        wanted = json.loads(line)
        words = [wanted["hf_id"], "--json", "--recipes", str(CATALOGUE)]
        words += [word for key in ("variant", "hardware", "strategy") for word in (f"--{key}", wanted[key])]
        assert run(["recipe", "command", *words]) == 0, wanted
        made = json.loads(capsys.readouterr().out)
        assert (made["argv"], made["image"]) == (wanted["argv"], wanted["image"])
        assert made["env"] == {key: str(value) for key, value in wanted["env"].items()}
