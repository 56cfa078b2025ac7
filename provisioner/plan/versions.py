"""What vLLM versions mean: read off image tags and git refs, and what a variable is worth in which of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, int, int]


@dataclass(frozen=True)
class EnvGate:
    """A variable that vLLM reads before version `until` only."""

    name: str
    until: Version
    reason: str


# Read off the deprecation in vLLM's own sources: deprecated for removal in 0.23, ignored with a warning after.
_ENV_GATES = tuple(
    EnvGate(name, (0, 23, 0), "vLLM ignores it from 0.23 on (its successor is --moe-backend)")
    for name in ("VLLM_USE_FLASHINFER_MOE_FP8", "VLLM_FLASHINFER_MOE_BACKEND")
)


def version_of(reference: str) -> str | None:
    """X.Y.Z as an image tag (`repo:vX.Y.Z-cu129`) or a git ref (`vX.Y.Z`) tells it; None when it does not.

    >>> version_of("vllm/vllm-openai:v0.12.0-cu130")
    '0.12.0'
    """
    name = reference.rsplit("/", 1)[-1].split("@", 1)[0]
    match = re.fullmatch(r"(?:[^:]*:)?v?(\d+\.\d+\.\d+)(?:[.\-+].*)?", name)
    return match.group(1) if match else None


def gate_env(env: dict[str, str], version: str | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that mean something to this version, and a warning for each one left out."""
    if version is None:
        return env, ()
    parsed = _parse(version)
    dead = [gate for gate in _ENV_GATES if gate.name in env and parsed >= gate.until]
    names = {gate.name for gate in dead}
    kept = {name: value for name, value in env.items() if name not in names}
    return kept, tuple(f"{gate.name} is left out for vLLM {version}: {gate.reason}" for gate in dead)


def older(version: str | None, than: str | None) -> bool:
    """Whether both versions are known and the first one is older."""
    known = than is not None and re.fullmatch(r"\d+\.\d+\.\d+", than)
    return bool(version and than and known and _parse(version) < _parse(than))


def _parse(version: str) -> Version:
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch
