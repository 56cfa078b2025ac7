"""How many GPUs one server is spread over."""

from __future__ import annotations

from provisioner.fleet.recipe_models import ByHardware, Recipe, StrategyOverride, Variant, by_hardware
from provisioner.fleet.taxonomy import HardwareProfile


def parallel_size(
    recipe: Recipe, variant: Variant, profile: HardwareProfile, strategy: str, gpu_count: int | None
) -> tuple[int, tuple[str, ...]]:
    """The parallel size, and what an operator should know about it.

    Under `single_node_tp`: what the variant says, else the recipe, else 1 where the variant fits one GPU, else all.
    Never more than there are, and on a host that is known a power of two, since attention heads must divide evenly.
    """
    there = gpu_count or profile.gpu_count
    wanted = _wanted(recipe, variant, profile, strategy, there)
    if gpu_count is None:
        # CPU profiles count memory domains, which are no limit.
        return (wanted if profile.generation == "cpu" else min(wanted, there)), ()
    size = 1 << (min(wanted, there).bit_length() - 1)
    if size == wanted:
        return size, ()
    return size, (f"spread over {size} of {there} GPUs; the recipe's size would be {wanted}",)


def needed_gb(variant: Variant, profile: HardwareProfile) -> float:
    """GPU memory that a variant needs, GB; 0 when the recipe does not say."""
    declared = variant.vram_minimum_gb
    return (by_hardware(declared, profile) if isinstance(declared, dict) else declared) or 0


def _wanted(recipe: Recipe, variant: Variant, profile: HardwareProfile, strategy: str, there: int) -> int:
    if strategy != "single_node_tp":
        return there
    of_strategy = recipe.strategy_overrides.get(strategy, StrategyOverride()).tp
    declared = _declared(variant.tp, profile) or _declared(of_strategy, profile)
    if declared:
        return declared
    needed = needed_gb(variant, profile)
    return 1 if 0 < needed <= profile.gpu_memory_gb else there


def _declared(size: int | ByHardware[int] | None, profile: HardwareProfile) -> int | None:
    return by_hardware(size, profile) if isinstance(size, dict) else size
