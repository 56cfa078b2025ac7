"""One recipe's command as data and as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provisioner.fleet.recipes import Recipe, resolve, variant_meant
from provisioner.fleet.taxonomy import Taxonomy, builtin, read_taxonomy
from provisioner.plan.gates import check_arguments
from provisioner.plan.versions import gate_env, version_of


def resolved(
    recipe: Recipe,
    *,
    asked_as: str,
    variant: str | None,
    hardware: str,
    strategy: str,
    gpus: int | None,
    features: Sequence[str],
    folders: Sequence[Path],
) -> dict[str, Any]:
    """argv, env and image (or build), with what the image's vLLM would refuse and what an operator should know.

    A catalogue's own hardware profiles and strategies are used where it brings them. Raises UsageError for what the
    recipe does not have or the hardware cannot run.
    """
    command = resolve(
        recipe,
        variant=variant_meant(recipe, asked_as, variant),
        hardware=hardware,
        strategy=strategy,
        gpu_count=gpus,
        features=features,
        taxonomy=_taxonomy(recipe, folders),
    )
    version = version_of(command.image or "") or version_of((command.build and command.build.ref) or "")
    found = check_arguments("serve", command.argv, version)
    _, dead = gate_env(command.env, version)
    return {
        "recipe": recipe.id,
        "model_id": command.model_id,
        "variant": command.variant,
        "hardware": hardware,
        "strategy": strategy,
        "argv": ["vllm", "serve", *command.argv],
        "env": command.env,
        "image": command.image,
        "build": command.build.model_dump(exclude_none=True) if command.build else None,
        "vllm_version": version,
        "problems": list(found.errors),
        "notes": [*command.notes, *found.warnings, *dead],
    }


def command_text(made: dict[str, Any]) -> str:
    """The same for people, ready to be pasted into a shell; what is said about it stands in comments."""
    image = f"# image: {made['image']}"
    if made["build"]:
        build = made["build"]
        image = f"# image: built from {build['git']} {build['ref']} ({build['dockerfile']}, target {build['target']})"
    lines = [
        image,
        *(f"# problem: {text}" for text in made["problems"]),
        *(f"# note: {text}" for text in made["notes"]),
    ]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in made["env"].items()]
    return "\n".join([*lines, shlex.join(made["argv"])])


def _taxonomy(recipe: Recipe, folders: Sequence[Path]) -> Taxonomy:
    own = (folder for folder in folders if recipe.file.is_relative_to(folder) and (folder / "taxonomy.yaml").is_file())
    folder = next(own, None)
    return read_taxonomy(folder) if folder else builtin()
