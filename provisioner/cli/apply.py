"""apply: from flags to looking, asking and a rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from provisioner.apply.places import place_of
from provisioner.cli import show
from provisioner.cli.alone import OnLook, alone
from provisioner.cli.console import allowed, say
from provisioner.cli.doing import executed, report, strategy_of
from provisioner.cli.looking import check_bundle, connections_to, load, surveyed, worst
from provisioner.cli.rolling import Ended, check_approval, rolled_out
from provisioner.errors import Exit
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.survey import Survey
from provisioner.rollout.waves import may_return, turns

if TYPE_CHECKING:
    from provisioner.rollout.deadline import Deadline
    from provisioner.rollout.leases import Leases


@dataclass(frozen=True)
class ApplyFlags:
    """The flags of `provision apply`."""

    yes: bool
    hosts: tuple[str, ...]
    keep_going: bool
    smoke: bool
    strategy: str
    diff: bool
    update_lock: bool
    bundle: Path | None
    json: bool
    approve: bool = False
    lock_wait_s: float = 0.0
    executor: str = "local"
    """where Ansible runs"""
    deadline: Deadline | None = None
    """by when all must be over"""
    on_survey: Callable[[Survey], None] = lambda _: None
    """told what was seen"""


def apply(path: Path, flags: ApplyFlags) -> Exit:
    """Survey, ask, execute, report."""
    strategy = strategy_of(flags.strategy)
    fleet, recipes = load(path, flags.hosts)
    if flags.approve:
        asks = fleet.rollout.model_copy(update={"approve": "every_wave"})
        fleet = fleet.model_copy(update={"rollout": asks})
    environment = take_from_environment(fleet)

    def look(on_look: OnLook) -> Survey | Exit:
        seen = surveyed(
            fleet,
            recipes,
            connections,
            environment,
            update_lock=flags.update_lock,
            some=bool(flags.hosts),
            bundle=flags.bundle,
        )
        flags.on_survey(seen)
        on_look(seen.hosts)
        if seen.unfit:
            say(show.problems(seen))
            if not (flags.keep_going and seen.fit):
                say(show.nothing_changed(seen))
                return worst(seen)
        if not seen.work:
            return report(flags.json, seen, Ended(_nothing(seen)), None)
        say(show.plan(seen, diff=flags.diff))
        late = _too_late(flags.deadline, seen)(turns(seen)[0].hosts, ())
        if late:
            say(f"nothing was changed: {late}")
            return Exit.CHANGES
        check_approval(seen)
        if not flags.yes and not allowed(f"Change {len(seen.work)} of {len(seen.hosts)} hosts?", "change hosts"):
            say("nothing was changed")
            return Exit.CHANGES
        check_bundle(seen)
        place.check()
        return seen

    def do(seen: Survey, name: str, leases: Leases) -> Exit:
        from provisioner.rollout.execute import Options  # not before there is something to do: it takes its time

        depth: Literal["smoke", "benchmark"] = "smoke" if flags.smoke else fleet.rollout.analysis
        too_late = _too_late(flags.deadline, seen)
        options = Options(strategy=strategy, depth=depth, too_late=too_late, place=place)
        return executed(seen, connections, options, rolled_out, name, leases, json=flags.json)

    with connections_to(fleet) as connections, place_of(flags.executor) as place:
        return alone(fleet, connections, look, do, hosts=lambda seen: seen.work, wait_s=flags.lock_wait_s)


def _nothing(seen: Survey) -> tuple[HostOutcome, ...]:
    """Outcomes of a converged fleet."""
    return tuple(
        HostOutcome(host.host.name, host.exit_code, untouched=host.fit, message="; ".join(host.problems))
        for host in seen.hosts
    )


def _too_late(deadline: Deadline | None, seen: Survey) -> Callable[[Sequence[str], Sequence[str]], str | None]:
    """Why a wave of these hosts must not begin any more, after those that were changed; None where it may."""
    if deadline is None:
        return lambda _hosts, _changed: None

    def refuses(hosts: Sequence[str], changed: Sequence[str]) -> str | None:
        from provisioner.history.store import open_store
        from provisioner.rollout.deadline import expected

        with open_store(read_only=True) as store:
            takes = expected(store, seen.fleet.name, hosts, may_return(seen, hosts, changed), deadline.wave_s)
        return deadline.refuses(takes)

    return refuses
