"""render: what a run would write, written here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.cli import show
from provisioner.cli.console import say
from provisioner.cli.looking import connections_to, load, surveyed, worst
from provisioner.errors import Exit
from provisioner.history.facts import read_facts
from provisioner.rollout.locking import check_survey, read_lock
from provisioner.rollout.recorded import recorded_survey
from provisioner.rollout.rendered import write_rendered


def render(path: Path, hosts: Sequence[str], output: Path, facts: Path | None) -> Exit:
    """The inventory that a run would use, and every file as it will stand. With `facts`, no host is reached."""
    fleet, recipes = load(path, hosts)
    if facts is not None:
        seen = recorded_survey(fleet, recipes, read_facts(facts), read_lock(fleet, recipes))
        check_survey(seen, recipes)
    else:
        with connections_to(fleet) as connections:
            seen = surveyed(fleet, recipes, connections, compare=False)
    if seen.unfit:
        say(show.problems(seen))
        return worst(seen)
    count = write_rendered(output, seen)
    say(f"inventory of {len(seen.hosts)} hosts in {output}/inventory, {count} files in {output}/files")
    say("secrets are looked up when Ansible runs: their files here are stand-ins")
    return Exit.OK
