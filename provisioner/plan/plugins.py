"""Parser plugins: single files of model repositories, which the servers load."""

from __future__ import annotations

import re

from provisioner.fleet.models import Server
from provisioner.fleet.recipes import Command, Recipe
from provisioner.plan import flags, model
from provisioner.plan.lock import Lock

REVISION = "main"
"""where nothing else is said"""
_FLAG = "--reasoning-parser-plugin"


def plugin_names(server: Server, recipe: Recipe) -> tuple[str, ...]:
    """Every parser plugin that the server may need, on whatever hardware: what to look for before that is known."""
    in_recipe = re.findall(rf'"{_FLAG}","([^"/]+)"', recipe.model_dump_json())
    own = flags.value_of(server.extra_args, _FLAG) or server.reasoning_parser_plugin
    return tuple(dict.fromkeys([*in_recipe, *([own] if own and "/" not in own else [])]))


def plugins_of(argv: tuple[str, ...], command: Command, image: str, lock: Lock) -> tuple[model.Plugin, ...]:
    """The plugins that these arguments name, as the lock has them. A path is a file of the image."""
    file = flags.value_of(argv, _FLAG)
    if not file or "/" in file:
        return ()
    repo = command.plugin_repo or command.model_id
    locked = lock.plugin(repo, REVISION, file)
    if locked is None:
        return (model.Plugin(repo=repo, revision=REVISION, file=file, image=image),)
    return (model.Plugin(repo=repo, revision=locked.commit, file=file, image=image, sha256=locked.sha256),)
