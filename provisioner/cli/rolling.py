"""A rollout on the screen and in the record: what the terminal and the history have to do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioner.cli.console import at_terminal, confirm
from provisioner.cli.events import shown
from provisioner.errors import Exit, UsageError
from provisioner.rollout import approval
from provisioner.rollout.connections import Connections
from provisioner.rollout.course import Course, asks
from provisioner.rollout.outcome import HostOutcome, exit_code
from provisioner.rollout.survey import Survey
from provisioner.rollout.waves import Wave, turns

if TYPE_CHECKING:
    from provisioner.history.rundir import Run
    from provisioner.rollout.execute import Options


@dataclass(frozen=True)
class Ended:
    """How something that was done to hosts ended."""

    outcomes: tuple[HostOutcome, ...]
    course: Course | None = None
    """of a rollout"""

    @property
    def exit_code(self) -> Exit:
        """That of the hosts; where all is well with them and the rollout did not reach its end, why."""
        code = exit_code(self.outcomes)
        if code != Exit.OK or self.course is None or not self.course.reason:
            return code
        return Exit.INTERRUPTED if self.course.interrupted else Exit.CHANGES


def rolled_out(seen: Survey, connections: Connections, run: Run, options: Options) -> Ended:
    """Wave after wave, each behind its gate."""
    from provisioner.rollout.deploy import Hands, Rollout

    def approve(wave: Wave, following: Wave) -> str | None:
        command = seen.fleet.rollout.approve_command
        if command:
            return approval.ask(command, seen.fleet.name, run.record.id, wave, following, options.interrupted)
        question = f"{wave.name} passed. Go on with {following.name} ({', '.join(following.hosts)})?"
        return None if confirm(question) else "not approved"

    hands = Hands(
        shown=lambda hosts: shown(hosts, run),
        on_step=run.add_step,
        approve=approve,
        hide=run.hide,
        environment=seen.environment,
    )
    course, outcomes = Rollout(seen, connections, run.path, options, hands).run()
    return Ended(outcomes, course)


def check_approval(seen: Survey) -> None:
    """UsageError when somebody has to say yes between two waves and there is nobody to ask."""
    rollout = seen.fleet.rollout
    asking = [wave for wave in turns(seen)[:-1] if asks(rollout, wave)]
    if asking and not rollout.approve_command and not at_terminal():
        raise UsageError(
            f"rollout.approve: there is no terminal to ask at after {asking[0].name}",
            hint="give rollout.approve_command, or approve: never",
        )
