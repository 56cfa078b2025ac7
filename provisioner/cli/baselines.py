"""What `provision baseline` does."""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from provisioner.cli.columns import columns
from provisioner.cli.console import out
from provisioner.cli.show_history import moment
from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Baseline, Figure
from provisioner.history.rows import Measurement
from provisioner.history.store import open_store
from provisioner.history.turn import current_user
from provisioner.history.verdict import ServerVerdict
from provisioner.validate.baseline import CHECK, PEERS_CHECK, figure_of, noise_of, number
from provisioner.validate.levels import Kind, kind_of, levels_of, place_of, since_replaced

FIGURE: Figure = "output_throughput"


class Shown(Frozen):
    """The baseline of one server under one load."""

    fleet: str
    host: str
    server: str
    hardware: str
    workload: str
    baseline: float
    """output tok/s"""
    made_of: tuple[str, ...]
    """runs, oldest first"""
    accepted: int
    """all benchmarks that were accepted since the baseline began, those among them that do not make it"""
    noise: float
    """standard deviation of one benchmark, as a share, of this host and its peers"""
    peers: int
    peers_baseline: float | None
    last: float
    """the newest benchmark, accepted or not"""
    last_run: str


def accept(run: str, host: str | None, server: str | None, *, replace: bool, note: str, json: bool) -> None:
    """Takes benchmarks into baselines. UsageError for those that did not pass everything else, and for a loss without
    `replace`: as one of several it would change nothing."""
    with open_store() as store:
        row = store.run(run)
        last = {(one.host, one.server): one for one in store.verdicts(row.id)}
        for verdict in last.values():
            if verdict.benchmark and host in (None, verdict.host) and server in (None, verdict.server):
                _fit(verdict, replace)
        taken = store.accept(row.id, host, server, by=current_user(), note=note, replaces=replace)
    if json:
        out(jsonlib.dumps([one.model_dump(mode="json", exclude={"result"}) for one in taken], indent=1))
    else:
        what = "the baseline begins anew with" if replace else "accepted"
        out("\n".join(f"{one.host}, {one.server}: {what} {_speed(one)} of run {one.run_id}" for one in taken))


def show(host: str | None, *, fleet: str | None, json: bool) -> None:
    """Prints the baselines, by the default settings."""
    with open_store(read_only=True) as store:
        known = store.measurements()
    found = [one for one in shown(known, Baseline()) if host in (None, one.host) and fleet in (None, one.fleet)]
    out(jsonlib.dumps([one.model_dump() for one in found], indent=1) if json else _text(found, host))


def shown(known: Sequence[Measurement], settings: Baseline) -> list[Shown]:
    """Every baseline there is, by fleet, host, server and load."""
    kinds: dict[Kind, list[Measurement]] = {}
    for one in known:
        kinds.setdefault(kind_of(one), []).append(one)
    found = (one for kin in kinds.values() for one in _of_kind(kin, settings))
    return sorted(found, key=lambda one: (one.fleet, one.host, one.server, one.workload))


def _of_kind(kin: Sequence[Measurement], settings: Baseline) -> Iterator[Shown]:
    levels = {place: values for place, values in levels_of(kin, FIGURE, settings).items() if values}
    noise, _ = noise_of(list(levels.values()), FIGURE, settings)
    means = {place: fmean(map(math.log, values)) for place, values in levels.items()}
    for place, values in levels.items():
        mine = [one for one in kin if place_of(one) == place]
        counted = since_replaced([one for one in mine if one.accepted])
        peers = [mean for other, mean in means.items() if other != place]
        yield Shown(
            fleet=place.fleet,
            host=place.host,
            server=place.server,
            hardware=mine[-1].hardware,
            workload=mine[-1].workload,
            baseline=math.exp(means[place]),
            made_of=tuple(one.run_id for one in counted if figure_of(one.result, FIGURE) in values),
            accepted=len(counted),
            noise=math.expm1(noise),
            peers=len(peers),
            peers_baseline=math.exp(fmean(peers)) if peers else None,
            last=mine[-1].result.output_throughput,
            last_run=mine[-1].run_id,
        )


def _fit(verdict: ServerVerdict, replace: bool) -> None:
    failed = [check for check in verdict.checks if not check.passed]
    others = [check for check in failed if check.name not in (CHECK, PEERS_CHECK)]
    about = f"{verdict.host}, {verdict.server}"
    if others or (verdict.reasons and not failed):
        reason = others[0].detail if others else verdict.reasons[0]
        raise UsageError(f"{about}: did not pass: {reason}", hint="what fails other gates cannot be a baseline")
    if failed and not replace:
        raise UsageError(
            f"{about}: {failed[0].detail}",
            hint="--replace makes it the new baseline: what was accepted before does not count any more",
        )


def _text(found: Sequence[Shown], host: str | None) -> str:
    if not found:
        return "nothing was accepted yet" + (f" on {host}" if host else "")
    head = ("fleet", "host", "server", "hardware", "load", "output tok/s", "made of", "noise", "peers", "last")
    rows = [
        (
            one.fleet,
            one.host,
            one.server,
            one.hardware,
            one.workload,
            number(one.baseline),
            f"{len(one.made_of)} of {one.accepted} accepted",
            f"{one.noise * 100:.1f} %",
            f"{number(one.peers_baseline)} ({one.peers})" if one.peers_baseline else "–",
            f"{number(one.last)} ({(one.last / one.baseline - 1) * 100:+.1f} %)".replace("-", "−"),
        )
        for one in found
    ]
    return "\n".join(columns([head, *rows], right={5, 7, 8, 9}))


def _speed(one: Measurement) -> str:
    return f"{number(one.result.output_throughput)} output tok/s ({moment(one.at)})"
