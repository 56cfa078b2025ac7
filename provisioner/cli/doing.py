"""Doing what there is to do on hosts: with a record of it, and what is printed of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast, get_args

from provisioner.apply.runner import Strategy
from provisioner.cli import show
from provisioner.cli.console import interrupt_flag, out, say
from provisioner.cli.rolling import Ended
from provisioner.errors import Exit, UsageError
from provisioner.plan.model import Changes, Server
from provisioner.plan.workload import workload
from provisioner.rollout.connections import Connections
from provisioner.rollout.survey import HostSurvey, Survey

if TYPE_CHECKING:
    from provisioner.history.rundir import Run
    from provisioner.history.verdict import ServerVerdict
    from provisioner.rollout.execute import Options
    from provisioner.rollout.leases import Leases


Do = Callable[[Survey, Connections, "Run", "Options"], Ended]


def executed(
    seen: Survey, connections: Connections, options: Options, do: Do, name: str, leases: Leases, *, json: bool
) -> Exit:
    """Do it and report, with a record of it however it ends, and tell those who want to know."""
    from provisioner.cli.told import notifier_of, tell_end, tell_step
    from provisioner.history.finishing import finishing
    from provisioner.history.rundir import create_run
    from provisioner.rollout.baseline import BaselineGate
    from provisioner.rollout.drift import drift_of, mended, remembered

    fleet = seen.fleet
    run = create_run(
        fleet.name,
        name=name,
        command=sys.argv,
        fleet_path=fleet.path,
        hosts=[host.host.name for host in seen.work],
        secrets=tuple(seen.secrets.values()),
    )
    ended = Ended(())
    notifier = notifier_of(fleet, name, seen.environment or {}, tuple(seen.secrets.values()))
    run.on_step = lambda step: tell_step(notifier, step)

    def told_end(code: Exit) -> None:
        tell_end(notifier, code, ended.outcomes, ended.course.reason if ended.course else "")

    with finishing(run, told_end) as end:
        notifier.tell("started", show.started(seen), hosts=[host.host.name for host in seen.work])
        drift = remembered(drift_of(seen), run.store)
        for host in seen.fit:
            name = host.host.name
            run.save(f"plans/{name}.json", host.plan.model_dump_json(indent=1) if host.plan else "{}")
            run.save(f"changes/{name}.json", (host.changes or Changes(host=name)).model_dump_json(indent=1))
        with interrupt_flag() as interrupted:
            gate = BaselineGate(run.store, fleet)
            told = replace(
                options,
                interrupted=leases.stopped_by(interrupted),
                on_verdict=_recorded(run),
                on_promoted=lambda outcomes: gate.accept(run.record.id, outcomes),
                speed_gate=gate.judge,
                pace=gate.pace,
            )
            ended = do(seen, connections, run, told)
            if ended.course is None:  # a rollout has accepted what passed, wave by wave
                gate.accept(run.record.id, ended.outcomes)
            mended(
                drift, [one.host for one in ended.outcomes if one.exit_code == Exit.OK and not one.pending], run.store
            )
        end.code = report(json, seen, ended, run)
    return end.code


def report(json: bool, seen: Survey, ended: Ended, run: Run | None) -> Exit:
    """Prints what became of the hosts, and keeps it with the run."""
    outcomes = ended.outcomes
    verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts]
    document = show.outcome_json(seen, outcomes, run.path if run else None, ended.course)
    if run:
        run.save("report.json", document)
    if json:
        out(document)
    elif verdicts:
        _show_verdicts(seen.fleet.name, verdicts)
    text = show.outcome(outcomes, run.path if run else None, ended.course)
    say(text) if json else out(text)
    return ended.exit_code


def strategy_of(word: str) -> Strategy:
    """The way through hosts of that name; UsageError when there is none."""
    if word not in get_args(Strategy):
        raise UsageError(f"--strategy {word}: expected one of {', '.join(get_args(Strategy))}")
    return cast(Strategy, word)


def _recorded(run: Run) -> Callable[[HostSurvey, Server, ServerVerdict], None]:
    def record(seen: HostSurvey, server: Server, verdict: ServerVerdict) -> None:
        driver = seen.facts.driver_version if seen.facts else None
        run.add_verdict(verdict, workload=workload(server), driver=driver)

    return record


def _show_verdicts(fleet: str, verdicts: Sequence[ServerVerdict]) -> None:
    from rich.console import Console

    from provisioner.history.store import open_store
    from provisioner.report.table import lines, table
    from provisioner.report.trend import history

    with open_store(read_only=True) as store:
        before = history(store.measurements(fleet=fleet))
    Console().print(table(verdicts, before)) if sys.stdout.isatty() else out("\n".join(lines(verdicts, before)))
