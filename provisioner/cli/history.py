"""`provision history` and `provision compare`: what was done, and what it did to the figures."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Sequence
from typing import Any

from provisioner.cli import show_history
from provisioner.cli.console import out
from provisioner.cli.show_history import RunSeen, Step
from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Baseline
from provisioner.fleet.suggest import did_you_mean
from provisioner.history.rows import RunRow
from provisioner.history.rundir import outcomes, running, runs_dir, summary
from provisioner.history.store import Store, ending, open_store
from provisioner.validate.compare import compared


def history(host: str | None, *, fleet: str | None, limit: int, audit: bool, json: bool) -> None:
    """The runs, one host's course, or the audit log; newest first."""
    with open_store(read_only=True) as store:
        if host is not None:
            _known(store, host)
        if audit:
            rows = store.audit(fleet, host, limit + 1)
            _print(rows[:limit]) if json else out(show_history.audit(rows[:limit], more=len(rows) > limit))
            return
        found = [_seen(run) for run in store.runs(fleet, host, limit + 1)]
        more, found = len(found) > limit, found[:limit]
        if host is None:
            _print(found) if json else out(show_history.runs(found, more=more))
            return
        steps = [step for run in found for step in _steps(store, run, host)]
        _print(steps) if json else out(show_history.course(host, steps, more=more))


def compare(first: str, second: str, *, json: bool) -> None:
    """Two runs, server by server."""
    with open_store(read_only=True) as store:
        runs = [_seen(store.run(run)) for run in (first, second)]
        measured = [store.measurements(run=one.run.id) for one in runs]
        loads = {one.workload for run in measured for one in run}
        known = [one for load in loads for one in store.measurements(workload=load)]
    servers = compared(measured[0], measured[1], known, Baseline())
    if json:
        document = {"runs": [_data(one) for one in runs], "servers": [_data(one) for one in servers]}
        out(jsonlib.dumps(document, indent=1))
    else:
        out(show_history.comparison(runs[0], runs[1], servers))


def _steps(store: Store, run: RunSeen, host: str) -> Iterator[Step]:
    verdicts = {verdict.server: verdict for verdict in store.verdicts(run.run.id) if verdict.host == host}
    measured = {one.server: one for one in store.measurements(run=run.run.id, host=host)}
    for server, verdict in verdicts.items():
        yield Step(run=run, server=server, verdict=verdict, measured=measured.get(server))
    if not verdicts:
        stood = outcomes(store.events(run.run.id, host))
        yield Step(run=run, outcome=summary(stood).removeprefix(f"{host}: ") or "nothing was done")


def _seen(run: RunRow) -> RunSeen:
    at_work = run.ended_at is None and running(runs_dir(run.fleet) / run.id)
    return RunSeen(run=run, state="running" if at_work else ending(run))


def _known(store: Store, host: str) -> None:
    hosts = store.hosts()
    if hosts and host not in hosts:
        raise UsageError(f"{host}: no run has acted on it", hint=did_you_mean(host, hosts))


def _data(one: Frozen) -> Any:
    return one.model_dump(mode="json")


def _print(found: Sequence[Frozen]) -> None:
    out(jsonlib.dumps([_data(one) for one in found], indent=1))
