"""A fleet as Ansible lists an inventory: what the inventory plugin hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.apply.inventory import connection, secret_lookups, secret_references
from provisioner.fleet.load import load
from provisioner.fleet.recipes import find_recipe
from provisioner.history.facts import facts_file, read_facts
from provisioner.inventory.read import read_inventory
from provisioner.plan.variables import role_variables
from provisioner.rollout.locking import check_survey, read_lock
from provisioner.rollout.recorded import recorded_survey


@dataclass(frozen=True)
class Listing:
    """Hosts, groups and variables; `Expression` strings are for Ansible to evaluate, all others are data."""

    hosts: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, tuple[str, ...]]
    variables: Mapping[str, Any]
    """of all hosts"""
    warnings: tuple[str, ...]


def listing(path: Path, facts: Path | None = None) -> Listing:
    """The fleet of a file. Without recorded facts hosts have their connection variables alone, and a warning says so.

    `facts` None looks for the file beside the fleet file. Raises ProvisionError for what cannot be read.
    """
    loaded = load(path, read_inventory)
    fleet = loaded.fleet
    hosts = {host.name: connection(fleet, host) for host in fleet.hosts}
    groups = {name: tuple(host for host in members if host in hosts) for name, members in loaded.members.items()}
    groups = {name: members for name, members in groups.items() if members and name != "all"}
    file = facts or facts_file(path)
    if facts is None and not file.exists():
        hint = f"write it with `provision probe {path} --json > {file}`"
        return Listing(hosts, groups, {}, (f"{file} is not there: hosts have no variables of roles; {hint}",))
    recipes = {name: find_recipe(name, fleet.recipes) for name in fleet.recipe_names()}
    seen = recorded_survey(fleet, recipes, read_facts(file), read_lock(fleet, recipes))
    check_survey(seen, recipes)
    plans = [host.plan for host in seen.hosts if host.plan]
    for plan in plans:
        hosts[plan.host] |= role_variables(plan)
    warnings = tuple(f"{host.host.name} has no variables of roles: {'; '.join(host.problems)}" for host in seen.unfit)
    return Listing(hosts, groups, secret_lookups(secret_references(plans)), warnings)
