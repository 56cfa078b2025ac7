"""Taking away what we brought: look at every host, tell what goes and what stays, run reset.yml."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner import assets
from provisioner.apply.runner import HostResult, reset
from provisioner.errors import Exit, HostError, ProvisionError
from provisioner.fleet.models import Fleet, Host
from provisioner.history.events import Event, OnEvent
from provisioner.hosts import lease
from provisioner.hosts.probe import LAUNCH
from provisioner.hosts.transport import Transport
from provisioner.plan.removal import RECORD, Removal, removal
from provisioner.rollout.connections import Connections

LOOK_TIMEOUT_S = 300.0
"""counting the bytes of a cache on a slow disk takes a while"""
MAX_WORKERS = 32
BEGIN, END = "<<<provision-removal", "provision-removal>>>"
_ASK = """
import contextlib, json, sys, types
if __import__("os").geteuid() != 0:
    sys.exit("no sudo: allow this user to run commands as root without a password (NOPASSWD)")
# First of all: who has the host later than that is seen to have had it.
lease, uptime = "", ""
with contextlib.suppress(FileNotFoundError), open({lease!r}) as stream:
    lease = stream.read()
with open("/proc/uptime") as stream:
    uptime = stream.read()
modules = {{name: types.ModuleType(name) for name in ("host_record", "removal_look")}}
for name, text in zip(modules, {texts!r}):
    exec(compile(text, name, "exec"), modules[name].__dict__)
try:
    answer = modules["host_record"].answer({{"state": "read", "part": "", "file": {record!r}}}, True)
except modules["host_record"].RecordError as error:
    sys.exit(str(error))
answer.update(look=modules["removal_look"].look(answer["record"]), lease=lease, uptime=uptime)
print({begin!r}, json.dumps(answer), {end!r}, sep="\\n")
"""


@dataclass(frozen=True)
class Asked:
    """What is to go besides servers, images and plugins."""

    weights: bool
    docker: bool


@dataclass(frozen=True)
class HostLook:
    """One host, looked at: what goes and what stays, or why nobody can tell."""

    host: Host
    removal: Removal | None
    error: ProvisionError | None = None
    lease_file: str = ""
    """what its lease's file held; "" where there was none"""
    uptime_s: float | None = None

    @property
    def work(self) -> bool:
        return bool(self.removal and self.removal.goes)

    @property
    def leased(self) -> lease.Holder | None:
        """Whose lease it had when it was looked at."""
        return lease.seen(self.lease_file, self.uptime_s)

    @property
    def lease_mark(self) -> str | None:
        """What tells later whether it was leased since; None where nobody can tell."""
        return lease.mark(self.lease_file) if self.removal else None


def look(fleet: Fleet, connections: Connections, asked: Asked, *, on_event: OnEvent) -> tuple[HostLook, ...]:
    """Looks at all hosts at once; changes nothing."""

    def one(host: Host) -> HostLook:
        on_event(Event(host=host.name, phase="probe", status="running", task="looking at the host"))
        try:
            answer = _answer(connections.connect(host))
        except ProvisionError as error:
            on_event(Event(host=host.name, phase="failed", status="failed", task="probe", detail=str(error)))
            return HostLook(host, None, error)
        found = removal(host.name, answer, weights=asked.weights, docker=asked.docker)
        on_event(Event(host=host.name, phase="plan", status="ok"))
        return HostLook(host, found, lease_file=answer["lease"], uptime_s=float(answer["uptime"].split()[0]))

    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, len(fleet.hosts))) as pool:
        return tuple(pool.map(one, fleet.hosts))


def destroy(
    fleet: Fleet,
    seen: Sequence[HostLook],
    run_dir: Path,
    asked: Asked,
    *,
    on_event: OnEvent,
    interrupted: Callable[[], bool],
) -> tuple[HostResult, ...]:
    """Takes away what goes, on the hosts where something does."""
    hosts = [one.host.name for one in seen if one.work]
    variables = {"removal_weights": asked.weights, "removal_docker": asked.docker}
    results = reset(run_dir, fleet, hosts, variables, on_event=on_event, interrupted=interrupted)
    for result in results:
        if result.state == "ok":
            on_event(Event(host=result.host, phase="done", status="ok", task="as it was"))
        elif result.state != "interrupted":
            on_event(Event(host=result.host, phase="failed", status="failed", detail=result.message))
    return results


def worst(results: Sequence[HostResult]) -> Exit:
    """The exit code of a removal."""
    states = {result.state for result in results}
    codes = (("interrupted", Exit.INTERRUPTED), ("failed", Exit.HOST_FAILED), ("unreachable", Exit.UNREACHABLE))
    return next((code for state, code in codes if state in states), Exit.OK)


def script() -> str:
    """What the host's python3 is given: the roles' own modules and a call of each."""
    texts = [assets.module("host_record", "host_record"), assets.module("removal", "removal_look")]
    return _ASK.format(texts=texts, record=RECORD, lease=lease.FILE, begin=BEGIN, end=END)


def _answer(transport: Transport) -> Mapping[str, Any]:
    result = transport.run(LAUNCH, stdin=script(), timeout_s=LOOK_TIMEOUT_S)
    _, begin, rest = result.stdout.partition(BEGIN + "\n")
    text, end, _ = rest.partition("\n" + END)
    if not begin or not end:
        words = result.stderr.strip().splitlines() or ["it printed nothing"]
        raise HostError(f"{transport.host}: cannot tell what is ours: {words[-1]}", log=result.stderr)
    answer: Mapping[str, Any] = json.loads(text)
    return answer
