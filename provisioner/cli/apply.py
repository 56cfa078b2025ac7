"""apply, check, plan, probe, validate, render: from flags to one call each, and what is printed of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from rich.console import Console

from provisioner.apply.runner import Strategy
from provisioner.cli import show
from provisioner.cli.console import at_terminal, confirm, interrupt_flag, out, say
from provisioner.cli.events import shown as _shown
from provisioner.cli.lock import previous, relock
from provisioner.cli.lock import show as show_lock
from provisioner.errors import Exit, LockedError, ProvisionError, UsageError
from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Fleet
from provisioner.fleet.notify import Moment
from provisioner.fleet.recipes import Recipe, find_recipe
from provisioner.history.facts import read_facts
from provisioner.history.rundir import Run, create_run, new_name
from provisioner.history.store import open_store
from provisioner.history.turn import turn
from provisioner.history.verdict import ServerVerdict
from provisioner.hosts.ssh import connect
from provisioner.inventory.read import read_inventory
from provisioner.plan.lock import UNLOCKED, lock_file
from provisioner.plan.model import Changes, Server
from provisioner.plan.workload import workload
from provisioner.report.table import lines, table
from provisioner.report.trend import history
from provisioner.rollout.baseline import BaselineGate
from provisioner.rollout.check import check as ask_ansible
from provisioner.rollout.check import failures
from provisioner.rollout.connections import Connections
from provisioner.rollout.deadline import Deadline, expected_wave_s
from provisioner.rollout.drift import drift_of, mended, remembered
from provisioner.rollout.execute import HostOutcome, Options, execute, exit_code
from provisioner.rollout.leases import Leases, leased, who_am_i
from provisioner.rollout.locking import check_survey, make_lock, moves, read_lock, write_lock
from provisioner.rollout.notify import Notifier
from provisioner.rollout.recorded import recorded_survey
from provisioner.rollout.rendered import write_rendered
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.survey import HostSurvey, Survey, planned_again, survey

LOOKS = 5
"""at hosts that other runs change in between, before a run gives up"""


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
    json: bool
    lock_wait_s: float = 0.0
    deadline: Deadline | None = None
    """by when all must be over"""
    on_survey: Callable[[Survey], None] = lambda _: None
    """told what was seen"""


def apply(path: Path, flags: ApplyFlags) -> Exit:
    """Survey, ask, execute, report."""
    options = Options(strategy=_strategy(flags.strategy), depth="smoke" if flags.smoke else "benchmark")
    fleet, recipes = _load(path, flags.hosts)
    environment = take_from_environment(fleet)

    def look(connections: Connections) -> Survey | Exit:
        seen = _survey(fleet, recipes, connections, environment, update_lock=flags.update_lock, some=bool(flags.hosts))
        flags.on_survey(seen)
        if seen.unfit:
            say(show.problems(seen))
            if not (flags.keep_going and seen.fit):
                say(show.nothing_changed(seen))
                return worst(seen)
        if not seen.work:
            return _report(flags.json, seen, execute_nothing(seen), None)
        say(show.plan(seen, diff=flags.diff))
        if flags.deadline and (why := _too_late(flags.deadline, seen)):
            say(f"nothing was changed: {why}")
            return Exit.CHANGES
        if not flags.yes and not _allowed(seen):
            say("nothing was changed")
            return Exit.CHANGES
        return seen

    return _alone(fleet, look, options, environment, wait_s=flags.lock_wait_s, json=flags.json)


def plan(path: Path, hosts: Sequence[str], *, json: bool, diff: bool, update_lock: bool = False) -> Exit:
    """What would change. 0: nothing; 5: something; otherwise what stands in the way."""
    fleet, recipes = _load(path, hosts)
    with _connections(fleet) as connections:
        seen = _survey(fleet, recipes, connections, update_lock=update_lock, some=bool(hosts))
    out(show.plan_json(seen) if json else show.plan(seen, diff=diff))
    if seen.unfit:
        say(show.problems(seen))
        return worst(seen)
    return Exit.CHANGES if seen.work else Exit.OK


def check(path: Path, hosts: Sequence[str], *, strategy: str, json: bool, diff: bool) -> Exit:
    """The plan, and what Ansible's check mode says that the roles would do. Exits as `plan` does; changes nothing."""
    chosen = _strategy(strategy)
    fleet, recipes = _load(path, hosts)
    with _connections(fleet) as connections:
        seen = _survey(fleet, recipes, connections)
    changing = [host.host.name for host in seen.fit if host.changes]
    with interrupt_flag() as interrupted, _shown(changing, None) as on_event:
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


