"""Recipes as data: the schema of the public vLLM recipes (github.com/vllm-project/recipes), plus `provision:`.

Keys that this program has no use for (guides, links, multi-node settings) are left aside, so that a newer catalogue
still loads. What the schema has no key for stands under `provision:`, which other catalogues need not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Image
from provisioner.fleet.taxonomy import HardwareProfile

T = TypeVar("T")


def _word(value: Any) -> Any:
    """YAML reads `8` and `true` as numbers and truth; on a command line they are words."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _or_empty(value: Any) -> Any:
    return () if value is None else value


Word = Annotated[str, BeforeValidator(_word)]
Words = Annotated[tuple[Word, ...], BeforeValidator(_or_empty)]
Env = Annotated[dict[str, Word], BeforeValidator(lambda value: {} if value is None else value)]
ByHardware = dict[str, T]
"""Keyed by hardware id, generation, brand in lower case, or `default`."""


class Loose(BaseModel):
    """Frozen, but unknown keys pass."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class OverrideExtension(Frozen):
    """Ours, in an exact-hardware override of a variant."""

    without: tuple[str, ...] = ()
    """flags that the variant has elsewhere, dropped with their values on this hardware"""
    features: tuple[str, ...] = ()
    """opt-in features that are on for this hardware"""


class Override(Loose):
    """What changes on some hardware."""

    extra_args: Words = ()
    extra_env: Env = {}
    docker_image: Any = None
    provision: OverrideExtension = OverrideExtension()


class FeatureOverride(Loose):
    """Replaces a feature's own arguments or environment; None keeps them."""

    args: Words | None = None
    env: Env | None = None


class Mode(Loose):
    """One of several ways of a feature."""

    args: Words = ()
    env: Env = {}
    variants: Words = ()
    hardware: ByHardware[str] = {}
    hardware_overrides: ByHardware[FeatureOverride] = {}


class Feature(Mode):
    """Something that a server can do, or one of several `modes` of it."""

    description: str = ""
    strategies: Words = ()
    modes: dict[str, Mode] | None = None
    default_mode: str | None = None


class PrecisionHardware(Loose):
    """Hardware that a precision needs."""

    brand: str | None = None
    generation: str | None = None


class Variant(Loose):
    """One checkpoint of a model, and how it is served."""

    model_id: str | None = None
    precision: str = ""
    vram_minimum_gb: float | ByHardware[float] | None = None
    description: str = ""
    docker_image: Any = None
    nightly_required: bool = False
    min_vllm_version: Word | None = None
    extra_args: Words = ()
    extra_env: Env = {}
    tp: int | ByHardware[int] | None = None
    hardware_overrides: ByHardware[Override] = {}
    default_modes: dict[str, str] = {}
    supported_hardware: Words = ()
    precision_hardware: PrecisionHardware | None = None


class StrategyOverride(Loose):
    """What a recipe changes under one strategy."""

    tp: int | ByHardware[int] | None = None
    extra_args: Words = ()
    vllm_args: Words = ()
    env: Env = {}
    extra_env: Env = {}
    hardware_overrides: ByHardware[Override] = {}


class Model(Loose):
    """The model itself."""

    model_id: str
    min_vllm_version: Word | None = None
    docker_image: Any = None
    """a string, or a map by brand and by CUDA line"""
    nightly_required: bool = False
    base_args: Words = ()
    base_env: Env = {}


class Meta(Loose):
    """What a recipe says of itself."""

    title: str = ""
    slug: str
    hardware: dict[str, str] = {}
    tasks: Words = ()


class Mamba(Frozen):
    """Mamba-2 layers of a model, as its config.json counts them."""

    layers: int
    heads: int
    head_dim: int
    state: int
    groups: int
    conv_kernel: int


class Memory(Frozen):
    """What a model takes of the GPUs' memory, from public facts of it."""

    sources: tuple[str, ...]
    weights_gb: dict[str, float] = Field(default_factory=dict)
    """by variant, decimal GB; a variant that is not there is estimated from its vram_minimum_gb"""
    attention_layers: int
    kv_heads: int
    head_dim: int
    mamba: Mamba | None = None


class Untuned(Frozen):
    """A flag that should keep its value."""

    flag: str
    recommended: dict[str, str]
    """by precision, or `default`; `true` for a flag without a value"""
    reason: str


def _without_archive(image: Image) -> Image:
    if image.archive:
        raise ValueError("an archive is a fleet file's to name: its path starts there")
    return image


class Extension(Frozen):
    """Ours: what the public schema has no key for."""

    aliases: tuple[str, ...] = ()
    """short names"""
    plugin_repo: str | None = None
    """model repository that holds the parser plugins; None: the served model's own"""
    images: dict[str, Annotated[Image, AfterValidator(_without_archive)]] = Field(default_factory=dict)
    """by hardware id; before everything else that names an image"""
    memory: Memory | None = None
    do_not_tune: tuple[Untuned, ...] = ()


class Recipe(Loose):
    """How a model is served."""

    file: Path
    """where it was read from"""
    sha256: str
    """of the file"""
    checkpoint: str | None = None
    """the variant whose model id it was asked for by; served unless another is named"""
    meta: Meta
    model: Model
    features: dict[str, Feature] = {}
    opt_in_features: Words = ()
    hardware_opt_in_features: dict[str, Words] = {}
    variants: Annotated[dict[str, Variant], Field(min_length=1)]
    compatible_strategies: Words = ()
    strategy_hardware: dict[str, ByHardware[Literal["supported", "unsupported", "verified"]]] = {}
    hardware_overrides: ByHardware[Override] = {}
    strategy_overrides: Annotated[
        dict[str, StrategyOverride], BeforeValidator(lambda value: {} if value is None else value)
    ] = {}
    provision: Extension = Extension()

    @property
    def id(self) -> str:
        """Folder and file name, which are the model repository's: `nvidia/NVIDIA-Nemotron-…`."""
        return f"{self.file.parent.name}/{self.file.stem}"

    @property
    def repos(self) -> tuple[str, ...]:
        """Every model repository that it may need, on whatever hardware."""
        named = (self.model.model_id, *(one.model_id for one in self.variants.values()), self.provision.plugin_repo)
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def own_names(self) -> tuple[str, ...]:
        """What it can be found by, besides the model ids of its variants."""
        return (*self.provision.aliases, self.meta.slug, self.id, self.model.model_id)


def by_hardware(values: ByHardware[T], profile: HardwareProfile) -> T | None:
    """The most exact entry of a map for a profile: its id, generation, brand, then `default`."""
    for key in (profile.id, profile.generation, profile.brand.lower(), "default"):
        if key in values:
            return values[key]
    return None
