"""Finding recipes by name: the built-in ones first, then the folders given (a clone of the public recipes)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from provisioner.errors import InputError, Problem, UsageError
from provisioner.fleet.command import Command, resolve
from provisioner.fleet.packaged import read_packaged
from provisioner.fleet.recipe_models import Recipe
from provisioner.fleet.suggest import did_you_mean

__all__ = ["Command", "Recipe", "all_recipes", "find_recipe", "read_recipe", "recipe_names", "resolve", "variant_meant"]

_BUILTIN = Path(__file__).parent / "recipes"
_NAME_LINE = re.compile(r"(?:^|[{,\s])(?:slug|model_id):\s*['\"]?([^'\"#\s,{}]+)", re.MULTILINE)
_ALIAS_LINE = re.compile(r"(?:^|[{,\s])aliases:\s*\[([^\]]*)\]", re.MULTILINE)


def find_recipe(name: str, search: Sequence[Path] = (), *, builtin: bool = True) -> Recipe:
    """The recipe called `name`: its alias, slug, `provider/file`, model id, or a variant's model id.

    With a variant's model id, that variant is the one served unless another is named. `search` holds folders, each
    a catalogue (with `models/` in it) or a folder of recipes; `builtin` False looks there alone. Raises UsageError,
    with the nearest names, when there is none, and InputError for a recipe that cannot be read.
    """
    folders = (_BUILTIN, *search) if builtin else search
    for folder in folders:
        recipe = _in_folder(name, folder)
        if recipe is not None:
            return recipe
    raise UsageError(f'unknown recipe "{name}"', hint=did_you_mean(name, recipe_names(search)))


def variant_meant(recipe: Recipe, asked_as: str, variant: str | None) -> str | None:
    """The variant that is meant by `variant` of a recipe found by the name `asked_as`.

    A checkpoint without a recipe of its own is served by its family's: its `default` is its variant there.
    """
    if variant == "default" and recipe.checkpoint and recipe.id.casefold() != asked_as.casefold():
        return recipe.checkpoint
    return variant


def all_recipes(search: Sequence[Path] = ()) -> Iterator[Recipe]:
    """Every recipe there is, those of `search` first. Raises InputError for one that cannot be read."""
    for folder in (*search, _BUILTIN):
        yield from (read_recipe(file) for file in _files(folder))


def recipe_names(search: Sequence[Path] = ()) -> tuple[str, ...]:
    """Names of all recipes there are, built-in ones first."""
    return tuple(
        dict.fromkeys(name for folder in (_BUILTIN, *search) for file in _files(folder) for name in _names(file))
    )


def read_recipe(file: Path) -> Recipe:
    """Reads one recipe. Raises InputError with what is wrong in it."""
    try:
        content = file.read_bytes()
        if file.is_relative_to(_BUILTIN):
            data = read_packaged(file)
        else:
            data = YAML(typ="safe", pure=True).load(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(file, 0, 0, "", f"cannot be read: {error}")]) from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        reason = str(getattr(error, "problem", None) or "is not YAML")
        raise InputError([Problem(file, line, column, "", reason)]) from error
    if not isinstance(data, dict):
        raise InputError([Problem(file, 0, 0, "", "is not a recipe: expected a mapping")])
    return _validated(file, data, hashlib.sha256(content).hexdigest())


def _validated(file: Path, data: dict[str, Any], sha256: str) -> Recipe:
    try:
        return Recipe.model_validate({**data, "file": file, "sha256": sha256, "checkpoint": None})
    except ValidationError as error:
        problems = [
            Problem(file, 0, 0, ".".join(map(str, entry["loc"])), entry["msg"])
            for entry in error.errors(include_url=False, include_input=False)
        ]
        raise InputError(problems) from error


def _in_folder(name: str, folder: Path) -> Recipe | None:
    wanted = name.casefold()
    files = [file for file in _files(folder) if wanted in {known.casefold() for known in _names(file)}]
    found = [read_recipe(file) for file in files]
    # Its own names before those of checkpoints: a checkpoint may have a recipe of its own beside its family's.
    own = [recipe for recipe in found if wanted in {known.casefold() for known in recipe.own_names}]
    if own:
        return _meant(own[0], wanted)
    return next((meant for meant in (_meant(recipe, wanted) for recipe in found) if meant.checkpoint), None)


def _meant(recipe: Recipe, name: str) -> Recipe:
    """The recipe with the variant whose model id was asked for; itself when it was asked for by another name."""
    variants = sorted(recipe.variants.items(), key=lambda entry: entry[0] != "default")
    served = {key: variant.model_id or recipe.model.model_id for key, variant in variants}
    checkpoint = next((key for key, model_id in served.items() if model_id.casefold() == name), None)
    return recipe.model_copy(update={"checkpoint": checkpoint})


def _files(folder: Path) -> Iterator[Path]:
    models = folder / "models"
    root = models if models.is_dir() else folder
    yield from sorted(file for file in root.rglob("*.y*ml") if file.suffix in (".yaml", ".yml"))


def _names(file: Path) -> tuple[str, ...]:
    return _scan(file, file.stat().st_mtime_ns)


@cache
def _scan(file: Path, _changed_ns: int) -> tuple[str, ...]:
    """Names in a recipe by its lines alone: a catalogue has hundreds of files, of which one is wanted."""
    text = file.read_text(encoding="utf-8", errors="replace")
    aliases = [alias.strip(" '\"") for found in _ALIAS_LINE.findall(text) for alias in found.split(",")]
    return tuple(dict.fromkeys([*aliases, *_NAME_LINE.findall(text), f"{file.parent.name}/{file.stem}"]))
