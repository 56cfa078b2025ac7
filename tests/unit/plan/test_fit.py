"""The estimate of a server's memory, with the figures of Nemotron-3-Nano."""

from __future__ import annotations

from typing import Any

import builders
import pytest

from provisioner.errors import HostError
from provisioner.plan.facts import Facts, Gpu
from provisioner.plan.fit import Request, estimate
from provisioner.plan.server_checks import gpu_gb, utilization

H200, H100 = 150.75, 85.52  # decimal GB of 143771 and 81559 MiB
MEMORY = builders.recipes()[builders.RECIPE].provision.memory


def request(**changes: Any) -> Request:
    values: dict[str, Any] = {
        "variant": "default",
        "needed_gb": 72,
        "memory": MEMORY,
        "gpu_gb": H200,
        "gpus": 1,
        "utilization": 0.9,
        "max_model_len": None,
        "max_num_seqs": None,
        "kv_cache_dtype": "auto",
        "mamba_dtype": "bfloat16",
    }
    return Request(**(values | changes))


def test_bf16_on_an_h200() -> None:
    fit = estimate(request())
    assert (fit.error, fit.warning) == (None, None)
    assert fit.weights_gb == 63.2
    # 6 attention layers × keys and values × 2 heads of 128 × 2 bytes
    assert fit.token_bytes == 6 * 2 * 2 * 128 * 2
    # 23 layers of 64 heads × 64 × 128 in 2 bytes, and 3 inputs of 4096 + 2 × 8 × 128 channels
    assert fit.state_bytes == 23 * (64 * 64 * 128 * 2 + 3 * (64 * 64 + 2 * 8 * 128) * 2)
    assert fit.pool_gb == pytest.approx(0.9 * H200 - 63.2 - 3)


def test_fp8_halves_the_cache_and_float32_doubles_the_state() -> None:
    plain, other = estimate(request()), estimate(request(kv_cache_dtype="fp8_e4m3", mamba_dtype="float32"))
    assert other.token_bytes == plain.token_bytes / 2
    assert 1.9 < other.state_bytes / plain.state_bytes < 2


def test_a_variant_of_unknown_size_is_what_the_recipe_asks_for() -> None:
    assert estimate(request(variant="fp8", needed_gb=35)).weights_gb == 35


def test_what_a_gpu_takes_of_a_model_that_is_spread() -> None:
    one, four = estimate(request()), estimate(request(gpus=4))
    assert four.weights_gb == one.weights_gb / 4
    assert four.state_bytes == one.state_bytes / 4
    assert four.token_bytes == one.token_bytes / 2  # of two KV heads, each GPU has one


def test_bf16_on_an_h100_is_tight() -> None:
    assert estimate(request(gpu_gb=H100)).warning == (
        "memory is tight: 10.8 GB for requests hold about 286 of 2048 tokens each, and max_num_seqs is 1024 by "
        "default; set max_num_seqs to 286 or less, use a smaller variant or more GPUs (tensor_parallel_size)"
    )
    assert estimate(request(gpu_gb=H100, max_num_seqs=256)).warning is None


def test_weights_that_do_not_fit() -> None:
    assert estimate(request(gpu_gb=48.3)).error == (
        "does not fit: 63.2 GB of weights, 3.0 GB to work in and 0.0 GB for a request of 2048 tokens, "
        "against 43.5 GB (0.9 of 48.3 GB) on 1 GPU; use another variant, more GPUs (tensor_parallel_size)"
    )


def test_a_length_that_does_not_fit() -> None:
    found = estimate(request(gpu_gb=78, utilization=0.86, max_model_len=262144))
    assert found.error is not None
    assert "1.6 GB for a request of 262144 tokens" in found.error
    shorter = int(found.error.split("max_model_len ")[1].split()[0])
    assert estimate(request(gpu_gb=78, utilization=0.86, max_model_len=shorter)).error is None
    assert estimate(request(gpu_gb=78, utilization=0.86, max_model_len=shorter + 1)).error is not None
    assert found.error.endswith("a larger gpu_memory_utilization")


def test_a_recipe_that_does_not_describe_its_model() -> None:
    assert estimate(request(memory=None)).error is None
    assert estimate(request(memory=None, gpu_gb=24, gpus=2)).error == (
        "does not fit: the recipe asks for 72 GB of GPU memory and each of 2 GPUs have 48 GB; "
        "use another variant or more GPUs"
    )


@pytest.mark.parametrize(
    ("argv", "version", "share"),
    [
        ((), "0.12.0", 0.9),
        ((), "0.32.0", 0.92),
        ((), None, 0.92),
        (("--gpu-memory-utilization", "0.7"), "0.32.0", 0.7),
    ],
)
def test_share_of_the_memory(argv: tuple[str, ...], version: str | None, share: float) -> None:
    assert utilization(argv, version) == share


def gb10(**changes: Any) -> Facts:
    seen = builders.spark(memory_mib=124546)
    return seen.model_copy(update={"gpus": (Gpu(index=0, name="NVIDIA GB10", memory_mib=None),), **changes})


def test_memory_of_a_spark_is_the_hosts() -> None:
    from provisioner.fleet.taxonomy import profile_of

    assert gpu_gb(profile_of("dgx_spark_gb10"), gb10()) == pytest.approx(130.6, abs=0.1)
    # A lab host's memory is that of the machine under it.
    assert gpu_gb(profile_of("dgx_spark_gb10"), gb10(simulated=True, memory_mib=24000)) == 128


def test_the_guides_spark_fits_in_the_share_that_is_safe() -> None:
    fleet = builders.fleet(builders.server(gpu_memory_utilization=0.7), hosts=("spark-01",))
    assert builders.plan(fleet, gb10()).warnings == ()


def small(memory_mib: int = 46068) -> Facts:
    return builders.facts().model_copy(update={"gpus": (Gpu(index=0, name="NVIDIA H100", memory_mib=memory_mib),)})


def test_a_server_that_does_not_fit_is_not_planned() -> None:
    fleet = builders.fleet(builders.server(variant="default"))
    with pytest.raises(HostError, match=r"gpu-01: server nemotron: does not fit: 63.2 GB of weights"):
        builders.plan(fleet, small())


def test_whoever_knows_better_may_say_so() -> None:
    fleet = builders.fleet(builders.server(variant="default", allow_known_bad=("fit",)))
    (warning,) = builders.plan(fleet, small()).warnings
    assert warning.startswith("nemotron: does not fit: 63.2 GB of weights")
