"""What Ansible itself would do: its check mode on every host with changes. Nothing is changed, proofs stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from provisioner.apply.runner import HostResult, Strategy, apply
from provisioner.history.events import Event, OnEvent
from provisioner.plan.roles import roles_to_run
from provisioner.rollout.execute import outcome_of
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.survey import Survey


def check(
    survey: Survey, *, on_event: OnEvent, strategy: Strategy, interrupted: Callable[[], bool]
) -> tuple[HostResult, ...]:
    """What the roles say on the fit hosts with changes, in the fleet's order; nothing of it is kept on this machine."""
    plans = [seen.plan for seen in survey.fit if seen.plan and seen.changes]
    if not plans:
        return ()

    def take(event: Event) -> None:
        on_event(event.model_copy(update={"phase": "check"}))

    with TemporaryDirectory(prefix="provision-check-") as folder:
        return apply(
            Path(folder),
            survey.fleet,
            plans,
            survey.secrets,
            on_event=take,
            interrupted=interrupted,
            strategy=strategy,
            check=True,
            roles=roles_to_run(seen.changes for seen in survey.fit if seen.changes),
        )


def failures(results: Sequence[HostResult]) -> tuple[HostOutcome, ...]:
    """The hosts on which the roles came to no end, as a run would call them."""
    return tuple(outcome_of(result) for result in results if result.state != "ok")
