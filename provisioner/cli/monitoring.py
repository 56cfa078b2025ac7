"""`provision monitoring`: what Prometheus and Grafana need to watch a fleet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from provisioner.cli.console import out, say
from provisioner.errors import UsageError
from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Fleet
from provisioner.history.rundir import runs_dir
from provisioner.history.store import Store, open_store
from provisioner.hosts.endpoint import resolve
from provisioner.inventory.read import read_inventory
from provisioner.report.gather import latest_plan
from provisioner.report.monitoring.files import monitoring_files, stale, write
from provisioner.report.monitoring.served import LastVerdict, Served, newest, served


def monitoring(path: Path, output: Path) -> None:
    """Writes the files; says which servers nobody but their own host can scrape. No host is reached."""
    fleet = load_fleet(path, read_inventory)
    with open_store(read_only=True) as store:
        servers = _served(fleet, store)
        verdicts = newest(_verdicts(fleet, store))
    files = monitoring_files(fleet.name, servers, verdicts)
    write(output, files)
    for file in stale(output, files):
        file.unlink()
    out("\n".join(str(output / name) for name in files))
    _tell(servers)


def _served(fleet: Fleet, store: Store) -> tuple[Served, ...]:
    found: list[Served] = []
    for host in fleet.hosts:
        directories = (runs_dir(run.fleet) / run.id for run in store.runs(fleet.name, host.name))
        plan = latest_plan(directories, host.name)
        if plan is None:
            say(f"{host.name}: left out, it was not provisioned from here")
            continue
        found += served(fleet.name, plan, resolve(host, fleet.ssh).hostname)
    if not found:
        raise UsageError(f"{fleet.path}: nothing was provisioned from here", hint=f"run `provision {fleet.path}` first")
    return tuple(found)


def _verdicts(fleet: Fleet, store: Store) -> Iterator[LastVerdict]:
    hosts = {host.name for host in fleet.hosts}
    drivers = {(one.run_id, one.host): one.driver for one in store.measurements(fleet=fleet.name)}
    for run in store.runs(fleet.name):
        for verdict in store.verdicts(run.id):
            if verdict.host in hosts:
                driver = drivers.get((run.id, verdict.host))
                yield LastVerdict(fleet=fleet.name, at=run.began_at, verdict=verdict, driver=driver)


def _tell(servers: Sequence[Served]) -> None:
    local = [one for one in servers if one.loopback]
    if not local:
        return
    names = ", ".join(f"{one.host}/{one.server}" for one in local)
    say(
        f"listen on loopback only: {names}\n"
        "  To any other machine they are down. Either scrape on each host itself: its own targets are in\n"
        "  targets/loopback/HOST.json; or let them listen wider (`host:` in the fleet file, with an `api_key`), which\n"
        "  puts them into targets/vllm.json. vLLM asks for no key at /metrics: a firewall has to."
    )
