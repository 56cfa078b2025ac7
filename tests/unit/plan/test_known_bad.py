"""Known-bad combinations and CUDA lines: what preflight refuses, what it only says, and how one accepts it."""

from __future__ import annotations

import doctest
from typing import Any

import builders
import pytest

from provisioner.errors import UsageError
from provisioner.plan import known_bad
from provisioner.plan.cuda import cuda_of
from provisioner.plan.facts import Facts
from provisioner.plan.known_bad import Entry, Situation, entries, in_range, matching
from provisioner.plan.model import BuildSource, Image
from provisioner.plan.preflight import obstacles
from provisioner.plan.versions import version_of

TOOLKIT = (
    "known bad: hosts with it and CDI freeze under vLLM until they are power-cycled; install NVIDIA container toolkit "
    "1.19.0 and use its legacy mode (https://github.com/NVIDIA/nvidia-container-toolkit/issues/1910 (cause not "
    "isolated)); to accept it: allow_known_bad: [gb10-toolkit-1.19.1]"
)


def situation(**changes: Any) -> Situation:
    values: dict[str, Any] = {
        "hardware": "dgx_spark_gb10",
        "kernel": "6.17.0-1032-nvidia",
        "driver": "580.95.05",
        "toolkit": "1.19.0",
        "vllm": "0.12.0",
        "gpu_memory_utilization": 0.7,
    }
    return Situation(**(values | changes))


def ids(**changes: Any) -> list[str]:
    return [entry.id for entry in matching(situation(**changes))]


def test_examples() -> None:
    assert doctest.testmod(known_bad).attempted > 0
    assert doctest.testmod(known_bad).failed == 0


def test_every_entry_has_a_source_and_an_id_of_its_own() -> None:
    assert len({entry.id for entry in entries()}) == len(entries()) >= 3
    assert all(entry.source.startswith("https://") for entry in entries())


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"toolkit": "1.19.1"}, ["gb10-toolkit-1.19.1"]),
        ({"toolkit": "1.19.1", "hardware": "h200"}, []),
        ({"toolkit": "1.19.10"}, []),
        ({"toolkit": None}, []),
        ({"kernel": "7.0.0-1019-nvidia"}, ["gb10-kernel-7.0.0-1019"]),
        ({"kernel": "7.0.0-1019-nvidia-64k"}, ["gb10-kernel-7.0.0-1019"]),
        ({"kernel": "7.0.0-1020-nvidia"}, []),
        ({"gpu_memory_utilization": 0.71}, ["gb10-memory-utilization"]),
        ({"gpu_memory_utilization": 0.9, "hardware": "h200"}, []),
    ],
)
def test_what_applies(changes: dict[str, Any], found: list[str]) -> None:
    assert ids(**changes) == found


def test_all_that_an_entry_names_must_be_so() -> None:
    entry = Entry(
        id="x", severity="error", effect="e", hint="h", source="s", driver=">=570, <580.65", vllm="<0.13", kernel="6.*"
    )
    there = situation(driver="575.1", vllm="0.12.0", kernel="6.8.0")
    assert matching(there, among=[entry]) == [entry]
    for other in ({"driver": "580.65"}, {"driver": None}, {"vllm": "0.13.0"}, {"vllm": None}, {"kernel": "5.15"}):
        assert matching(there.model_copy(update=other), among=[entry]) == []


def test_a_range_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"not a range of versions: '1\.19'"):
        in_range("1.19", "1.19")


def test_accepting_what_does_not_exist() -> None:
    with pytest.raises(UsageError) as caught:
        matching(situation(), ["gb10-toolkit"])
    assert str(caught.value) == (
        'allow_known_bad: there is no entry "gb10-toolkit"\n  hint: did you mean "gb10-toolkit-1.19.1"?'
    )


def spark(**seen: Any) -> Facts:
    return builders.spark(memory_mib=124546, toolkit_version="1.19.1", **seen)


@pytest.mark.parametrize(("allowed", "problems"), [((), (TOOLKIT,)), (("gb10-toolkit-1.19.1",), ())])
def test_preflight_refuses_unless_told_otherwise(allowed: tuple[str, ...], problems: tuple[str, ...]) -> None:
    server = builders.server(gpu_memory_utilization=0.7, allow_known_bad=allowed)
    fleet = builders.fleet(server, hosts=("spark-01",))
    plan = builders.plan(fleet, spark())
    assert obstacles(plan, spark(), fleet.servers) == problems


