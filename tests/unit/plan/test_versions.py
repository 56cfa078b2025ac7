from __future__ import annotations

import doctest

import pytest

from provisioner.plan import versions
from provisioner.plan.versions import gate_env, older, version_of

MOE = {"VLLM_USE_FLASHINFER_MOE_FP8": "1", "VLLM_FLASHINFER_MOE_BACKEND": "throughput"}


def test_examples() -> None:
    assert doctest.testmod(versions).attempted > 0
    assert doctest.testmod(versions).failed == 0


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("vllm/vllm-openai:v0.12.0", "0.12.0"),
        ("vllm/vllm-openai:v0.12.0-cu130", "0.12.0"),
        ("vllm/vllm-openai:0.11.2", "0.11.2"),
        ("registry.lan:5000/vllm/vllm-openai:v0.32.0-aarch64", "0.32.0"),
        ("vllm/vllm-openai:v0.12.0@sha256:abc", "0.12.0"),
        ("v0.13.0", "0.13.0"),
        ("v0.13.0rc1", None),
        ("v0.13.0.dev1", "0.13.0"),
        ("main", None),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai", None),
        ("registry.lan:5000/vllm", None),
        ("vllm/vllm-openai@sha256:abc", None),
        ("vllm/vllm-openai:build-0123456789ab", None),
    ],
)
def test_version_of(reference: str, version: str | None) -> None:
    assert version_of(reference) == version


@pytest.mark.parametrize("version", ["0.11.2", "0.12.0", "0.22.9", None])
def test_variables_that_mean_something_stay(version: str | None) -> None:
    assert gate_env(MOE | {"X": "1"}, version) == (MOE | {"X": "1"}, ())


@pytest.mark.parametrize("version", ["0.23.0", "0.32.0", "1.0.0"])
def test_variables_that_mean_nothing_any_more_go_with_a_warning(version: str) -> None:
    assert gate_env({**MOE, "X": "1"}, version) == (
        {"X": "1"},
        (
            f"VLLM_USE_FLASHINFER_MOE_FP8 is left out for vLLM {version}: "
            "vLLM ignores it from 0.23 on (its successor is --moe-backend)",
            f"VLLM_FLASHINFER_MOE_BACKEND is left out for vLLM {version}: "
            "vLLM ignores it from 0.23 on (its successor is --moe-backend)",
        ),
    )


def test_no_warning_without_such_a_variable() -> None:
    assert gate_env({"X": "1"}, "0.32.0") == ({"X": "1"}, ())


@pytest.mark.parametrize(
    ("version", "than", "answer"),
    [
        ("0.9.2", "0.11.2", True),
        ("0.11.2", "0.11.2", False),
        ("0.12.0", "0.11.2", False),
        (None, "0.11.2", False),
        ("0.9.2", None, False),
        ("0.9.2", "nightly", False),
    ],
)
def test_older(version: str | None, than: str | None, answer: bool) -> None:
    assert older(version, than) is answer
