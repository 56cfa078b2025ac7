"""From the history and a run's directory to a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from provisioner.history.events import Event
from provisioner.history.rows import RunRow
from provisioner.history.rundir import outcomes, runs_dir
from provisioner.history.store import Store, ending
from provisioner.history.tuning import read_tuning
from provisioner.history.verdict import ServerVerdict
from provisioner.plan.model import Changes, HostPlan
from provisioner.report.model import HostReport, PhaseTime, Report, Trend
from provisioner.report.trend import trends

PLANS = "plans"
CHANGES = "changes"
Model = TypeVar("Model", HostPlan, Changes)


def gather(store: Store, run: RunRow, *, now: datetime, root: Path | None = None) -> Report:
    """Everything known of `run`, with the history of its hosts up to it.

    `root`: the state directory that holds `runs/`, as in `create_run`. Of a run without its directory there are no
    plans.
    """
    directory = runs_dir(run.fleet, root) / run.id
    # A run without an end, killed or still going on, has the history up to now.
    until = run.ended_at or now
    measured = [one for one in store.measurements(fleet=run.fleet) if one.at <= until]
    events = store.events(run.id)
    verdicts = store.verdicts(run.id)
    names = dict.fromkeys([*run.hosts, *(event.host for event in events)])
    histories = trends(measured)
    return Report(
        run=run,
        ending=ending(run),
        steps=store.steps(run.id),
        made_at=now,
        hosts=tuple(_host(name, directory, events, verdicts, histories) for name in names),
        others=tuple(trend for trend in histories if trend.host not in names),
        before=tuple(one for one in measured if one.run_id != run.id),
        tuning=read_tuning(directory),
    )


def latest_plan(directories: Iterable[Path], host: str) -> HostPlan | None:
    """The plan of a host in the first of these run directories that has one."""
    found = (_read(one / PLANS / f"{host}.json", HostPlan)[0] for one in directories)
    return next((plan for plan in found if plan), None)


def phase_times(events: Sequence[Event]) -> tuple[PhaseTime, ...]:
    """The phases of one host, in order; each lasts until the next begins."""
    spans: list[list[Event]] = []
    for event in events:
        if spans and (spans[-1][0].phase, spans[-1][0].server) == (event.phase, event.server):
            spans[-1].append(event)
        else:
            spans.append([event])
    ends = [span[0].time for span in spans[1:]] + [spans[-1][-1].time] if spans else []
    return tuple(
        PhaseTime(
            phase=span[0].phase,
            server=span[0].server,
            began=span[0].time,
            seconds=(end - span[0].time).total_seconds(),
            failed=any(event.status == "failed" for event in span),
        )
        for span, end in zip(spans, ends, strict=True)
        if span[0].phase not in ("done", "failed")
    )


def _host(
    name: str,
    directory: Path,
    events: Sequence[Event],
    verdicts: Sequence[ServerVerdict],
    histories: Sequence[Trend],
) -> HostReport:
    mine = [event for event in events if event.host == name]
    plan, plan_notes = _read(directory / PLANS / f"{name}.json", HostPlan)
    changes, changes_notes = _read(directory / CHANGES / f"{name}.json", Changes)
    return HostReport(
        name=name,
        outcome=outcomes(mine).get(name),
        plan=plan,
        changes=changes.changes if changes else None,
        notes=plan_notes + changes_notes,
        phases=phase_times(mine),
        applied=tuple(event for event in mine if event.phase == "apply" and event.status == "changed"),
        failures=tuple(event for event in mine if event.status == "failed" and event.phase != "failed"),
        verdicts=tuple(verdict for verdict in verdicts if verdict.host == name),
        trends=tuple(trend for trend in histories if trend.host == name),
    )


def _read(file: Path, model: type[Model]) -> tuple[Model | None, tuple[str, ...]]:
    try:
        return model.model_validate_json(file.read_bytes()), ()
    except FileNotFoundError:
        return None, ()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "top"
        return None, (f"{file} is not shown, another version of provision wrote it: {place}: {first['msg']}",)
