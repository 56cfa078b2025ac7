"""`provision recipe`: what recipes there are, and the command that one makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provisioner.cli.console import out
from provisioner.cli.options import Json

if TYPE_CHECKING:
    from provisioner.fleet.recipes import Recipe

recipe_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Recipes: what there is, and the command that one makes."
)
Name = Annotated[str, typer.Argument(metavar="RECIPE", help="Alias, slug, provider/file or model id.")]
Folders = Annotated[
    list[Path],
    typer.Option(
        "--recipes",
        metavar="FOLDER",
        envvar="PROVISION_RECIPES",
        help="Look here first: a clone of the public recipes or a folder of recipes (may be repeated).",
    ),
]
_NONE: list[Path] = []
_WORDS: list[str] = []


@recipe_app.command("list", epilog="Example: provision recipe list --recipes ~/recipes")
def list_(recipes: Folders = _NONE, json: Json = False) -> None:
    """Every recipe with its variants."""
    from provisioner.fleet.recipes import all_recipes

    _folders(recipes)
    found = [_summary(recipe) for recipe in all_recipes(recipes)]
    if json:
        _print(found)
        return
    width = max(len(row["recipe"]) for row in found)
    out("\n".join(f"{row['recipe']:{width}}  {', '.join(row['variants'])}" for row in found))


@recipe_app.command(epilog="Example: provision recipe show nemotron-3-nano")
def show(name: Name, recipes: Folders = _NONE, json: Json = False) -> None:
    """One recipe: variants, features, images, what it says not to tune, and its sources."""
    recipe = _find(name, recipes)
    if json:
        _print(recipe.model_dump(mode="json", by_alias=True))
        return
    lines = [f"{recipe.meta.title or recipe.id}", f"file: {recipe.file}", f"names: {', '.join(recipe.own_names)}"]
    lines.append("variants:")
    for key, variant in recipe.variants.items():
        model_id = variant.model_id or recipe.model.model_id
        lines.append(f"  {key}: {variant.precision or '?'}, {model_id}, {variant.vram_minimum_gb or '?'} GB")
    lines.append("features:")
    for key, feature in recipe.features.items():
        on = "on request" if key in recipe.opt_in_features else "on"
        lines.append(f"  {key} ({on}): {feature.description}".rstrip(": "))
    lines += ["do not tune:"] if recipe.provision.do_not_tune else []
    lines += [f"  {entry.flag}: {entry.reason}" for entry in recipe.provision.do_not_tune]
    memory = recipe.provision.memory
    lines += ["memory, from:", *(f"  {source}" for source in memory.sources)] if memory else []
    out("\n".join(lines))


@recipe_app.command(epilog="Example: provision recipe command nemotron-3-nano --hardware h200 --json")
def command(
    name: Name,
    hardware: Annotated[str, typer.Option(help="Hardware profile id, such as h200 or dgx_spark_gb10.")],
    variant: Annotated[
        str | None, typer.Option(help="Variant; default: what the hardware prefers.", show_default=False)
    ] = None,
    strategy: Annotated[str, typer.Option(help="How the GPUs of a host share the model.")] = "single_node_tp",
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs; default: those of the profile.", show_default=False)
    ] = None,
    feature: Annotated[
        list[str], typer.Option("--feature", metavar="NAME", help="Turn an opt-in feature on (may be repeated).")
    ] = _WORDS,
    recipes: Folders = _NONE,
    json: Json = False,
) -> None:
    """The command that serves a recipe on some hardware: arguments, environment and image."""
    from provisioner.cli.recipe_command import command_text, resolved

    recipe = _find(name, recipes)
    made = resolved(
        recipe,
        asked_as=name,
        variant=variant,
        hardware=hardware,
        strategy=strategy,
        gpus=gpus,
        features=feature,
        folders=recipes,
    )
    if json:
        _print(made)
        return
    out(command_text(made))


def _find(name: str, folders: list[Path]) -> Recipe:
    from provisioner.errors import UsageError
    from provisioner.fleet.recipes import find_recipe

    _folders(folders)
    try:
        return find_recipe(name, folders, builtin=False) if folders else find_recipe(name)
    except UsageError:
        if not folders:
            raise
        return find_recipe(name, folders)


def _folders(folders: list[Path]) -> None:
    from provisioner.errors import UsageError

    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--recipes: no such folder: {folder}")


def _summary(recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": recipe.id,
        "names": list(recipe.own_names),
        "title": recipe.meta.title,
        "variants": list(recipe.variants),
        "strategies": list(recipe.compatible_strategies),
        "file": str(recipe.file),
    }


def _print(data: Any) -> None:
    from json import dumps

    out(dumps(data, ensure_ascii=False, indent=1))
