"""What a planned server would run into on its host: arguments, memory, combinations that are known to go wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.errors import HostError, UsageError
from provisioner.fleet.models import Server
from provisioner.fleet.recipes import Command, Recipe
from provisioner.fleet.taxonomy import HardwareProfile
from provisioner.plan import flags
from provisioner.plan.arguments import untuned
from provisioner.plan.facts import Facts
from provisioner.plan.fit import GB, Request, estimate
from provisioner.plan.gates import check_arguments
from provisioner.plan.known_bad import Situation, matching, told
from provisioner.plan.same import kept
from provisioner.plan.versions import default_of

_UTILIZATION = "--gpu-memory-utilization"
_MIB = 1 << 20


def check_server(
    server: Server,
    recipe: Recipe,
    command: Command,
    profile: HardwareProfile,
    facts: Facts,
    version: str | None,
    argv: tuple[str, ...],
    bench_argv: tuple[str, ...],
) -> tuple[str, ...]:
    """Warnings about what will run on the host.

    Raises UsageError for arguments that the vLLM version would refuse, HostError for a model that does not fit, with
    all reasons at once. Known-bad combinations that are errors are preflight's to tell.
    """
    checks = _checks(server, recipe, command, version, argv, bench_argv, gpu_gb(profile, facts))
    if checks.errors:
        text = "\n".join(f"{facts.host}: server {server.name}: {error}" for error in checks.errors)
        raise UsageError(text) if checks.wrong else HostError(text)
    bad = matching(situation(profile.id, facts, version, argv), server.allow_known_bad)
    return (
        *checks.warnings,
        *(told(entry) for entry in bad if entry.severity == "warning"),
        *checks.tight,
    )


@dataclass(frozen=True)
class _Checks:
    errors: tuple[str, ...]
    wrong: bool
    """arguments are among the errors: it is the fleet file that is to be changed"""
    warnings: tuple[str, ...]
    tight: tuple[str, ...]


@kept(1024)
def _checks(
    server: Server,
    recipe: Recipe,
    command: Command,
    version: str | None,
    argv: tuple[str, ...],
    bench_argv: tuple[str, ...],
    gpu: float,
) -> _Checks:
    """What is the same on every host of a kind. `gpu`: memory of one GPU, GB."""
    found = check_arguments("serve", argv, version) + check_arguments("bench serve", bench_argv[2:], version)
    fit = estimate(fit_request(recipe, command, gpu, version, argv))
    too_big = (fit.error,) if fit.error and "fit" not in server.allow_known_bad else ()
    tight = fit.error or fit.warning
    return _Checks(
        errors=(*found.errors, *too_big),
        wrong=bool(found.errors),
        warnings=(*found.warnings, *untuned(recipe, command, argv)),
        tight=(tight,) if tight else (),
    )


def situation(hardware: str, facts: Facts, version: str | None, argv: tuple[str, ...]) -> Situation:
    """What known-bad combinations are looked up by."""
    return Situation(
        hardware=hardware,
        kernel=facts.kernel,
        driver=facts.driver_version,
        toolkit=facts.toolkit_version,
        vllm=version,
        gpu_memory_utilization=utilization(argv, version),
    )


def utilization(argv: tuple[str, ...], version: str | None) -> float:
    """The share of a GPU's memory that vLLM takes: what the arguments say, else the version's default."""
    return _number(flags.value_of(argv, _UTILIZATION)) or float(default_of(_UTILIZATION, version) or 0.9)


def fit_request(
    recipe: Recipe,
    command: Command,
    gpu: float,
    version: str | None,
    argv: tuple[str, ...],
) -> Request:
    """What the estimate of the memory is made from. `gpu`: memory of one GPU, GB."""
    size = _number(flags.value_of(argv, "--tensor-parallel-size")) or command.parallel_size
    dtype = flags.value_of(argv, "--mamba-ssm-cache-dtype")
    return Request(
        variant=command.variant,
        needed_gb=command.needed_gb,
        memory=recipe.provision.memory,
        gpu_gb=gpu,
        gpus=int(size),
        utilization=utilization(argv, version),
        max_model_len=_length(flags.value_of(argv, "--max-model-len")),
        max_num_seqs=_length(flags.value_of(argv, "--max-num-seqs")),
        kv_cache_dtype=flags.value_of(argv, "--kv-cache-dtype") or "auto",
        mamba_dtype=(dtype if dtype != "auto" else None) or default_of("--mamba-ssm-cache-dtype", version) or "float32",
    )


def gpu_gb(profile: HardwareProfile, facts: Facts) -> float:
    """Memory of one GPU, decimal GB: what is seen on the host, else what the profile says.

    Unified memory is the host's; that of a lab host is its engine's and says nothing.
    """
    if profile.unified_memory:
        return profile.gpu_memory_gb if facts.simulated else facts.memory_mib * _MIB / GB
    seen = [gpu.memory_mib for gpu in facts.gpus if gpu.memory_mib]
    return min(seen) * _MIB / GB if seen else profile.gpu_memory_gb


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _length(text: str | None) -> int | None:
    """A count as vLLM takes it: 4096, 4k (4000), 4K (4096), 1.5m."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text or "")
    if found is None:
        return None
    power = " km".index(found[2].lower()) if found[2] else 0
    return int(float(found[1]) * (1024 if found[2].isupper() else 1000) ** power)
