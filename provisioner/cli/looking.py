"""What every command looks at first: the fleet file, and its hosts as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.cli.console import say
from provisioner.cli.events import shown
from provisioner.cli.relock import relock
from provisioner.errors import Exit, UsageError
from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Fleet
from provisioner.fleet.recipes import Recipe, find_recipe
from provisioner.hosts.ssh import connect
from provisioner.inventory.read import read_inventory
from provisioner.rollout.connections import Connections
from provisioner.rollout.locking import check_survey, read_lock, without_images
from provisioner.rollout.outcome import HostOutcome, exit_code
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.sharing import with_peers
from provisioner.rollout.store import check as check_files
from provisioner.rollout.store import read_bundle
from provisioner.rollout.survey import Survey, planned_again, survey


def load_hosts(path: Path, only: Sequence[str]) -> Fleet:
    """The fleet with these hosts alone; all of them where none is named. UsageError for names that are not in it."""
    fleet = load_fleet(path, read_inventory)
    unknown = set(only) - {host.name for host in fleet.hosts}
    if unknown:
        raise UsageError(f"--hosts: not in {path}: {', '.join(sorted(unknown))}")
    if only:
        fleet = fleet.model_copy(update={"hosts": tuple(host for host in fleet.hosts if host.name in only)})
    return fleet


def load(path: Path, only: Sequence[str]) -> tuple[Fleet, dict[str, Recipe]]:
    """The fleet as `load_hosts` has it, and its recipes by name."""
    fleet = load_hosts(path, only)
    return fleet, {name: find_recipe(name, fleet.recipes) for name in fleet.recipe_names()}


def connections_to(fleet: Fleet) -> Connections:
    """Ways to its hosts, opened when they are needed."""
    return Connections(lambda host: connect(host, fleet.ssh))


def surveyed(
    fleet: Fleet,
    recipes: dict[str, Recipe],
    connections: Connections,
    environment: dict[str, str] | None = None,
    *,
    compare: bool = True,
    locked: bool = True,
    update_lock: bool = False,
    some: bool = False,
    bundle: Path | None = None,
) -> Survey:
    """The hosts as they are and as they should be, on the screen as they are looked at.

    `locked`: with the fleet's lock, if it has one. `update_lock`: moved first; `some`: hosts are left out.

    `bundle`: hosts get what they lack from there. `environment`: what `take_from_environment` gave, where it was asked.
    """
    if bundle and update_lock:
        raise UsageError(
            "--bundle and --update-lock do not go together: a bundle holds what was locked when it was made"
        )
    environment = take_from_environment(fleet) if environment is None else environment
    lock = read_lock(fleet, recipes) if locked and not update_lock else None
    given = read_bundle(bundle, lock) if bundle else None
    with shown([host.name for host in fleet.hosts], None) as on_event:
        seen = survey(
            fleet,
            recipes,
            connections,
            on_event=on_event,
            compare=compare and not update_lock,
            environment=environment,
            lock=without_images(lock) if bundle else lock,
            bundle=given,
        )
    if update_lock:
        moved = relock(seen, recipes, environment, some=some)
        seen = planned_again(seen, recipes, moved, compare=compare, environment=environment)
    check_survey(seen, recipes, images=not bundle)
    return with_peers(seen)


def check_bundle(seen: Survey) -> None:
    """Reads all that hosts with work get from the bundle. UsageError names every file that is not what it was."""
    blobs = [blob for host in seen.work if host.bundled for blob in host.bundled.blobs()]
    if seen.bundle and blobs:
        say(f"checking {seen.bundle}")
        check_files(seen.bundle, blobs)


def looked_at(path: Path, hosts: Sequence[str], bundle: Path | None = None) -> Survey:
    """These hosts of a fleet (all where none is named) as they are and as they should be."""
    fleet, recipes = load(path, hosts)
    with connections_to(fleet) as connections:
        return surveyed(fleet, recipes, connections, bundle=bundle)


def worst(seen: Survey) -> Exit:
    """What the unfit hosts of a survey mean for the program."""
    return exit_code([HostOutcome(host.host.name, host.exit_code) for host in seen.unfit])
