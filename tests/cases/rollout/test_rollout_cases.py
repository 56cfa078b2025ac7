"""Fleet file and what is on its hosts → the whole text of `provision plan`, with its waves.

A case is a folder: `fleet.yaml`, `hosts.yaml` (by host: the GPU's profile, and `fresh`, `old` or `planned`: nothing
there, an older release, all as planned) and `expected.txt`. After a change that is meant, `pytest tests/cases/rollout
--update-cases` writes the expected files again: read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from builders import converged, facts, spark
from worlds import World, proven

from provisioner.cli import show
from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Fleet
from provisioner.fleet.recipes import find_recipe
from provisioner.plan.facts import Facts
from provisioner.plan.resolve import plan_host

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.glob("*/fleet.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path, update_cases: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = load_fleet(case / "fleet.yaml")
    told = yaml.safe_load((case / "hosts.yaml").read_text(encoding="utf-8"))
    world = World({host.name: found(fleet, host.name, told[host.name]) for host in fleet.hosts})
    text = show.plan(world.survey(monkeypatch, fleet), diff=False).replace(str(case), "CASE") + "\n"
    expected = case / "expected.txt"
    if update_cases:
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")


def test_every_folder_is_a_case() -> None:
    assert sorted(path for path in HERE.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))) == CASES


def found(fleet: Fleet, host: str, words: str) -> Facts:
    gpu, state = words.split()
    empty = spark(host) if gpu == "spark" else facts(host)
    if state == "fresh":
        return empty
    recipes = {name: find_recipe(name, fleet.recipes) for name in fleet.recipe_names()}
    of = plan_host(fleet, fleet.host(host), empty, recipes)
    if state == "planned":
        return proven(converged(of, empty), of)
    server = of.servers[0]
    unit = server.unit_file.model_copy(update={"content": f"{server.unit_file.content}# of an older release\n"})
    old = server.model_copy(update={"unit_file": unit, "argv": (*server.argv, "--seed", "1")})
    before = of.model_copy(update={"servers": (old,)})
    return proven(converged(before, empty), before)
