"""A recipe's features: which are on, and what they add to the command."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.errors import UsageError
from provisioner.fleet.recipe_models import Mode, Override, Recipe, by_hardware
from provisioner.fleet.suggest import did_you_mean
from provisioner.fleet.taxonomy import HardwareProfile


def active(
    recipe: Recipe, variant: str, profile: HardwareProfile, strategy: str, wanted: Sequence[str] = ()
) -> tuple[str, ...]:
    """Features that are on, in the recipe's order.

    All but the opt-in ones; of those: the ones asked for (`wanted`), the ones the variant has a default mode for, and
    the ones our extension turns on for the hardware. Raises UsageError for a feature that the recipe does not have.
    """
    for name in wanted:
        if name not in recipe.features:
            raise UsageError(
                f'recipe {recipe.meta.slug} has no feature "{name}"', hint=did_you_mean(name, recipe.features)
            )
    chosen = recipe.variants[variant]
    exact = chosen.hardware_overrides.get(profile.id, Override())
    asleep = {*recipe.opt_in_features, *recipe.hardware_opt_in_features.get(profile.id, ())}
    asleep -= {*chosen.default_modes, *exact.provision.features, *wanted}
    return tuple(
        name
        for name, feature in recipe.features.items()
        if name not in asleep and (not feature.strategies or strategy in feature.strategies)
    )


def feature_args(recipe: Recipe, name: str, variant: str, profile: HardwareProfile) -> tuple[str, ...]:
    """Arguments of a feature that is on; none when it has no mode for this variant and hardware."""
    mode = _mode(recipe, name, variant, profile)
    if mode is None:
        return ()
    override = by_hardware(mode.hardware_overrides, profile)
    return override.args if override is not None and override.args is not None else mode.args


def feature_env(recipe: Recipe, name: str, variant: str, profile: HardwareProfile) -> dict[str, str]:
    """Environment of a feature that is on."""
    mode = _mode(recipe, name, variant, profile)
    if mode is None:
        return {}
    override = by_hardware(mode.hardware_overrides, profile)
    return override.env if override is not None and override.env is not None else mode.env


def _mode(recipe: Recipe, name: str, variant: str, profile: HardwareProfile) -> Mode | None:
    """The mode that is on: the variant's default, else the feature's, else the first that may run here."""
    feature = recipe.features[name]
    if not feature.modes:
        return feature
    allowed = {
        key: mode
        for key, mode in feature.modes.items()
        if (not mode.variants or variant in mode.variants)
        and "unsupported" not in (mode.hardware.get(profile.generation), mode.hardware.get(profile.id))
    }
    preferred = (recipe.variants[variant].default_modes.get(name), feature.default_mode, *allowed)
    return next((allowed[key] for key in preferred if key in allowed), None)
