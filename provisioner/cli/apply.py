"""apply, check, plan, probe, validate, render: from flags to one call each, and what is printed of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from provisioner.apply.runner import Strategy, usable
from provisioner.cli import show
from provisioner.cli.alone import alone
from provisioner.cli.console import at_terminal, confirm, interrupt_flag, out, say
from provisioner.cli.events import shown as _shown
from provisioner.cli.lock import previous, relock
from provisioner.cli.lock import show as show_lock
from provisioner.cli.rolling import Ended, check_approval, rolled_out
from provisioner.errors import Exit, ProvisionError, UsageError
from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Fleet
from provisioner.fleet.recipes import Recipe, find_recipe
from provisioner.history.facts import read_facts
from provisioner.history.verdict import ServerVerdict
from provisioner.hosts.ssh import connect
from provisioner.inventory.read import read_inventory
from provisioner.plan.lock import UNLOCKED, lock_file
from provisioner.plan.model import Changes, Server
from provisioner.plan.workload import workload
from provisioner.rollout.check import check as ask_ansible
from provisioner.rollout.check import failures
from provisioner.rollout.connections import Connections
from provisioner.rollout.execute import HostOutcome, Options, execute, exit_code
from provisioner.rollout.locking import check_survey, make_lock, moves, read_lock, without_images, write_lock
from provisioner.rollout.recorded import recorded_survey
from provisioner.rollout.rendered import write_rendered
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.sharing import with_peers
from provisioner.rollout.store import check as check_files
from provisioner.rollout.store import read_bundle
from provisioner.rollout.survey import HostSurvey, Survey, planned_again, survey
from provisioner.rollout.waves import turns

if TYPE_CHECKING:
    from provisioner.history.rundir import Run
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
    deadline: Deadline | None = None
    """by when all must be over"""
    on_survey: Callable[[Survey], None] = lambda _: None
    """told what was seen"""


def apply(path: Path, flags: ApplyFlags) -> Exit:
    """Survey, ask, execute, report."""
    strategy = _strategy(flags.strategy)
    fleet, recipes = _load(path, flags.hosts)
    if flags.approve:
        asks = fleet.rollout.model_copy(update={"approve": "every_wave"})
        fleet = fleet.model_copy(update={"rollout": asks})
    options = Options(
        strategy=strategy,
        depth="smoke" if flags.smoke else fleet.rollout.analysis,
        too_late=_too_late(flags.deadline, fleet.name),
    )
    environment = take_from_environment(fleet)

    def look() -> Survey | Exit:
        seen = _survey(
            fleet,
            recipes,
            connections,
            environment,
            update_lock=flags.update_lock,
            some=bool(flags.hosts),
            bundle=flags.bundle,
        )
        flags.on_survey(seen)
        if seen.unfit:
            say(show.problems(seen))
            if not (flags.keep_going and seen.fit):
                say(show.nothing_changed(seen))
                return worst(seen)
        if not seen.work:
            return _report(flags.json, seen, Ended(execute_nothing(seen)), None)
        say(show.plan(seen, diff=flags.diff))
        late = options.too_late(turns(seen)[0].hosts)
        if late:
            say(f"nothing was changed: {late}")
            return Exit.CHANGES
        check_approval(seen)
        if not flags.yes and not _allowed(seen):
            say("nothing was changed")
            return Exit.CHANGES
        if seen.bundle:
            say(f"checking {seen.bundle}")
            check_files(seen.bundle, [blob for host in seen.work if host.bundled for blob in host.bundled.blobs()])
        return seen

    def do(seen: Survey, name: str, leases: Leases) -> Exit:
        return executed(seen, connections, options, rolled_out, name, leases, json=flags.json)

    with _connections(fleet) as connections:
        return alone(fleet, connections, look, do, wait_s=flags.lock_wait_s)


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
    fleet, recipes = _load(path, hosts)
    with _connections(fleet) as connections:
        seen = _survey(fleet, recipes, connections, update_lock=update_lock, some=bool(hosts), bundle=bundle)
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

    def look() -> Survey | Exit:
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

    def do(seen: Survey, name: str, leases: Leases) -> Exit:
        options = Options(depth="smoke" if smoke else "benchmark")
        return executed(seen, connections, options, _validated, name, leases, json=json)

    with _connections(fleet) as connections:
        return alone(fleet, connections, look, do, wait_s=lock_wait_s)


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


Do = Callable[[Survey, Connections, "Run", Options], Ended]


def _validated(seen: Survey, connections: Connections, run: Run, options: Options) -> Ended:
    with _shown([host.host.name for host in seen.work], run) as on_event:
        return Ended(execute(seen, connections, run.path, on_event=on_event, options=options))


def executed(
    seen: Survey, connections: Connections, options: Options, do: Do, name: str, leases: Leases, *, json: bool
) -> Exit:
    """Do it and report, with a record of it however it ends, and tell those who want to know."""
    from provisioner.cli.told import notifier_of, tell_end, tell_step
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
    code, ended = Exit.HOST_FAILED, Ended(())
    notifier = notifier_of(fleet, name, seen.environment or {}, tuple(seen.secrets.values()))
    run.on_step = lambda step: tell_step(notifier, step)
    notifier.tell("started", show.started(seen), hosts=[host.host.name for host in seen.work])
    try:
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
        code = _report(json, seen, ended, run)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
        raise
    except ProvisionError as error:
        code = Exit(error.exit_code)
        raise
    finally:
        run.finish(code)
        tell_end(notifier, code, ended.outcomes, ended.course.reason if ended.course else "")
    return code


def _too_late(deadline: Deadline | None, fleet: str) -> Callable[[Sequence[str]], str | None]:
    """Why a wave of these hosts must not begin any more; None where it may."""
    if deadline is None:
        return lambda _: None

    def refuses(hosts: Sequence[str]) -> str | None:
        from provisioner.history.store import open_store
        from provisioner.rollout.deadline import expected_wave_s

        with open_store(read_only=True) as store:
            return deadline.refuses(expected_wave_s(store, fleet, hosts))

    return refuses


def _strategy(word: str) -> Strategy:
    if word not in get_args(Strategy):
        raise UsageError(f"--strategy {word}: expected one of {', '.join(get_args(Strategy))}")
    strategy, why = usable(cast(Strategy, word))
    if why:
        say(why)
    return strategy


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
    environment: dict[str, str] | None = None,
    *,
    compare: bool = True,
    locked: bool = True,
    update_lock: bool = False,
    some: bool = False,
    bundle: Path | None = None,
) -> Survey:
    """`locked`: with the fleet's lock, if it has one. `update_lock`: moved first; `some`: hosts are left out.

    `bundle`: hosts get what they lack from there. `environment`: what `take_from_environment` gave, where it was asked.
    """
    if bundle and update_lock:
        raise UsageError(
            "--bundle and --update-lock do not go together: a bundle holds what was locked when it was made"
        )
    environment = take_from_environment(fleet) if environment is None else environment
    lock = read_lock(fleet, recipes) if locked and not update_lock else None
    given = read_bundle(bundle, lock) if bundle else None
    with _shown([host.name for host in fleet.hosts], None) as on_event:
        seen = survey(
            fleet,
            recipes,
            connections,
            on_event=on_event,
            compare=compare and not update_lock,
            environment=environment,
            lock=without_images(lock) if bundle else lock,
            bundle=given,
        )
    if update_lock:
        moved = relock(seen, recipes, environment, some=some)
        seen = planned_again(seen, recipes, moved, compare=compare, environment=environment)
    check_survey(seen, recipes, images=not bundle)
    return with_peers(seen)


def _allowed(seen: Survey) -> bool:
    if not at_terminal():
        raise UsageError("there is no terminal to ask at", hint="add --yes to change hosts without asking")
    return confirm(f"Change {len(seen.work)} of {len(seen.hosts)} hosts?")


def _report(json: bool, seen: Survey, ended: Ended, run: Run | None) -> Exit:
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


def _show_verdicts(fleet: str, verdicts: Sequence[ServerVerdict]) -> None:
    from rich.console import Console

    from provisioner.history.store import open_store
    from provisioner.report.table import lines, table
    from provisioner.report.trend import history

    with open_store(read_only=True) as store:
        before = history(store.measurements(fleet=fleet))
    Console().print(table(verdicts, before)) if sys.stdout.isatty() else out("\n".join(lines(verdicts, before)))
