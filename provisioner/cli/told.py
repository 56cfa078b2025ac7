"""What the people whom a fleet file names are told of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from provisioner.cli import show
from provisioner.cli.console import say
from provisioner.errors import Exit
from provisioner.rollout.execute import HostOutcome
from provisioner.rollout.survey import Survey

if TYPE_CHECKING:
    from provisioner.history.steps import Step
    from provisioner.rollout.notify import Notifier


def notifier_of(seen: Survey, run: str) -> Notifier:
    """Tells those whom the fleet file names, and this terminal what of it failed."""
    from provisioner.rollout.notify import Notifier

    fleet, secrets = seen.fleet, tuple(seen.secrets.values())
    return Notifier(
        fleet.notify, fleet=fleet.name, run=run, warn=say, environment=seen.environment or {}, secrets=secrets
    )


def tell_step(notifier: Notifier, step: Step) -> None:
    """Of a rollout's steps: waves that passed their gate, and hosts that are back on their previous release or not."""
    hosts = show.some(step.hosts)
    if step.kind == "promoted":
        notifier.tell("wave", f"{step.wave} has passed its gate: {hosts}", wave=step.wave, hosts=step.hosts)
    elif step.kind in ("rolled_back", "stopped", "lost"):
        words = {
            "rolled_back": "serves its previous release again",
            "stopped": "had no previous release and is stopped",
            "lost": "COULD NOT BE BROUGHT BACK: somebody must look",
        }[step.kind]
        detail = f" ({step.detail})" if step.detail else ""
        notifier.tell("rolled_back", f"{hosts} {words}{detail}", state=step.kind, hosts=step.hosts)


def tell_end(notifier: Notifier, code: Exit, outcomes: Sequence[HostOutcome], reason: str) -> None:
    """That a run ended, and what became of its hosts. `reason`: why a rollout did not reach its end."""
    hosts = {one.host: {"exit_code": int(one.exit_code), "message": one.message} for one in outcomes}
    text = show.ended(code, outcomes, reason)
    notifier.tell("finished" if code == Exit.OK else "failed", text, exit_code=int(code), reason=reason, hosts=hosts)