def probe(path: Path, hosts: Sequence[str], *, json: bool) -> Exit:
    """Facts of every host."""
    fleet, recipes = _load(path, hosts)
    with _connections(fleet) as connections:
        seen = _survey(fleet, recipes, connections, compare=False, locked=False)
    out(show.facts_json(seen) if json else show.facts(seen))
    unreached = [host for host in seen.hosts if host.facts is None]
    for host in unreached:
        say("; ".join(host.problems))
    return unreached[0].exit_code if unreached else Exit.OK


def validate(path: Path, hosts: Sequence[str], *, smoke: bool, json: bool, lock_wait_s: float = 0.0) -> Exit:
    """Validates what runs as planned; a host with changes pending is an error, since it would prove something else."""
    fleet, recipes = _load(path, hosts)
    environment = take_from_environment(fleet)

    def look(connections: Connections) -> Survey | Exit:
        seen = _survey(fleet, recipes, connections, environment)
        pending = [host for host in seen.fit if host.changes]
        if seen.unfit or pending:
            if seen.unfit:
                say(show.problems(seen))
            for host in pending:
                say(f"{host.host.name}: not as planned; run `provision plan {path}` to see why")
            return worst(seen) if seen.unfit else Exit.CHANGES
        everything = tuple(
            replace(host, unproven=dict.fromkeys((server.name for server in host.plan.servers), "asked for"))
            if host.plan
            else host
            for host in seen.hosts
        )
        return replace(seen, hosts=everything)

    options = Options(depth="smoke" if smoke else "benchmark")
    return _alone(fleet, look, options, environment, wait_s=lock_wait_s, json=json)


def render(path: Path, hosts: Sequence[str], output: Path, facts: Path | None) -> Exit:
    """The inventory that a run would use, and every file as it will stand. With `facts`, no host is reached."""
    fleet, recipes = _load(path, hosts)
    if facts is not None:
        seen = recorded_survey(fleet, recipes, read_facts(facts), read_lock(fleet, recipes))
        check_survey(seen, recipes)
    else:
        with _connections(fleet) as connections:
            seen = _survey(fleet, recipes, connections, compare=False)
    if seen.unfit:
        say(show.problems(seen))
        return worst(seen)
    count = write_rendered(output, seen)
    say(f"inventory of {len(seen.hosts)} hosts in {output}/inventory, {count} files in {output}/files")
    say("secrets are looked up when Ansible runs: their files here are stand-ins")
    return Exit.OK


def lock(path: Path, hosts: Sequence[str], facts: Path | None, *, update: bool, check: bool, json: bool) -> Exit:
    """Writes what the fleet's names stand for now: what the lock lacks, or with `update` all of it."""
    fleet, recipes = _load(path, hosts)
    environment = take_from_environment(fleet)
    old = previous(path, some=bool(hosts)) if update else read_lock(fleet, recipes) or UNLOCKED
    planned_with = None if update else old
    if facts is not None:
        seen = recorded_survey(fleet, recipes, read_facts(facts), planned_with)
    else:
        with _connections(fleet) as connections, _shown([host.name for host in fleet.hosts], None) as on_event:
            seen = survey(fleet, recipes, connections, on_event=on_event, compare=False, lock=planned_with)
    new = make_lock(seen, recipes, UNLOCKED if update and not hosts else old, environment)
    moved = moves(old, new)
    if moved and not check:
        write_lock(fleet, new)
    return show_lock(lock_file(path), new, moved, check=check, json=json)


