"""`provision explain`: each value of a host and where it came from."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path

from provisioner.cli.console import out
from provisioner.errors import Exit, UsageError
from provisioner.fleet.load import Loaded, load
from provisioner.fleet.recipes import Command, Recipe, find_recipe, resolve
from provisioner.fleet.sources import Said, matching, sources
from provisioner.inventory.read import read_inventory


def explain(path: Path, host: str, key: str | None, *, hardware: str | None, json: bool) -> Exit:
    """Prints a table (or JSON) of key, value and source."""
    loaded = load(path, read_inventory)
    said = sources(loaded, host, _commands(loaded, host, hardware))
    chosen = matching(said, key) if key else said
    out(jsonlib.dumps([one.model_dump() for one in chosen], indent=1) if json else table(chosen))
    return Exit.OK


def table(said: tuple[Said, ...]) -> str:
    """Three columns; long values do not widen them."""
    keys = max(len(one.key) for one in said)
    values = min(40, max(len(one.value) for one in said))
    return "\n".join(f"{one.key:<{keys}}  {one.value:<{values}}  {one.source}" for one in said)


def _commands(loaded: Loaded, host: str, hardware: str | None) -> dict[str, tuple[Recipe, Command]]:
    """What the recipes make of the hardware, where it is known without looking at the host."""
    if host not in loaded.host_paths:
        return {}
    known = hardware or loaded.fleet.host(host).hardware
    commands = {}
    for server in loaded.fleet.servers_on(host) if known else ():
        recipe = find_recipe(server.recipe, loaded.fleet.recipes)
        count = None if server.gpus == "all" else server.gpus if isinstance(server.gpus, int) else len(server.gpus)
        try:
            command = resolve(
                recipe, variant=server.variant, hardware=known or "", gpu_count=count, features=server.features
            )
        except UsageError as error:
            raise UsageError(f"{host}: server {server.name}: {error.message}", hint=error.hint) from error
        commands[server.name] = (recipe, command)
    return commands
