"""plan and check: what a run would change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.cli import show
from provisioner.cli.console import interrupt_flag, out, say
from provisioner.cli.doing import strategy_of
from provisioner.cli.events import shown
from provisioner.cli.looking import connections_to, load, surveyed, worst
from provisioner.errors import Exit
from provisioner.rollout.check import check as ask_ansible
from provisioner.rollout.check import failures
from provisioner.rollout.outcome import HostOutcome, exit_code


def plan(
    path: Path,
    hosts: Sequence[str],
    *,
    json: bool,
    diff: bool,
    update_lock: bool = False,
    bundle: Path | None = None,
) -> Exit:
    """What would change. 0: nothing; 5: something; otherwise what stands in the way."""
    fleet, recipes = load(path, hosts)
    with connections_to(fleet) as connections:
        seen = surveyed(fleet, recipes, connections, update_lock=update_lock, some=bool(hosts), bundle=bundle)
    out(show.plan_json(seen) if json else show.plan(seen, diff=diff))
    if seen.unfit:
        say(show.problems(seen))
        return worst(seen)
    return Exit.CHANGES if seen.work else Exit.OK


def check(path: Path, hosts: Sequence[str], *, strategy: str, json: bool, diff: bool) -> Exit:
    """The plan, and what Ansible's check mode says that the roles would do. Exits as `plan` does; changes nothing."""
    chosen = strategy_of(strategy)
    fleet, recipes = load(path, hosts)
    with connections_to(fleet) as connections:
        seen = surveyed(fleet, recipes, connections)
    changing = [host.host.name for host in seen.fit if host.changes]
    with interrupt_flag() as interrupted, shown(changing, None) as on_event:
        results = ask_ansible(seen, on_event=on_event, strategy=chosen, interrupted=interrupted)
    out(show.check_json(seen, results) if json else show.check(seen, results, diff=diff))
    failed = failures(results)
    if seen.unfit:
        say(show.problems(seen))
    if failed:
        say(show.failures(failed))
    if seen.unfit or failed:
        return exit_code([*failed, *(HostOutcome(host.host.name, host.exit_code) for host in seen.unfit)])
    return Exit.CHANGES if seen.work else Exit.OK
