"""A recipe, a variant and some hardware → the `vllm serve` command. Pure; the rules stand in docs/design/recipes.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen
from provisioner.fleet.features import active, feature_args, feature_env
from provisioner.fleet.images import recipe_build, recipe_image
from provisioner.fleet.models import Build
from provisioner.fleet.parallel import needed_gb, parallel_size
from provisioner.fleet.recipe_models import ByHardware, Override, Recipe, StrategyOverride, Variant
from provisioner.fleet.suggest import did_you_mean
from provisioner.fleet.taxonomy import HardwareProfile, Strategy, Taxonomy, builtin
from provisioner.fleet.variants import choose_variant

T = TypeVar("T")


class Command(Frozen):
    """What to run."""

    model_id: str
    variant: str
    precision: str
    argv: tuple[str, ...]
    """after `vllm serve`: the model, then its arguments"""
    env: dict[str, str]
    image: str | None
    """reference to pull; None when the image is built"""
    build: Build | None
    features: tuple[str, ...]
    """features that are on"""
    parallel_size: int
    """tensor (or data) parallel size"""
    plugin_repo: str | None
    """model repository that holds the parser plugins; None: the served model's own"""
    min_vllm_version: str | None
    needed_gb: float
    """GPU memory that the recipe asks for, decimal GB; 0 where it does not say"""
    notes: tuple[str, ...] = ()
    """what an operator should know about this choice"""


def resolve(
    recipe: Recipe,
    *,
    variant: str | None,
    hardware: str,
    strategy: str = "single_node_tp",
    gpu_count: int | None = None,
    features: Sequence[str] = (),
    taxonomy: Taxonomy | None = None,
) -> Command:
    """The command that serves a recipe on some hardware.

    `variant` None takes what the hardware prefers, else the recipe's default. `gpu_count` is the number of GPUs that
    the server gets (None: the profile's usual node); the parallel size never exceeds it. `features` are opt-in
    features to turn on besides those that are on anyway. Raises UsageError for what the recipe does not have or the
    hardware cannot run.
    """
    words = taxonomy or builtin()
    profile = _known(hardware, words.profiles, "hardware")
    plan = _known(strategy, words.strategies, "strategy")
    name = choose_variant(recipe, variant, profile)
    chosen = recipe.variants[name]
    size, size_notes = parallel_size(recipe, chosen, profile, strategy, gpu_count)
    on = active(recipe, name, profile, strategy, features)
    model_id = chosen.model_id or recipe.model.model_id
    changed = recipe.strategy_overrides.get(strategy, StrategyOverride())
    args = [
        *_arguments(recipe, chosen, profile, plan, changed, size),
        *(word for key in on for word in feature_args(recipe, key, name, profile)),
    ]
    exact = chosen.hardware_overrides.get(profile.id, Override())
    env = _environment(recipe, chosen, profile, plan, changed)
    for key in on:
        env |= feature_env(recipe, key, name, profile)
    build = recipe_build(recipe, chosen, profile)
    return Command(
        model_id=model_id,
        variant=name,
        precision=chosen.precision,
        argv=(model_id, *last_wins(args, without=exact.provision.without)),
        env=env,
        image=None if build else recipe_image(recipe, chosen, profile),
        build=build,
        features=on,
        parallel_size=size,
        plugin_repo=recipe.provision.plugin_repo,
        min_vllm_version=chosen.min_vllm_version or recipe.model.min_vllm_version,
        needed_gb=needed_gb(chosen, profile),
        notes=size_notes,
    )


def last_wins(args: Iterable[str], *, without: Sequence[str] = ()) -> tuple[str, ...]:
    """Each flag once, at its last place with its last value; `without` drops flags altogether.

    A flag and the one value after it are a unit: a longer list of values stays where it stands.
    """
    units: list[tuple[str, ...]] = []
    for word in args:
        if units and len(units[-1]) == 1 and _is_flag(units[-1][0]) and not _is_flag(word):
            units[-1] = (units[-1][0], word)
        else:
            units.append((word,))
    last = {unit[0]: position for position, unit in enumerate(units) if _is_flag(unit[0])}
    kept = [
        unit
        for position, unit in enumerate(units)
        if not _is_flag(unit[0]) or (last[unit[0]] == position and unit[0] not in without)
    ]
    return tuple(word for unit in kept for word in unit)


def _arguments(
    recipe: Recipe,
    variant: Variant,
    profile: HardwareProfile,
    strategy: Strategy,
    changed: StrategyOverride,
    size: int,
) -> list[str]:
    exact = variant.hardware_overrides.get(profile.id, Override())
    return [
        *recipe.model.base_args,
        *variant.extra_args,
        *exact.extra_args,
        *strategy.vllm_args,
        *(strategy.parallel_flag, str(size)),
        *changed.extra_args,
        *changed.vllm_args,
        *(word for override in _overrides(recipe, variant, profile, changed) for word in override.extra_args),
    ]


def _environment(
    recipe: Recipe, variant: Variant, profile: HardwareProfile, strategy: Strategy, changed: StrategyOverride
) -> dict[str, str]:
    exact = variant.hardware_overrides.get(profile.id, Override())
    env = {**recipe.model.base_env, **variant.extra_env, **exact.extra_env}
    env |= {**strategy.env, **changed.env, **changed.extra_env}
    for override in _overrides(recipe, variant, profile, changed):
        env |= override.extra_env
    return env


def _overrides(recipe: Recipe, variant: Variant, profile: HardwareProfile, changed: StrategyOverride) -> list[Override]:
    """Overrides by generation or brand, in order; a strategy's replaces the others, its exact one comes on top."""
    of_strategy = _by_generation(changed.hardware_overrides, profile)
    wide = (
        [of_strategy]
        if of_strategy is not None
        else [
            _by_generation(recipe.hardware_overrides, profile),
            _by_generation(variant.hardware_overrides, profile),
        ]
    )
    return [override for override in (*wide, changed.hardware_overrides.get(profile.id)) if override is not None]


def _by_generation(overrides: ByHardware[Override], profile: HardwareProfile) -> Override | None:
    found = overrides.get(profile.generation)
    if found is None and profile.brand == "NVIDIA":
        return overrides.get("nvidia")
    return found


def _is_flag(word: str) -> bool:
    """A minus with a digit after it is a negative number, not a flag."""
    return word.startswith("-") and not word[1:2].isdigit()


def _known(name: str, known: dict[str, T], what: str) -> T:
    if name not in known:
        raise UsageError(f'unknown {what} "{name}"', hint=did_you_mean(name, known))
    return known[name]
