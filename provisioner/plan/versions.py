"""What vLLM versions mean: read off image tags and git refs, and what variables and defaults are worth in which."""

from __future__ import annotations

import re
from functools import cache

from provisioner.plan.gate_data import gates

Version = tuple[int, int, int]


def version_of(reference: str) -> str | None:
    """X.Y.Z as an image tag (`repo:vX.Y.Z-cu129`) or a git ref (`vX.Y.Z`) tells it; None when it does not.

    >>> version_of("vllm/vllm-openai:v0.12.0-cu130")
    '0.12.0'
    """
    name = reference.rsplit("/", 1)[-1].split("@", 1)[0]
    match = re.fullmatch(r"(?:[^:]*:)?v?(\d+\.\d+\.\d+)(?:[.\-+].*)?", name)
    return match.group(1) if match else None


@cache
def parse(version: str) -> Version:
    """X.Y.Z as numbers that compare.

    >>> parse("0.9.2") < parse("0.11.2")
    True
    """
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def gate_env(env: dict[str, str], version: str | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that mean something to this version, and a warning for each one left out."""
    if version is None:
        return env, ()
    dead = [gate for gate in gates().environment if gate.name in env and parse(version) >= parse(gate.until)]
    names = {gate.name for gate in dead}
    kept = {name: value for name, value in env.items() if name not in names}
    return kept, tuple(f"{gate.name} is left out for vLLM {version}: {gate.reason}" for gate in dead)


def default_of(flag: str, version: str | None) -> str | None:
    """What a flag that is left out means in this version, where that changed; None where it is not in the data.

    >>> default_of("--mamba-ssm-cache-dtype", "0.12.0")
    'bfloat16'
    """
    entries = [entry for entry in gates().defaults if entry.flag == flag]
    for entry in entries:
        if entry.until is None or (version is not None and parse(version) < parse(entry.until)):
            return entry.value
    return None


def older(version: str | None, than: str | None) -> bool:
    """Whether both versions are known and the first one is older."""
    known = than is not None and re.fullmatch(r"\d+\.\d+\.\d+", than)
    return bool(version and than and known and parse(version) < parse(than))
