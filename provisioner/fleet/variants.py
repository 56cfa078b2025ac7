"""Choosing a recipe's variant for some hardware."""

from __future__ import annotations

from provisioner.errors import UsageError
from provisioner.fleet.parallel import needed_gb
from provisioner.fleet.recipe_models import PrecisionHardware, Recipe, Variant
from provisioner.fleet.suggest import did_you_mean
from provisioner.fleet.taxonomy import HardwareProfile

_PRECISIONS = {
    # FP4 tensor cores came with Blackwell; a variant whose runtime has a fallback says so (`precision_hardware`).
    "nvfp4": PrecisionHardware(brand="NVIDIA", generation="blackwell"),
    "fp4": PrecisionHardware(brand="NVIDIA", generation="blackwell"),
}


def choose_variant(recipe: Recipe, wanted: str | None, profile: HardwareProfile) -> str:
    """The key of the variant to serve. Raises UsageError for one that is not there or cannot run on the hardware.

    Without a wish: the checkpoint that the recipe was named by, else what the hardware prefers, else the default;
    on hardware that stands alone, the largest one that fits when that does not.
    """
    if recipe.meta.hardware.get(profile.id) == "unsupported":
        raise UsageError(f"recipe {recipe.meta.slug} does not run on {profile.display_name} ({profile.id})")
    if wanted is None:
        return _automatic(recipe, profile)
    if wanted not in recipe.variants:
        raise UsageError(
            f'recipe {recipe.meta.slug} has no variant "{wanted}"', hint=did_you_mean(wanted, recipe.variants)
        )
    reason = _obstacle(recipe.variants[wanted], profile)
    if reason:
        runs = [name for name, variant in recipe.variants.items() if _obstacle(variant, profile) is None]
        raise UsageError(
            f"recipe {recipe.meta.slug}: variant {wanted} {reason}",
            hint=f"variants that run there: {', '.join(runs)}" if runs else None,
        )
    return wanted


def _automatic(recipe: Recipe, profile: HardwareProfile) -> str:
    runs = [name for name, variant in recipe.variants.items() if _obstacle(variant, profile) is None]
    if not runs:
        raise UsageError(f"recipe {recipe.meta.slug} has no variant for {profile.display_name} ({profile.id})")
    wishes = [recipe.checkpoint, profile.preferred_variant, "default", *runs]
    first = next(name for name in wishes if name in runs)
    if profile.scalable or _fits(recipe.variants[first], profile):
        return first
    fitting = [name for name in runs if _fits(recipe.variants[name], profile)]
    return max(fitting, key=lambda name: needed_gb(recipe.variants[name], profile), default=first)


def _fits(variant: Variant, profile: HardwareProfile) -> bool:
    return needed_gb(variant, profile) <= profile.gpu_memory_gb * profile.gpu_count


def _obstacle(variant: Variant, profile: HardwareProfile) -> str | None:
    """Why a variant cannot run on some hardware; None when it can."""
    if variant.supported_hardware and profile.id not in variant.supported_hardware:
        return f"runs on {', '.join(variant.supported_hardware)} alone, not on {profile.id}"
    needs = variant.precision_hardware or _PRECISIONS.get(variant.precision)
    if needs is None:
        return None
    brand = needs.brand is None or needs.brand == profile.brand
    generation = needs.generation is None or needs.generation == profile.generation
    if brand and generation:
        return None
    kind = " ".join(filter(None, [needs.brand, (needs.generation or "").capitalize()]))
    return f"({variant.precision}) needs {kind}; {profile.id} is {profile.brand} {profile.generation.capitalize()}"
