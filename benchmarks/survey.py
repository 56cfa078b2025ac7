"""What the control machine does for each host of a survey, SSH apart: parse, plan, compare.

python benchmarks/survey.py FLEET     (FLEET: a fleet file; every host gives the same recorded answer)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Host
from provisioner.fleet.recipes import find_recipe
from provisioner.history.events import Event
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.probe_script import BEGIN, END
from provisioner.rollout.connections import Connections
from provisioner.rollout.survey import survey

RECORDED = Path(__file__).resolve().parents[1] / "tests" / "recorded" / "probe" / "amd64-serving.json"


def main(path: Path) -> int:
    """Prints seconds by step as JSON."""
    began = time.perf_counter()
    fleet = load_fleet(path)
    recipes = {name: find_recipe(name, fleet.recipes) for name in fleet.recipe_names()}
    loaded = time.perf_counter()
    answer = recorded_answer()
    events: list[Event] = []
    add: Callable[[Event], None] = events.append
    with Connections(lambda host: _transport(host, answer)) as connections:
        seen = survey(fleet, recipes, connections, on_event=add)
    if not all(host.facts for host in seen.hosts):
        raise SystemExit(next(host.problems for host in seen.hosts if not host.facts))
    print(json.dumps({"load": loaded - began, "survey": time.perf_counter() - loaded}))
    return 0


def recorded_answer() -> str:
    """What a lab host said to the probe."""
    return f"{BEGIN}\n{json.dumps(json.loads(RECORDED.read_text(encoding='utf-8')), sort_keys=True)}\n{END}\n"


def _transport(host: Host, answer: str) -> FakeTransport:
    return FakeTransport(host.name, [("python3", answer)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
