"""The built-in recipe against the guide, and the rules of commands that the guide does not touch."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.errors import InputError, UsageError
from provisioner.fleet.command import last_wins
from provisioner.fleet.recipe_models import Recipe
from provisioner.fleet.recipes import find_recipe, read_recipe, recipe_names, resolve

BF16 = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
FP8 = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
DATA_CENTRE = ["h100", "h200", "b200", "b300", "gb200", "gb300"]
MINIMAL = """\
meta: {slug: tiny, something_new: 1}
model: {model_id: org/tiny}
variants: {default: {precision: bf16}}
"""


def recipe(folder: Path, text: str, name: str = "tiny") -> Recipe:
    file = folder / "models" / "org" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return read_recipe(file)


@pytest.mark.parametrize("hardware", DATA_CENTRE)
def test_the_guides_launch_is_the_default_of_data_centre_gpus(hardware: str) -> None:
    command = resolve(find_recipe("nemotron-3-nano"), variant=None, hardware=hardware, gpu_count=1)
    guide = "--trust-remote-code --async-scheduling --kv-cache-dtype fp8 --tensor-parallel-size 1"
    assert command.argv == (FP8, *guide.split())
    assert command.env == {"VLLM_USE_FLASHINFER_MOE_FP8": "1", "VLLM_FLASHINFER_MOE_BACKEND": "throughput"}
    assert (command.variant, command.precision, command.features) == ("fp8", "fp8", ())
    assert (command.image, command.build) == ("vllm/vllm-openai:v0.12.0", None)


def test_the_guides_launch_with_bf16() -> None:
    command = resolve(find_recipe("nemotron-3-nano"), variant="default", hardware="h200", gpu_count=8)
    guide = "--trust-remote-code --async-scheduling --kv-cache-dtype auto --tensor-parallel-size 1"
    assert command.argv == (BF16, *guide.split())
    assert command.env == {}


def test_the_guides_launch_on_a_spark() -> None:
    command = resolve(find_recipe("nemotron-3-nano"), variant=None, hardware="dgx_spark_gb10", gpu_count=1)
    guide = (
        "--max-num-seqs 8 --tensor-parallel-size 1 --max-model-len 262144 --trust-remote-code "
        "--enable-auto-tool-choice --tool-call-parser qwen3_coder "
        "--reasoning-parser-plugin nano_v3_reasoning_parser.py --reasoning-parser nano_v3"
    )
    assert (command.argv[0], command.variant, command.env) == (BF16, "default", {})
    assert units(command.argv[1:]) == units(guide.split())  # the order of flags means nothing to vLLM
    assert command.features == ("tool_calling", "reasoning")
    assert command.plugin_repo == BF16


def test_the_guides_build_on_a_spark() -> None:
    command = resolve(find_recipe("nemotron-3-nano"), variant=None, hardware="dgx_spark_gb10")
    assert command.image is None
    assert command.build is not None
    assert command.build.model_dump() == {
        "git": "https://github.com/vllm-project/vllm.git",
        "ref": "v0.12.0",
        "dockerfile": "docker/Dockerfile",
        "target": "vllm-openai",
        "args": {
            "max_jobs": "12",
            "RUN_WHEEL_CHECK": "false",
            "CUDA_VERSION": "13.0.1",
            "BUILD_BASE_IMAGE": "nvidia/cuda:13.0.1-devel-ubuntu22.04",
            "torch_cuda_arch_list": "12.1",
        },
    }


def test_parsers_can_be_asked_for_elsewhere() -> None:
    command = resolve(
        find_recipe("nemotron-3-nano"), variant=None, hardware="h200", gpu_count=1, features=["reasoning"]
    )
    plugin = "--reasoning-parser-plugin nano_v3_reasoning_parser.py --reasoning-parser nano_v3"
    assert command.argv[-4:] == tuple(plugin.split())
    assert command.features == ("reasoning",)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("nemotron-3-nano", "fp8"),
        ("nemotron-3-nano-30b-a3b", "fp8"),
        ("Nemotron-3-Nano", "fp8"),
        (BF16, "default"),
        (FP8, "fp8"),
    ],
)
def test_names_of_the_built_in_recipe(name: str, variant: str) -> None:
    found = find_recipe(name)
    assert found.meta.slug == "nemotron-3-nano-30b-a3b"
    assert resolve(found, variant=None, hardware="h200").variant == variant


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find_recipe("nemotron-nano")
    assert str(caught.value) == 'unknown recipe "nemotron-nano"\n  hint: did you mean "nemotron-3-nano"?'


def test_recipes_of_other_folders(tmp_path: Path) -> None:
    recipe(tmp_path, MINIMAL)
    recipe(tmp_path, MINIMAL.replace("tiny", "other").replace("bf16}", "bf16, model_id: org/tiny-fp8}"), "other")
    recipe(tmp_path, MINIMAL.replace("tiny", "tiny-fp8"), "tiny-fp8")
    assert find_recipe("org/tiny", [tmp_path]).meta.slug == "tiny"
    # A checkpoint's own recipe goes before its family's.
    assert find_recipe("org/tiny-fp8", [tmp_path]).meta.slug == "tiny-fp8"
    assert find_recipe("org/other", [tmp_path / "models"]).checkpoint is None
    assert "tiny" in recipe_names([tmp_path])
    with pytest.raises(UsageError, match=r'unknown recipe "nemotron-3-nano"'):
        find_recipe("nemotron-3-nano", [tmp_path], builtin=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a recipe: expected a mapping"),
        ("a: [", "tiny.yaml:1:5: expected the node content"),
        ("meta: {slug: x}\nmodel: {model_id: a/b}\nvariants: {}\n", "variants: Dictionary should have at least 1 item"),
        (MINIMAL + "provision: {alias: x}\n", "provision.alias: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_recipe_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(("there", "size"), [(1, 1), (2, 2), (3, 2), (4, 4), (6, 4), (8, 4), (None, 4)])
def test_parallel_size_never_exceeds_the_gpus(tmp_path: Path, there: int | None, size: int) -> None:
    declared = recipe(tmp_path, MINIMAL.replace("bf16}", "bf16, tp: 4}"))
    command = resolve(declared, variant="default", hardware="h100", gpu_count=there)
    assert command.argv[-2:] == ("--tensor-parallel-size", str(size))
    assert command.parallel_size == size
    assert bool(command.notes) == (size < 4)


@pytest.mark.parametrize(
    ("needs", "hardware", "there", "size"), [(80, "h100", 8, 1), (81, "h100", 8, 8), (81, "h100", 2, 2)]
)
def test_one_gpu_where_it_fits_else_all(tmp_path: Path, needs: int, hardware: str, there: int, size: int) -> None:
    sized = recipe(tmp_path, MINIMAL.replace("bf16}", f"bf16, vram_minimum_gb: {needs}}}"))
    assert resolve(sized, variant="default", hardware=hardware, gpu_count=there).parallel_size == size


def test_the_memory_that_the_recipe_asks_for_is_told() -> None:
    command = resolve(find_recipe("nemotron-3-nano"), variant="fp8", hardware="rtx_5090", gpu_count=1)
    assert (command.needed_gb, command.notes) == (35, ())


def test_fp4_needs_blackwell(tmp_path: Path) -> None:
    both = recipe(tmp_path, MINIMAL.replace("bf16}}", "bf16}, nvfp4: {precision: nvfp4}}"))
    assert resolve(both, variant="nvfp4", hardware="b200").variant == "nvfp4"
    with pytest.raises(UsageError) as caught:
        resolve(both, variant="nvfp4", hardware="h200")
    assert str(caught.value) == (
        "recipe tiny: variant nvfp4 (nvfp4) needs NVIDIA Blackwell; h200 is NVIDIA Hopper\n"
        "  hint: variants that run there: default"
    )


def test_on_hardware_that_stands_alone_the_largest_that_fits(tmp_path: Path) -> None:
    variants = "default: {vram_minimum_gb: 100}, fp8: {vram_minimum_gb: 50}, int4: {vram_minimum_gb: 25}"
    three = recipe(tmp_path, MINIMAL.replace("default: {precision: bf16}", variants))
    assert resolve(three, variant=None, hardware="rtx_pro_6000").variant == "fp8"
    assert resolve(three, variant=None, hardware="rtx_5090").variant == "int4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hardware": "h201"}, 'unknown hardware "h201"\n  hint: did you mean "h200"?'),
        ({"strategy": "single_node_tpp"}, 'unknown strategy "single_node_tpp"\n  hint: did you mean "single_node_tp"?'),
        ({"variant": "fp9"}, 'recipe nemotron-3-nano-30b-a3b has no variant "fp9"\n  hint: did you mean "fp8"?'),
        ({"features": ["reason"]}, 'has no feature "reason"\n  hint: did you mean "reasoning"?'),
    ],
)
def test_what_is_not_there_is_told(change: dict[str, str], message: str) -> None:
    given = {"variant": None, "hardware": "h200", **change}
    with pytest.raises(UsageError) as caught:
        resolve(find_recipe("nemotron-3-nano"), **given)  # type: ignore[arg-type]  # of any kind, to be refused
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("docker_image", "image"),
    [
        ("", "vllm/vllm-openai:latest"),
        ("docker_image: a:1", "a:1"),
        ("docker_image: {amd: b:1}", "vllm/vllm-openai:latest"),
        ("docker_image: {nvidia: a:1}", "a:1"),
        ("docker_image: {cu129: a:129, cu130: a:130}", "a:130"),
        ("docker_image: {nvidia: {cu129: a:129}}", "a:129"),
        ("nightly_required: true", "vllm/vllm-openai:nightly"),
    ],
)
def test_images(tmp_path: Path, docker_image: str, image: str) -> None:
    pinned = recipe(tmp_path, MINIMAL.replace("org/tiny}", f"org/tiny, {docker_image}}}"))
    assert resolve(pinned, variant="default", hardware="h200").image == image


@pytest.mark.parametrize(
    ("args", "left"),
    [
        ("--a 1 --b --a 2", "--b --a 2"),
        ("--a --b 1 --a", "--b 1 --a"),
        ("--a -1 --a -2", "--a -2"),
        ("--a.b=1 --a.b=2", "--a.b=1 --a.b=2"),
        ("-x 1 word -x 2", "word -x 2"),
    ],
)
def test_the_last_of_a_flag_wins(args: str, left: str) -> None:
    assert last_wins(args.split()) == tuple(left.split())


def units(words: tuple[str, ...] | list[str]) -> set[tuple[str, ...]]:
    """Flags with their values, in no order."""
    text = " ".join(words)
    return {tuple(unit.split()) for unit in text.replace(" --", "\n--").splitlines()}
