"""Looking at hosts: one SSH round trip each, all of them at once, nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import resources

from provisioner.errors import ProvisionError
from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Host
from provisioner.hosts.parse import parse_answer, parse_facts
from provisioner.hosts.transport import Transport
from provisioner.plan.facts import Facts

# For any login shell, csh and fish too. As root where that needs no password: what can be seen depends on it. A sudo
# that refuses has read nothing of what comes on stdin; asking it beforehand would be its work once more.
# -S: python3 without what is installed beside its standard library: looking for that is a quarter of its start.
LAUNCH = (
    "exec /bin/sh -c '"
    "command -v python3 >/dev/null 2>&1 || { echo python3: not found >&2; exit 127; }; "
    'if [ "$(id -u)" = 0 ]; then exec python3 -I -S -; fi; '
    "sudo -n python3 -I -S - || { python3 -I -S -; exit 1; }'"
)
_GRACE_S = 15.0  # for the start of python3 on a slow host; its own bound is the request's limit_s


class ProbeRequest(Frozen):
    """What to look at besides the machine itself."""

    files: tuple[str, ...] = ()
    """absolute paths; hash, mode and owner of those that exist"""
    public_files: tuple[str, ...] = ()
    """those among them whose content is wanted"""
    mark: str = ""
    """how files of ours begin"""
    marked: tuple[str, ...] = ()
    """patterns of paths where to look for files with that mark"""
    units: tuple[str, ...] = ()
    """names, or patterns that match loaded units"""
    container_prefix: str = "vllm-"
    images: tuple[str, ...] = ()
    """references to inspect; all images are listed, with their tags, digests and labels, in any case"""
    cache_dir: str | None = None
    """where .provision/*.json tells of finished downloads"""
    cached: tuple[str, ...] = ()
    """model repositories of which to tell what is in that directory, whoever brought it"""
    paths: tuple[str, ...] = ()
    """of which to tell what is there"""
    disk_paths: tuple[str, ...] = ()
    """free space wanted; a path need not exist yet. The Docker engine's directory is always told."""
    ports: tuple[int, ...] = ()
    """TCP ports of which to tell who listens"""
    health: tuple[tuple[int, str], ...] = ()
    """port and bind address of servers whose GET /health is wanted"""
    firewall: bool = False
    """whether to tell which ports the host's firewall lets through; told in any case where the record names some"""
    record: str | None = None
    """where the roles write down what was there before them"""
    gpu_timeout_s: int = 30
    """for each nvidia-smi: a machine without persistence mode takes seconds, one with a hung driver for ever"""
    docker_timeout_s: int = 15
    limit_s: int = 60
    """for everything"""


@dataclass(frozen=True)
class ProbeResult:
    """One host, looked at: facts, or the error why there are none."""

    host: str
    facts: Facts | None
    error: ProvisionError | None
    seconds: float
    """connecting and looking, wall time"""


def probe(transport: Transport, request: ProbeRequest) -> Facts:
    """Look at one host. Raises HostError when it cannot answer, UnreachableError when the connection is lost."""
    timeout_s = request.limit_s + _GRACE_S
    result = transport.run(LAUNCH, stdin=script(request), timeout_s=timeout_s)
    return parse_facts(transport.host, parse_answer(transport.host, result))


def probe_all(
    hosts: Sequence[Host],
    connect: Callable[[Host], Transport],
    requests: Mapping[str, ProbeRequest],
    max_workers: int = 32,
) -> Iterator[ProbeResult]:
    """Look at all hosts at once; each result comes as soon as it is there. Connections stay open, for the caller.

    `requests`: by host name. At most `max_workers` hosts are looked at at the same time.
    """
    if not hosts:
        return
    pool = ThreadPoolExecutor(max_workers=min(max_workers, len(hosts)), thread_name_prefix="probe")
    try:
        for done in as_completed([pool.submit(_probe, host, connect, requests[host.name]) for host in hosts]):
            yield done.result()
    finally:  # also when the caller stops listening, such as at Ctrl-C
        pool.shutdown(wait=False, cancel_futures=True)


def script(request: ProbeRequest) -> str:
    """What the host's python3 is given: the host-side part and the call with the request."""
    text = resources.files("provisioner.hosts").joinpath("probe_script.py").read_text(encoding="utf-8")
    return f"{text}\nmain(json.loads({request.model_dump_json()!r}))\n"


def _probe(host: Host, connect: Callable[[Host], Transport], request: ProbeRequest) -> ProbeResult:
    start = time.monotonic()
    try:
        facts = probe(connect(host), request)
    except ProvisionError as error:
        return ProbeResult(host.name, None, error, time.monotonic() - start)
    return ProbeResult(host.name, facts, None, time.monotonic() - start)
