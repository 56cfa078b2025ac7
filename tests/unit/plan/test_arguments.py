"""A server's settings on the command line, and the two that the guide says not to tune."""

from __future__ import annotations

from typing import Any

import builders
import pytest

from provisioner.errors import UsageError
from provisioner.fleet.recipes import Command, resolve
from provisioner.plan import flags
from provisioner.plan.arguments import server_argv, untuned
from provisioner.plan.plugins import plugin_names

RECIPE = builders.recipes()[builders.RECIPE]
PLUGIN = "nano_v3_reasoning_parser.py"


def command(hardware: str = "h200", **choice: Any) -> Command:
    return resolve(RECIPE, **({"variant": None, "hardware": hardware, "gpu_count": 1} | choice))


def argv(hardware: str = "h200", features: tuple[str, ...] = (), **settings: Any) -> tuple[str, ...]:
    made = command(hardware, features=features)
    return server_argv(builders.server(features=features, **settings), made)


@pytest.mark.parametrize(
    ("settings", "flag", "value"),
    [
        ({"max_num_seqs": 64}, "--max-num-seqs", "64"),
        ({"max_model_len": 4096}, "--max-model-len", "4096"),
        ({"gpu_memory_utilization": 0.7}, "--gpu-memory-utilization", "0.7"),
        ({"mamba_ssm_cache_dtype": "float32"}, "--mamba-ssm-cache-dtype", "float32"),
        ({"tool_call_parser": "qwen3_coder"}, "--tool-call-parser", "qwen3_coder"),
        ({"reasoning_parser": "nano_v3"}, "--reasoning-parser", "nano_v3"),
        ({"reasoning_parser_plugin": PLUGIN}, "--reasoning-parser-plugin", PLUGIN),
        ({"enable_auto_tool_choice": True}, "--enable-auto-tool-choice", ""),
        ({"trust_remote_code": True}, "--trust-remote-code", ""),
        ({"trust_remote_code": False}, "--trust-remote-code", None),
        ({}, "--trust-remote-code", ""),
    ],
)
def test_settings_become_flags(settings: dict[str, Any], flag: str, value: str | None) -> None:
    assert flags.value_of(argv(**settings), flag) == value


def test_a_feature_can_be_turned_off_in_part() -> None:
    made = argv(features=("tool_calling",), enable_auto_tool_choice=False)
    assert "--enable-auto-tool-choice" not in made
    assert flags.value_of(made, "--tool-call-parser") == "qwen3_coder"


def test_another_parser_needs_no_plugin_of_the_recipe() -> None:
    made = argv(features=("reasoning",), reasoning_parser="nemotron_v3")
    assert flags.value_of(made, "--reasoning-parser") == "nemotron_v3"
    assert flags.value_of(made, "--reasoning-parser-plugin") is None
    own = argv(features=("reasoning",), reasoning_parser="mine", reasoning_parser_plugin="/plugins/mine.py")
    assert flags.value_of(own, "--reasoning-parser-plugin") == "/plugins/mine.py"
    assert flags.value_of(argv(features=("reasoning",)), "--reasoning-parser-plugin") == PLUGIN


KV = "--kv-cache-dtype: auto, where fp8 is recommended (the guide: fp8 with the FP8 model, otherwise auto)"
ASYNC = (
    "--async-scheduling: false, where true is recommended "
    "(the guide: always on, as it hides the host's work between decoding steps)"
)


@pytest.mark.parametrize(
    ("hardware", "settings", "found"),
    [
        ("h200", {}, ()),
        ("h200", {"kv_cache_dtype": "fp8", "async_scheduling": True}, ()),
        ("h200", {"kv_cache_dtype": "auto"}, (KV,)),
        ("h200", {"extra_args": ("--kv-cache-dtype=auto",)}, (KV,)),
        ("h200", {"async_scheduling": False}, (ASYNC,)),
        ("h200", {"extra_args": ("--no-async-scheduling",)}, (ASYNC,)),
        ("h200", {"kv_cache_dtype": "auto", "async_scheduling": False}, (KV, ASYNC)),
        # The guide's own Spark launch leaves both out: that is no tuning.
        ("dgx_spark_gb10", {}, ()),
        ("dgx_spark_gb10", {"async_scheduling": True, "kv_cache_dtype": "auto"}, ()),
        ("dgx_spark_gb10", {"async_scheduling": False}, (ASYNC,)),
    ],
)
def test_what_should_not_be_tuned(hardware: str, settings: dict[str, Any], found: tuple[str, ...]) -> None:
    made = command(hardware)
    assert untuned(RECIPE, made, server_argv(builders.server(**settings), made)) == found


def test_such_warnings_are_the_plans() -> None:
    assert builders.plan(builders.fleet(builders.server(kv_cache_dtype="auto"))).warnings == (f"nemotron: {KV}",)


def test_what_vllm_would_refuse_stops_the_plan_with_every_reason() -> None:
    server = builders.server(
        extra_args=("--moe-backend", "triton"),
        mamba_ssm_cache_dtype="float16",
        benchmark={"extra_args": ("--no-such",)},
    )
    with pytest.raises(UsageError) as caught:
        builders.plan(builders.fleet(server))
    assert str(caught.value).splitlines() == [
        "gpu-01: server nemotron: --mamba-ssm-cache-dtype float16: vLLM 0.12.0 does not take that; "
        'did you mean "float32"?',
        "gpu-01: server nemotron: vLLM 0.12.0 does not have --moe-backend (vLLM 0.17.1 to 0.33.0 has)",
        'gpu-01: server nemotron: vLLM 0.12.0 does not have --no-such (bench serve); did you mean "--no-stream"?',
    ]


def test_ipc_of_the_container() -> None:
    made = builders.plan(builders.fleet(builders.server(ipc="private"))).servers[0].docker_argv
    assert flags.value_of(made, "--ipc") == "private"
    assert flags.value_of(builders.plan().servers[0].docker_argv, "--ipc") == "host"


def test_the_probe_looks_for_every_plugin_that_may_be_needed() -> None:
    assert plugin_names(builders.server(), RECIPE) == (PLUGIN,)
    assert plugin_names(builders.server(reasoning_parser_plugin="mine.py"), RECIPE) == (PLUGIN, "mine.py")
    assert plugin_names(builders.server(reasoning_parser_plugin="/plugins/mine.py"), RECIPE) == (PLUGIN,)
    assert plugin_names(builders.server(extra_args=("--reasoning-parser-plugin=own.py",)), RECIPE) == (PLUGIN, "own.py")
