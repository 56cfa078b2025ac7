"""Which GPU is which, by the names that nvidia-smi prints."""

from __future__ import annotations

import pytest

from provisioner.errors import UsageError
from provisioner.fleet.taxonomy import builtin, match_hardware, profile_of


@pytest.mark.parametrize(
    ("name", "hardware"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H100 NVL", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200"),
        ("nvidia  h200 ", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA GB300", "gb300"),
        ("NVIDIA GB10", "dgx_spark_gb10"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000"),
        ("NVIDIA GeForce RTX 5090", "rtx_5090"),
        ("NVIDIA GeForce RTX 4090", "rtx_4090_2x"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA H20", None),
        ("NVIDIA H2000", None),
        ("NVIDIA GB100", None),
        ("NVIDIA A100-SXM4-80GB", None),
        ("", None),
    ],
)
def test_names(name: str, hardware: str | None) -> None:
    found = match_hardware(name)
    assert (found and found.id) == hardware


@pytest.mark.parametrize(
    ("name", "count", "hardware"),
    [
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 2, "rtx_pro_6000_2x"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 3, "rtx_pro_6000"),
        ("NVIDIA GB300", 1, "dgx_station_gb300"),
        ("NVIDIA GB300", 4, "gb300"),
        ("NVIDIA H200", 2, "h200"),
    ],
)
def test_names_and_numbers(name: str, count: int, hardware: str) -> None:
    found = match_hardware(name, count)
    assert found is not None
    assert found.id == hardware


def test_a_spark_has_unified_memory_and_prefers_bf16() -> None:
    spark = profile_of("dgx_spark_gb10")
    assert (spark.unified_memory, spark.preferred_variant, spark.gpu_count) == (True, "default", 1)
    assert [profile.id for profile in builtin().profiles.values() if profile.unified_memory] == ["dgx_spark_gb10"]


def test_unknown_hardware_is_told() -> None:
    with pytest.raises(UsageError, match=r'unknown hardware "b2000"\n  hint: did you mean "b200"\?'):
        profile_of("b2000")