def execute_nothing(seen: Survey) -> tuple[HostOutcome, ...]:
    """Outcomes of a converged fleet."""
    return tuple(
        HostOutcome(host.host.name, host.exit_code, untouched=host.fit, message="; ".join(host.problems))
        for host in seen.hosts
    )


def looked_at(path: Path, hosts: Sequence[str]) -> Survey:
    """These hosts of a fleet (all where none is named) as they are and as they should be."""
    fleet, recipes = _load(path, hosts)
    with _connections(fleet) as connections:
        return _survey(fleet, recipes, connections)


def worst(seen: Survey) -> Exit:
    """What the unfit hosts of a survey mean for the program."""
    return exit_code([HostOutcome(host.host.name, host.exit_code) for host in seen.unfit])


def _alone(
    fleet: Fleet,
    look: Callable[[Connections], Survey | Exit],
    options: Options,
    environment: Mapping[str, str],
    *,
    wait_s: float,
    json: bool,
) -> Exit:
    """Looks, and executes what there is to do, while no other run is at work on the fleet or on one of these hosts.

    The hosts are leased once it is known which have work. Where another run was there since they were looked at, what
    was seen is not so any more: they are looked at again.
    """
    command = shlex.join(["provision", *sys.argv[1:]])
    with turn(fleet.name, command, wait_s=wait_s, on_wait=say), _connections(fleet) as connections:
        for _ in range(LOOKS):
            seen = look(connections)
            if isinstance(seen, Exit):
                return seen
            name, hosts = new_name(), [host.host for host in seen.work]
            with leased(connections, hosts, who_am_i(fleet.name, name), wait_s=wait_s, say=say) as leases:
                if leases.untouched_since({host.host.name: host.facts for host in seen.work}):
                    notifier = notifier_of(seen, name, environment)
                    return _executed(seen, connections, options, leases, notifier, name=name, json=json)
            say("another run was at work since these hosts were looked at: looking again")
    raise LockedError(f"other runs were at work on these hosts in between, {LOOKS} times", hint="--lock-wait 10m")


def _executed(
    seen: Survey,
    connections: Connections,
    options: Options,
    leases: Leases,
    notifier: Notifier,
    *,
    name: str,
    json: bool,
) -> Exit:
    """Execute and report, with a record of it however it ends."""
    fleet = seen.fleet
    run = create_run(
        fleet.name,
        name=name,
        command=sys.argv,
        fleet_path=fleet.path,
        hosts=[host.host.name for host in seen.work],
        secrets=tuple(seen.secrets.values()),
    )
    code, outcomes = Exit.HOST_FAILED, tuple[HostOutcome, ...]()
    notifier.tell("started", show.started(seen), hosts=[host.host.name for host in seen.work])
    try:
        drift = remembered(drift_of(seen), run.store)
        for host in seen.fit:
            name = host.host.name
            run.save(f"plans/{name}.json", host.plan.model_dump_json(indent=1) if host.plan else "{}")
            run.save(f"changes/{name}.json", (host.changes or Changes(host=name)).model_dump_json(indent=1))
        with interrupt_flag() as interrupted, _shown([host.host.name for host in seen.work], run) as on_event:
            gate = BaselineGate(run.store, fleet)
            stop = lambda: interrupted() or bool(leases.lost)  # noqa: E731
            told = replace(options, interrupted=stop, on_verdict=_recorded(run), speed_gate=gate.judge)
            outcomes = execute(seen, connections, run.path, on_event=on_event, options=told)
            gate.accept(run.record.id, outcomes)
            mended(drift, [one.host for one in outcomes if one.exit_code == Exit.OK], run.store)
        code = _report(json, seen, outcomes, run)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
        raise
    except ProvisionError as error:
        code = Exit(error.exit_code)
        raise
    finally:
        run.finish(code)
        tell_end(notifier, code, outcomes)
    return code


def notifier_of(seen: Survey, run: str, environment: Mapping[str, str]) -> Notifier:
    """Tells those whom the fleet file names, and this terminal what of it failed."""
    fleet = seen.fleet
    secrets = tuple(seen.secrets.values())
    return Notifier(fleet.notify, fleet=fleet.name, run=run, warn=say, environment=environment, secrets=secrets)


