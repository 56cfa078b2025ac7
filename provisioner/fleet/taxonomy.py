"""Hardware profiles and strategies: which GPU is which, and how GPUs of a host share a model. Facts as data files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field
from ruamel.yaml import YAML

from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen
from provisioner.fleet.packaged import read_packaged
from provisioner.fleet.suggest import did_you_mean

_DATA = Path(__file__).parent / "data"


class HardwareProfile(Frozen):
    """One kind of GPU node."""

    id: str
    brand: str
    generation: str
    """hopper, blackwell, ada …: what recipes key their overrides by"""
    display_name: str
    gpu_count: int
    """GPUs of the usual node"""
    gpu_memory_gb: float
    """memory of one GPU, makers' decimal GB"""
    gpu_names: tuple[str, ...] = ()
    """regular expressions for the whole name that nvidia-smi prints"""
    unified_memory: bool = False
    preferred_variant: str | None = None
    scalable: bool = True
    """whether nodes of this kind can be joined"""


class Strategy(Frozen):
    """How the GPUs of one host share a model."""

    vllm_args: tuple[str, ...] = ()
    parallel_flag: str = "--tensor-parallel-size"
    env: dict[str, str] = Field(default_factory=dict)


class Taxonomy(Frozen):
    """The words that recipes and hosts are told in."""

    profiles: dict[str, HardwareProfile]
    strategies: dict[str, Strategy]


def builtin() -> Taxonomy:
    """The project's own profiles and strategies."""
    return _builtin()


@cache
def match_hardware(gpu_name: str, gpu_count: int | None = None) -> HardwareProfile | None:
    """The profile of a GPU by the name that nvidia-smi prints; None for one that is not known.

    Some profiles differ in the number of GPUs alone (`rtx_pro_6000`, `rtx_pro_6000_2x`): with `gpu_count` the one of
    that size is taken, without it, or when there is none, the first.
    """
    name = " ".join(gpu_name.split())
    matching = [profile for profile in builtin().profiles.values() if _is_called(profile, name)]
    exact = [profile for profile in matching if profile.gpu_count == gpu_count]
    return next(iter(exact or matching), None)


def profile_of(hardware: str) -> HardwareProfile:
    """The profile of that id. Raises UsageError, with the nearest ids, when there is none."""
    profiles = builtin().profiles
    if hardware not in profiles:
        raise UsageError(f'unknown hardware "{hardware}"', hint=did_you_mean(hardware, profiles))
    return profiles[hardware]


def read_taxonomy(folder: Path) -> Taxonomy:
    """The taxonomy of a clone of the public recipes: `taxonomy.yaml` and `strategies/` in `folder`."""
    known = _yaml(folder / "taxonomy.yaml")["hardware_profiles"]
    profiles = {id_: _public_profile(id_, entry) for id_, entry in known.items()}
    strategies = {}
    for file in sorted((folder / "strategies").glob("*.yaml")):
        entry = _yaml(file)
        if entry.get("deploy_type") == "single_node":
            strategies[entry["name"]] = _strategy(entry)
    return Taxonomy(profiles=profiles, strategies=strategies)


@cache
def _builtin() -> Taxonomy:
    profiles = {id_: HardwareProfile(id=id_, **entry) for id_, entry in read_packaged(_DATA / "hardware.yaml").items()}
    strategies = {name: _strategy(entry) for name, entry in read_packaged(_DATA / "strategies.yaml").items()}
    return Taxonomy(profiles=profiles, strategies=strategies)


def _is_called(profile: HardwareProfile, name: str) -> bool:
    return any(re.fullmatch(pattern, name, re.IGNORECASE) for pattern in profile.gpu_names)


def _public_profile(id_: str, entry: Mapping[str, Any]) -> HardwareProfile:
    count = entry.get("gpu_count") or 1
    return HardwareProfile(
        id=id_,
        brand=entry.get("brand", ""),
        generation=entry.get("generation", ""),
        display_name=entry.get("display_name", id_),
        gpu_count=count,
        gpu_memory_gb=entry.get("vram_gb", 0) / count,
        scalable=entry.get("scalable", True),
    )


def _strategy(entry: Mapping[str, Any]) -> Strategy:
    known = ("vllm_args", "parallel_flag", "env")
    return Strategy(**{key: entry[key] for key in known if entry.get(key) is not None})


def _yaml(file: Path) -> Any:
    return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
