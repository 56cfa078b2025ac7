"""What the words of a command line mean."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any


def with_default_command(argv: Sequence[str], commands: Container[str]) -> list[str]:
    """`fleet.yaml …` → `apply fleet.yaml …`: a first word that names a file, or one after flags and no command.
    `bench --explain …` → `bench explain …`. `commands`: those that there are, by name."""
    words = list(argv)
    if words[:2] == ["bench", "--explain"]:
        return ["bench", "explain", *words[2:]]
    if not words or words[0] in commands:
        return words
    if not words[0].startswith("-"):
        return ["apply", *words] if _names_file(words[0]) else words
    # Values of flags cannot be told from commands here: `--hosts gpu-01 fleet.yaml`.
    if any(word in commands for word in words):
        return words
    return ["apply", *words] if any(_names_file(word) for word in words) else words


def flags_of_apply(argv: Sequence[str], commands: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the words of an `apply` mean, by the names of its parameters, and those of what a timer runs; None for
    another command."""
    words = with_default_command(argv, commands)
    if words[:2] == ["schedule", "run"]:
        scheduled = commands["schedule"].commands["run"].make_context("run", words[2:]).params
        words = ["apply", str(scheduled["fleet"]), "--yes", "--keep-going"]
    if not words or words[0] != "apply":
        return None
    parsed: dict[str, Any] = commands["apply"].make_context("apply", words[1:]).params
    return parsed


def _names_file(word: str) -> bool:
    return not word.startswith("-") and (word.endswith((".yaml", ".yml")) or Path(word).is_file())
