"""`provision tune`: which settings of a server are best on a host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from provisioner.cli import show, show_tuning
from provisioner.cli.alone import OnLook, alone
from provisioner.cli.console import allowed, interrupt_flag, out, say
from provisioner.cli.events import shown
from provisioner.cli.looking import check_bundle, connections_to, load, surveyed
from provisioner.cli.told import notifier_of, tell_tuned
from provisioner.errors import Exit, UsageError
from provisioner.fleet.models import Fleet, Server
from provisioner.fleet.recipes import Recipe
from provisioner.fleet.rewrite import write_settings
from provisioner.history.finishing import finishing
from provisioner.history.progress import duration
from provisioner.history.rundir import Run, create_run
from provisioner.history.tuning import TunedPoint, Tuning, known_points, read_tuning, tunings
from provisioner.inventory.read import read_inventory
from provisioner.plan.bench import GUIDE_CONCURRENCY
from provisioner.plan.flags import value_of
from provisioner.plan.model import HostPlan
from provisioner.plan.tuning import Axis, Candidate, candidates, default_axes, parse_axis, seconds_of, tuned
from provisioner.report import tuning as report
from provisioner.report.data import as_text
from provisioner.rollout.connections import Connections
from provisioner.rollout.leases import Leases
from provisioner.rollout.points import Work, planned, server_of
from provisioner.rollout.put_back import put_back
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.survey import Survey
from provisioner.rollout.tune import tune

PICKS = ("throughput", "latency")


@dataclass(frozen=True)
class TuneFlags:
    """The flags of `provision tune`."""

    server: str | None
    host: str | None
    sweep: tuple[str, ...]
    concurrency: str | None
    budget: str
    pick: str
    max_tpot_ms: float | None
    write: bool
    fresh: bool
    yes: bool
    json: bool
    lock_wait_s: float = 0.0
    bundle: Path | None = None


@dataclass(frozen=True)
class _Asked:
    """What is to be tuned where."""

    path: Path
    flags: TuneFlags
    fleet: Fleet
    """with that host alone"""
    host: str
    server: str
    axes: tuple[Axis, ...]
    concurrency: tuple[int, ...]
    budget_s: int

    def candidates(self, seen: Survey) -> tuple[Candidate, ...]:
        """The points to try."""
        return candidates(self.axes or _defaults(seen.hosts[0].plan, self.server), self.concurrency)

    def earlier(self) -> tuple[tuple[str, Tuning], ...]:
        """What runs before have measured, newest first."""
        return tunings(self.fleet.name, self.host, self.server)


def command(path: Path, flags: TuneFlags) -> Exit:
    """Look, ask, measure, put back, show, and write the choice where that is asked for."""
    if flags.pick not in PICKS:
        raise UsageError(f"--pick {flags.pick}: expected one of {', '.join(PICKS)}")
    axes, concurrency = tuple(parse_axis(text) for text in flags.sweep), _counts(flags.concurrency)
    budget_s = seconds_of(flags.budget)
    whole, _ = load(path, ())
    host, server = _which(whole, flags)
    fleet, recipes = load(path, [host])
    asked = _Asked(path, flags, fleet, host, server, axes, concurrency, budget_s)
    environment = take_from_environment(fleet)

    def survey() -> Survey:
        return surveyed(fleet, recipes, connections, environment, bundle=flags.bundle)

    def look(on_look: OnLook) -> Survey | Exit:
        seen = survey()
        on_look(seen.hosts)
        return _looked(asked, seen)

    def do(seen: Survey, name: str, leases: Leases) -> Exit:
        return _tuned(asked, seen, survey, recipes, connections, name, leases)

    with connections_to(fleet) as connections:
        return alone(
            *(fleet, connections, look, do),
            hosts=lambda seen: seen.hosts,
            wait_s=flags.lock_wait_s,
        )


def _looked(asked: _Asked, seen: Survey) -> Survey | Exit:
    """The host as it is, once somebody has said yes."""
    if seen.unfit:
        say(show.problems(seen))
        return seen.unfit[0].exit_code
    host = asked.host
    if seen.hosts[0].changes and _owed(asked.earlier()) is None:
        say(f"{host}: not as planned; run `{seen.command}` first, or `{seen.plan_command}` to see why")
        return Exit.CHANGES
    say(_intent(host, asked.server, asked.candidates(seen), asked.budget_s))
    if not asked.flags.yes and not allowed(
        f"{asked.server} on {host} does not serve while it is restarted. Go on?", "restart the server"
    ):
        say("nothing was changed")
        return Exit.CHANGES
    check_bundle(seen)
    return seen


def _tuned(
    asked: _Asked,
    seen: Survey,
    survey: Callable[[], Survey],
    recipes: Mapping[str, Recipe],
    connections: Connections,
    name: str,
    leases: Leases,
) -> Exit:
    """Tune and report, on a host that no other run has, with a record of it however it ends. `survey` looks again."""
    fleet, flags, host, server = asked.fleet, asked.flags, asked.host, asked.server
    earlier = asked.earlier()
    run = create_run(
        fleet.name,
        name=name,
        command=sys.argv,
        fleet_path=fleet.path,
        hosts=[host],
        secrets=tuple(seen.secrets.values()),
    )
    notifier = notifier_of(fleet, name, seen.environment or {}, tuple(seen.secrets.values()))

    def told_end(code: Exit) -> None:
        known = read_tuning(run.path)  # also of one that an error ended
        chosen = _chosen(known, flags) if known else None
        label = chosen.tuned.candidate.label if chosen else None
        tell_tuned(notifier, code, host, show_tuning.ended(code, host, server, known, label, seen.command))

    with finishing(run, told_end) as end:
        points = asked.candidates(seen)
        notifier.tell("started", show_tuning.started(host, server, len(points), asked.budget_s), hosts=[host])
        plan = seen.hosts[0].plan
        run.save(f"plans/{host}.json", plan.model_dump_json(indent=1) if plan else "{}")
        with interrupt_flag() as interrupted, shown([host], run) as on_event:
            known = {} if flags.fresh else known_points(earlier)
            stop = leases.stopped_by(interrupted)
            work = Work(
                *(seen, server, recipes, connections, run, on_event, stop, asked.budget_s, known),
                regained=lambda: leases.regained(say),
            )
            owed = _owed(earlier)
            if owed is not None and seen.hosts[0].changes:
                say(f"{host}: run {owed} ended before it had put {server} back: that is done first")
                put_back(work, "owed", proof=False)
                work.seen = survey()
            result = tune(work, planned(work, points))
            stopped = stop()
        end.code = _told(asked, result, run, seen.command, stopped=stopped)
    return end.code


def _told(asked: _Asked, result: Tuning, run: Run, again: str, *, stopped: bool) -> Exit:
    """Writes what is asked for and says all of it. `again`: the command that brings it to the host."""
    flags, chosen = asked.flags, _chosen(result, asked.flags)
    code = Exit.INTERRUPTED if stopped else Exit.OK if result.measured else Exit.HOST_FAILED
    where = ""
    if flags.write and not stopped:
        where = _write(asked, chosen, again)
        code = code if chosen else Exit.GATE_FAILED
    run.save("report.json", _data(result, flags, chosen))
    out(_data(result, flags, chosen) if flags.json else show_tuning.summary(result, flags.max_tpot_ms))
    say(f"chosen: {chosen.tuned.candidate.label if chosen else 'no point'}; record in {run.path}")
    if where:
        say(where)
    if stopped:
        say("interrupted: the same command goes on with the points that are left")
    return code


def _which(fleet: Fleet, flags: TuneFlags) -> tuple[str, str]:
    """Host and server; either may be left out where there is but one."""
    hosts = [host.name for host in fleet.hosts if flags.host in (None, host.name)]
    if flags.host is not None and not hosts:
        raise UsageError(f"--host {flags.host}: not in {fleet.path}")
    fitting = [
        (host, server.name)
        for host in hosts
        for server in fleet.servers_on(host)
        if flags.server in (None, server.name)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        missing = " and ".join(
            flag for flag, given in (("--host", flags.host), ("--server", flags.server)) if not given
        )
        raise UsageError(f"{len(fitting)} servers could be meant", hint=f"say which one with {missing}")
    names = dict.fromkeys(server.name for host in hosts for server in fleet.servers_on(host))
    raise UsageError(f"--server {flags.server}: not on {flags.host or 'any host'}; there: {', '.join(names) or 'none'}")


def _counts(text: str | None) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"--concurrency {text}: expected numbers such as 8,32,128")
    return tuple(dict.fromkeys(map(int, words)))


def _owed(earlier: Sequence[tuple[str, Tuning]]) -> str | None:
    """The run that left the host to be put back."""
    return next((run for run, one in earlier[:1] if one.owed), None)


def _defaults(plan: HostPlan | None, name: str) -> tuple[Axis, ...]:
    of = server_of(plan, name)
    # Where nobody sets it, requests in flight are as many as the hardware's default.
    usual = value_of(of.argv, "--max-num-seqs") or value_of(of.benchmark.argv, "--max-concurrency") or ""
    return default_axes(int(usual) if usual.isdecimal() else GUIDE_CONCURRENCY, of.gpu_count)


def _intent(host: str, name: str, listed: Sequence[Candidate], budget_s: int) -> str:
    lines = [f"{host}: {name} is restarted with other settings and measured, {len(listed)} points at most within"]
    lines[0] += f" {duration(budget_s)}; then it is put back:"
    return "\n".join([*lines, *(f"  {one.label}" for one in listed)])


def _chosen(result: Tuning, flags: TuneFlags) -> report.Tried | None:
    points = report.tried(result)
    if flags.max_tpot_ms is not None:
        return report.within(points, flags.max_tpot_ms)
    return report.best(points, cast(Literal["throughput", "latency"], flags.pick))


def _write(asked: _Asked, chosen: report.Tried | None, again: str) -> str:
    path, host = asked.path, asked.host
    if chosen is None:
        return f"nothing was written to {path}: no point is what was asked for"
    server = next(one for one in asked.fleet.servers_on(host) if one.name == asked.server)
    values = _values(server, chosen.tuned, chosen.point.concurrency)
    if not values:
        return f"nothing was written to {path}: the server is best as it is"
    place = write_settings(path, host, server.name, values, read_inventory)
    return f"{place} in {path} has {chosen.tuned.candidate.label} now; `{again}` brings it to the host"


def _values(server: Server, point: TunedPoint, concurrency: int | None) -> dict[str, Any]:
    """What the fleet file must say for the server to be that point."""
    made = tuned(server, point.candidate, 1)
    values: dict[str, Any] = {
        key: value
        for key, value in point.candidate.settings
        if not key.startswith("--") and getattr(server, key) != value
    }
    if made.extra_args != server.extra_args:
        values["extra_args"] = list(made.extra_args)
    # What it is measured with from now on is what it was chosen by.
    if server.benchmark.max_concurrency not in (None, concurrency) or point.candidate.concurrency:
        values["benchmark"] = {"max_concurrency": concurrency}
    return values


def _data(result: Tuning, flags: TuneFlags, chosen: report.Tried | None) -> str:
    data = report.as_data(result, flags.max_tpot_ms)
    return as_text(data | {"chosen": chosen.tuned.candidate.label if chosen else None})
