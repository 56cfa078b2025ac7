"""Our commands are those of the public recipes' own builder, for every line of a catalogue's expectations.

PROVISION_RECIPES names a folder with `models/`, `strategies/`, `taxonomy.yaml` and `expected.jsonl`: one JSON object a
line with file, hf_id, variant, hardware, strategy, argv, env and image.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import pytest

from provisioner.fleet.recipes import Recipe, find_recipe, resolve
from provisioner.fleet.taxonomy import Taxonomy, read_taxonomy

ROOT = os.environ.get("PROVISION_RECIPES")
LINES = Path(ROOT, "expected.jsonl").read_text(encoding="utf-8").splitlines() if ROOT else []

pytestmark = pytest.mark.skipif(
    not LINES,
    reason="PROVISION_RECIPES is not set to a folder with models/, strategies/, taxonomy.yaml, expected.jsonl",
)


@cache
def taxonomy() -> Taxonomy:
    return read_taxonomy(Path(str(ROOT)))


@cache
def recipe(name: str) -> Recipe:
    return find_recipe(name, [Path(str(ROOT))], builtin=False)


@pytest.mark.parametrize("line", LINES or ["{}"])
def test_command_is_the_catalogues(line: str) -> None:
    wanted = json.loads(line)
    found = recipe(wanted["hf_id"])
    # A checkpoint whose own recipe is not in the catalogue is served by its family's: there its variant is meant.
    own = wanted["variant"] != "default" or found.id == wanted["hf_id"]
    command = resolve(
        found,
        variant=wanted["variant"] if own else found.checkpoint or "default",
        hardware=wanted["hardware"],
        strategy=wanted["strategy"],
        taxonomy=taxonomy(),
    )
    assert ["vllm", "serve", *command.argv] == wanted["argv"]
    assert command.env == {key: str(value) for key, value in wanted["env"].items()}
    assert command.image == wanted["image"]
