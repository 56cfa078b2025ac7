"""Which image a recipe asks for."""

from __future__ import annotations

from typing import Any

from provisioner.fleet.models import Build
from provisioner.fleet.recipe_models import Override, Recipe, Variant
from provisioner.fleet.taxonomy import HardwareProfile

_REPOSITORIES = {
    "nvidia": "vllm/vllm-openai",
    "amd": "vllm/vllm-openai-rocm",
    "tpu": "vllm/vllm-tpu",
    "xpu": "vllm/vllm-openai-xpu",
    "intel": "vllm/vllm-openai-cpu",
}
_CUDA_LINES = ("cu130", "cu129")


def recipe_build(recipe: Recipe, variant: Variant, profile: HardwareProfile) -> Build | None:
    """The source build that the recipe asks for on this hardware; None where it pulls an image."""
    own = recipe.provision.images.get(profile.id)
    return own.build if own and _pinned(variant, profile) is None else None


def recipe_image(recipe: Recipe, variant: Variant, profile: HardwareProfile) -> str:
    """Reference to pull: the variant's for the hardware, ours for it, the variant's, the model's, else the default."""
    exact = _pinned(variant, profile)
    if exact is not None:
        return exact
    own = recipe.provision.images.get(profile.id)
    if own and own.pull:
        return own.pull
    brand = _brand(profile)
    for declared in (variant.docker_image, recipe.model.docker_image):
        found = _of_brand(declared, brand)
        if found:
            return found
    nightly = variant.nightly_required or recipe.model.nightly_required
    tag = "nightly" if nightly else "latest-x86_64" if brand == "intel" else "latest"
    return f"{_REPOSITORIES[brand]}:{tag}"


def _pinned(variant: Variant, profile: HardwareProfile) -> str | None:
    """The variant's image for exactly this hardware."""
    exact = variant.hardware_overrides.get(profile.id, Override()).docker_image
    return exact if isinstance(exact, str) else None


def _brand(profile: HardwareProfile) -> str:
    if profile.generation in ("tpu", "xpu"):
        return profile.generation
    brand = profile.brand.lower()
    return brand if brand in _REPOSITORIES else "nvidia"


def _of_brand(declared: Any, brand: str) -> str | None:
    """A plain string and a map by CUDA line are NVIDIA's; a map by brand holds either."""
    if isinstance(declared, dict) and not set(declared) & set(_CUDA_LINES):
        declared = declared.get(brand)
    elif brand != "nvidia":
        return None
    if isinstance(declared, dict):
        declared = next((declared[line] for line in _CUDA_LINES if line in declared), None)
    return declared if isinstance(declared, str) else None
