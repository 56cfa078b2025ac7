"""validate: proving servers as they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.cli import show
from provisioner.cli.alone import OnLook, alone
from provisioner.cli.console import say
from provisioner.cli.doing import executed
from provisioner.cli.events import shown
from provisioner.cli.looking import connections_to, load, surveyed, worst
from provisioner.cli.rolling import Ended
from provisioner.errors import Exit
from provisioner.rollout.connections import Connections
from provisioner.rollout.execute import Options, execute
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.survey import Survey

if TYPE_CHECKING:
    from provisioner.history.rundir import Run
    from provisioner.rollout.leases import Leases


def validate(
    path: Path,
    hosts: Sequence[str],
    *,
    smoke: bool,
    json: bool,
    bundle: Path | None = None,
    lock_wait_s: float = 0.0,
) -> Exit:
    """Validates what runs as planned; a host with changes pending is an error, since it would prove something else."""
    fleet, recipes = load(path, hosts)
    environment = take_from_environment(fleet)

    def look(on_look: OnLook) -> Survey | Exit:
        seen = surveyed(fleet, recipes, connections, environment, bundle=bundle)
        on_look(seen.hosts)
        pending = [host for host in seen.fit if host.changes]
        if seen.unfit or pending:
            if seen.unfit:
                say(show.problems(seen))
            for host in pending:
                say(f"{host.host.name}: not as planned; run `{seen.plan_command}` to see why")
            return worst(seen) if seen.unfit else Exit.CHANGES
        everything = tuple(
            replace(host, unproven=dict.fromkeys((server.name for server in host.plan.servers), "asked for"))
            if host.plan
            else host
            for host in seen.hosts
        )
        return replace(seen, hosts=everything)

    def do(seen: Survey, name: str, leases: Leases) -> Exit:
        options = Options(depth="smoke" if smoke else "benchmark")
        return executed(seen, connections, options, _validated, name, leases, json=json)

    with connections_to(fleet) as connections:
        return alone(fleet, connections, look, do, hosts=lambda seen: seen.work, wait_s=lock_wait_s)


def _validated(seen: Survey, connections: Connections, run: Run, options: Options) -> Ended:
    with shown([host.host.name for host in seen.work], run) as on_event:
        return Ended(execute(seen, connections, run.path, on_event=on_event, options=options))
