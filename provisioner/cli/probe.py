"""probe: what is on the hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.cli import show
from provisioner.cli.console import out, say
from provisioner.cli.looking import connections_to, load, surveyed
from provisioner.errors import Exit


def probe(path: Path, hosts: Sequence[str], *, json: bool) -> Exit:
    """Facts of every host."""
    fleet, recipes = load(path, hosts)
    with connections_to(fleet) as connections:
        seen = surveyed(fleet, recipes, connections, compare=False, locked=False)
    out(show.facts_json(seen) if json else show.facts(seen))
    unreached = [host for host in seen.hosts if host.facts is None]
    for host in unreached:
        say("; ".join(host.problems))
    return unreached[0].exit_code if unreached else Exit.OK
