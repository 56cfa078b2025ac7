"""What the people whom a fleet file names are told of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from provisioner.apply.runner import HostResult
from provisioner.cli import show, show_removal
from provisioner.cli.console import say
from provisioner.errors import Exit
from provisioner.fleet.models import Fleet
from provisioner.rollout.execute import outcome_of
from provisioner.rollout.outcome import HostOutcome

if TYPE_CHECKING:
    from provisioner.history.steps import Step
    from provisioner.rollout.notify import Notifier


def notifier_of(fleet: Fleet, run: str, environment: Mapping[str, str], secrets: Sequence[str] = ()) -> Notifier:
    """Tells those whom the fleet file names, and this terminal what of it failed."""
    from provisioner.rollout.notify import Notifier

    return Notifier(fleet.notify, fleet=fleet.name, run=run, warn=say, environment=environment, secrets=secrets)


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
    _tell_end(notifier, code, show.ended(code, outcomes, reason), outcomes, reason)


def tell_removed(notifier: Notifier, code: Exit, results: Sequence[HostResult]) -> None:
    """That a removal ended, and what became of its hosts."""
    _tell_end(notifier, code, show_removal.ended(code, results), tuple(map(outcome_of, results)), "")


def tell_tuned(notifier: Notifier, code: Exit, host: str, text: str) -> None:
    """That a tuning of a server on that host ended, and what came of it."""
    _tell_end(notifier, code, text, (HostOutcome(host, code, message=text),), "")


def _tell_end(notifier: Notifier, code: Exit, text: str, outcomes: Sequence[HostOutcome], reason: str) -> None:
    hosts = {one.host: {"exit_code": int(one.exit_code), "message": one.message} for one in outcomes}
    notifier.tell("finished" if code == Exit.OK else "failed", text, exit_code=int(code), reason=reason, hosts=hosts)
