"""Fleet file and facts → whole host plans, or the message why there is none.

A case is a folder: `fleet.yaml`, `facts/<host>.json`, a `fleet.lock` where one is used, and `expected.json` (by host:
the plan, or {"error": …}). After a change that is meant, `pytest tests/cases/plan --update-cases` writes the expected
files again: read the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import ProvisionError
from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Fleet, Host
from provisioner.fleet.recipes import Recipe, find_recipe
from provisioner.plan.facts import Facts
from provisioner.plan.lock import UNLOCKED, Lock, read_lock
from provisioner.plan.resolve import plan_host

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.glob("*/fleet.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path, update_cases: bool) -> None:
    fleet = load_fleet(case / "fleet.yaml")
    recipes = {name: find_recipe(name, fleet.recipes) for name in fleet.recipe_names()}
    lock = read_lock(fleet.path) or UNLOCKED
    made = {host.name: planned(fleet, host, facts(case, host), recipes, lock) for host in fleet.hosts}
    expected = case / "expected.json"
    if update_cases:
        expected.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert made == json.loads(expected.read_text(encoding="utf-8"))


def test_every_folder_is_a_case() -> None:
    assert sorted(path for path in HERE.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))) == CASES


def facts(case: Path, host: Host) -> Facts:
    return Facts.model_validate_json((case / "facts" / f"{host.name}.json").read_text(encoding="utf-8"))


def planned(fleet: Fleet, host: Host, seen: Facts, recipes: dict[str, Recipe], lock: Lock) -> dict[str, Any]:
    try:
        made = plan_host(fleet, host, seen, recipes, lock)
    except ProvisionError as error:
        return {"error": str(error)}
    return dict(json.loads(made.model_dump_json()))