def tell_end(notifier: Notifier, code: Exit, outcomes: Sequence[HostOutcome]) -> None:
    """That a run ended, and what became of its hosts."""
    hosts = {one.host: {"exit_code": int(one.exit_code), "message": one.message} for one in outcomes}
    moment: Moment = "finished" if code == Exit.OK else "failed"
    notifier.tell(moment, show.ended(code, outcomes), exit_code=int(code), hosts=hosts)


def _strategy(word: str) -> Strategy:
    if word not in get_args(Strategy):
        raise UsageError(f"--strategy {word}: expected one of {', '.join(get_args(Strategy))}")
    return cast(Strategy, word)


def _too_late(deadline: Deadline, seen: Survey) -> str | None:
    """Why the run must not begin any more; None where it may."""
    with open_store(read_only=True) as store:
        expected = expected_wave_s(store, seen.fleet.name, [host.host.name for host in seen.work])
    return deadline.refuses(expected)


def _recorded(run: Run) -> Callable[[HostSurvey, Server, ServerVerdict], None]:
    def record(seen: HostSurvey, server: Server, verdict: ServerVerdict) -> None:
        driver = seen.facts.driver_version if seen.facts else None
        run.add_verdict(verdict, workload=workload(server), driver=driver)

    return record


def load_hosts(path: Path, only: Sequence[str]) -> Fleet:
    """The fleet with these hosts alone; all of them where none is named. UsageError for names that are not in it."""
    fleet = load_fleet(path, read_inventory)
    unknown = set(only) - {host.name for host in fleet.hosts}
    if unknown:
        raise UsageError(f"--hosts: not in {path}: {', '.join(sorted(unknown))}")
    if only:
        fleet = fleet.model_copy(update={"hosts": tuple(host for host in fleet.hosts if host.name in only)})
    return fleet


def _load(path: Path, only: Sequence[str]) -> tuple[Fleet, dict[str, Recipe]]:
    fleet = load_hosts(path, only)
    return fleet, {name: find_recipe(name, fleet.recipes) for name in fleet.recipe_names()}


def _connections(fleet: Fleet) -> Connections:
    return Connections(lambda host: connect(host, fleet.ssh))


def _survey(
    fleet: Fleet,
    recipes: dict[str, Recipe],
    connections: Connections,
    environment: Mapping[str, str] | None = None,
    *,
    compare: bool = True,
    locked: bool = True,
    update_lock: bool = False,
    some: bool = False,
) -> Survey:
    """`locked`: with the fleet's lock, if it has one. `update_lock`: moved first; `some`: hosts are left out.
    `environment`: what was taken of it, where that has been done."""
    environment = take_from_environment(fleet) if environment is None else environment
    lock = read_lock(fleet, recipes) if locked and not update_lock else None
    with _shown([host.name for host in fleet.hosts], None) as on_event:
        seen = survey(
            fleet,
            recipes,
            connections,
            on_event=on_event,
            compare=compare and not update_lock,
            environment=environment,
            lock=lock,
        )
    if update_lock:
        moved = relock(seen, recipes, environment, some=some)
        seen = planned_again(seen, recipes, moved, compare=compare, environment=environment)
    check_survey(seen, recipes)
    return seen


def _allowed(seen: Survey) -> bool:
    if not at_terminal():
        raise UsageError("there is no terminal to ask at", hint="add --yes to change hosts without asking")
    return confirm(f"Change {len(seen.work)} of {len(seen.hosts)} hosts?")


def _report(json: bool, seen: Survey, outcomes: tuple[HostOutcome, ...], run: Run | None) -> Exit:
    verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts]
    document = show.outcome_json(seen, outcomes, run.path if run else None)
    if run:
        run.save("report.json", document)
    if json:
        out(document)
    elif verdicts:
        with open_store(read_only=True) as store:
            before = history(store.measurements(fleet=seen.fleet.name))
        Console().print(table(verdicts, before)) if sys.stdout.isatty() else out("\n".join(lines(verdicts, before)))
    text = show.outcome(outcomes, run.path if run else None)
    say(text) if json else out(text)
    return exit_code(outcomes)
