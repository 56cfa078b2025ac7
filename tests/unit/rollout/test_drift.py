"""Drift: what a survey says, and since when by the history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import converged, facts, file, fleet, plan
from worlds import World, proven

from provisioner.errors import UnreachableError
from provisioner.history.drift import Drift
from provisioner.history.store import Store, open_store
from provisioner.plan.facts import Facts
from provisioner.report.monitoring.drift import drift_textfile
from provisioner.rollout.drift import drift_of, remembered

MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
UNIT = "/etc/systemd/system/vllm-nemotron.service"
HOSTS = ("gpu-01", "gpu-02", "gpu-03")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "history.sqlite")


def ready(host: str = "gpu-01") -> Facts:
    of = fleet(hosts=HOSTS)
    the_plan = plan(of, facts(host))
    return proven(converged(the_plan), the_plan)


def edited(host: str = "gpu-01") -> Facts:
    there = ready(host)
    files = tuple(file(one.path, "by hand") if one.path == UNIT else one for one in there.files)
    return there.model_copy(update={"files": files})


def look(monkeypatch: pytest.MonkeyPatch, days: float = 0, **found: Facts | UnreachableError) -> Drift:
    world = World({name.replace("_", "-"): one for name, one in found.items()})
    seen = world.survey(monkeypatch, fleet(hosts=tuple(world.hosts)))
    return drift_of(seen, MONDAY + timedelta(days=days))


def test_nothing(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    found = remembered(look(monkeypatch, gpu_01=ready()), store)
    assert found.count == 0
    assert found.hosts[0].seen


def test_since_the_first_look_that_saw_it(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    first = remembered(look(monkeypatch, gpu_01=edited()), store)
    (one,) = first.hosts[0].deviations
    assert (one.kind, one.subject, one.since) == ("differs", f"vllm_server: {UNIT}", MONDAY)
    again = remembered(look(monkeypatch, 3, gpu_01=edited()), store)
    assert again.hosts[0].deviations[0].since == MONDAY
    assert again.at == MONDAY + timedelta(days=3)


def test_what_is_mended_is_forgotten(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    for days, host in enumerate([edited(), ready(), edited()]):
        found = remembered(look(monkeypatch, days, gpu_01=host), store)
    assert found.hosts[0].deviations[0].since == MONDAY + timedelta(days=2)


def test_a_host_that_is_away_keeps_what_was_seen(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    remembered(look(monkeypatch, gpu_01=edited()), store)
    away = remembered(look(monkeypatch, 1, gpu_01=UnreachableError("gpu-01: refused")), store)
    (one,) = away.hosts[0].deviations
    assert (one.kind, one.reason, one.since) == ("unreachable", "refused", MONDAY + timedelta(days=1))
    assert not away.hosts[0].seen
    back = remembered(look(monkeypatch, 2, gpu_01=edited()), store)
    assert [(one.kind, one.since) for one in back.hosts[0].deviations] == [("differs", MONDAY)]


def test_a_server_without_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    the_plan = plan(fleet(), facts())
    (one,) = look(monkeypatch, gpu_01=converged(the_plan)).hosts[0].deviations
    assert (one.kind, one.subject) == ("unproven", "server nemotron")


def test_metrics(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    world = look(monkeypatch, gpu_01=ready(), gpu_02=edited("gpu-02"), gpu_03=UnreachableError('gpu-03: "no"\nroute'))
    since = "provision_drift_since_timestamp_seconds"
    assert (
        drift_textfile(remembered(world, store))
        == f"""\
# HELP provision_drift_checked_timestamp_seconds When drift was last looked for.
# TYPE provision_drift_checked_timestamp_seconds gauge
provision_drift_checked_timestamp_seconds{{fleet="fleet"}} 1795435200.0
# HELP provision_drift_host_seen Whether the host could be looked at.
# TYPE provision_drift_host_seen gauge
provision_drift_host_seen{{fleet="fleet",host="gpu-01"}} 1.0
provision_drift_host_seen{{fleet="fleet",host="gpu-02"}} 1.0
provision_drift_host_seen{{fleet="fleet",host="gpu-03"}} 0.0
# HELP provision_drift How many things on the host are not as planned.
# TYPE provision_drift gauge
provision_drift{{fleet="fleet",host="gpu-01"}} 0.0
provision_drift{{fleet="fleet",host="gpu-02"}} 1.0
# HELP {since} When it was first seen that this is not as planned.
# TYPE {since} gauge
{since}{{fleet="fleet",host="gpu-02",kind="differs",subject="vllm_server: {UNIT}"}} 1795435200.0
{since}{{fleet="fleet",host="gpu-03",kind="unreachable",subject="unreachable"}} 1795435200.0
"""
    )