def test_two_servers_have_the_same_problem_once() -> None:
    settings = {"gpu_memory_utilization": 0.3, "allow_known_bad": ("fit",)}
    servers = [builders.server(name, port=8000 + n, **settings) for n, name in enumerate("ab")]
    plan = builders.plan(builders.fleet(*servers, hosts=("spark-01",)), spark())
    assert obstacles(plan, spark(), servers) == (TOOLKIT,)


def test_a_warning_is_said_and_can_be_silenced() -> None:
    kernel = builders.spark(kernel="7.0.0-1019-nvidia")
    loud = builders.plan(builders.fleet(builders.server(gpu_memory_utilization=0.7), hosts=("spark-01",)), kernel)
    assert len(loud.warnings) == 1
    assert loud.warnings[0].startswith("nemotron: known bad: RDMA memory registration fails")
    assert obstacles(loud, kernel) == ()
    quiet = builders.server(gpu_memory_utilization=0.7, allow_known_bad=("gb10-kernel-7.0.0-1019",))
    assert builders.plan(builders.fleet(quiet, hosts=("spark-01",)), kernel).warnings == ()


def image(reference: str, **build_args: str) -> Image:
    build = BuildSource(git="g", ref="v0.12.0", dockerfile="d", target="t", args=build_args) if build_args else None
    version = "0.12.0" if build else version_of(reference)
    return Image(reference=reference, platform="linux/amd64", build=build, vllm_version=version)


@pytest.mark.parametrize(
    ("reference", "cuda"),
    [
        ("vllm/vllm-openai:v0.12.0", "12"),
        ("vllm/vllm-openai:v0.12.0-cu130", "13.0"),
        ("vllm/vllm-openai:v0.19.1", "12"),
        ("vllm/vllm-openai:v0.20.0", "13.0"),
        ("vllm/vllm-openai:v0.20.0-cu129", "12.9"),
        ("vllm/vllm-openai:v0.32.0-aarch64", "13.0"),
        ("registry.lan:5000/vllm/vllm-openai:v0.32.0", "13.0"),
        ("vllm/vllm-openai:v0.32.0@sha256:" + "a" * 64, "13.0"),
        ("vllm/vllm-openai:latest", "13.0"),
        ("vllm/vllm-openai:cu129-nightly", "12.9"),
        ("vllm/vllm-openai:cu128-nightly", "12.8"),
        ("vllm/vllm-openai:mine", None),
        ("registry.lan/other:v0.32.0", None),
        ("vllm/vllm-openai", None),
    ],
)
def test_cuda_of_a_tag(reference: str, cuda: str | None) -> None:
    assert cuda_of(image(reference)) == cuda


def test_cuda_of_a_build() -> None:
    assert cuda_of(image("vllm/vllm-openai:build-1", CUDA_VERSION="13.0.1")) == "13.0.1"
    assert cuda_of(image("vllm/vllm-openai:build-1", max_jobs="1")) is None


def problems(reference: str, driver: str | None, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
    settings = {"image": {"default": {"pull": reference}}, "allow_known_bad": allowed}
    fleet = builders.fleet(builders.server(**settings))
    seen = builders.facts(driver_version=driver)
    return obstacles(builders.plan(fleet, seen), seen, fleet.servers)


def test_an_image_that_the_driver_does_not_run() -> None:
    assert problems("vllm/vllm-openai:v0.32.0", "570.133.20") == (
        "vllm/vllm-openai:v0.32.0 holds CUDA 13.0, which needs driver 580 or newer; the host has 570.133.20: update "
        "the driver, or use vllm/vllm-openai:v0.32.0-cu129, which holds CUDA 12; "
        "to try all the same: allow_known_bad: [cuda-driver]",
    )
    assert problems("vllm/vllm-openai:v0.12.0-cu130", "570.133.20") == (
        "vllm/vllm-openai:v0.12.0-cu130 holds CUDA 13.0, which needs driver 580 or newer; the host has 570.133.20: "
        "update the driver, or use vllm/vllm-openai:v0.12.0, which holds CUDA 12; "
        "to try all the same: allow_known_bad: [cuda-driver]",
    )


@pytest.mark.parametrize(
    ("reference", "driver"),
    [
        ("vllm/vllm-openai:v0.32.0", "580.65.06"),
        ("vllm/vllm-openai:v0.32.0", None),
        ("vllm/vllm-openai:v0.32.0-cu129", "570.133.20"),
        ("vllm/vllm-openai:v0.12.0", "535.104.05"),
    ],
)
def test_images_that_it_runs(reference: str, driver: str | None) -> None:
    assert problems(reference, driver) == ()


def test_trying_all_the_same() -> None:
    assert problems("vllm/vllm-openai:v0.32.0", "570.133.20", ("cuda-driver",)) == ()
