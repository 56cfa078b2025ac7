"""Where Ansible runs: on this machine, or elsewhere by parts. Both are executors that get the same work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from provisioner.apply.outcome import Outcomes
from provisioner.apply.play import Job, play
from provisioner.fleet.models import Host

LOCAL = "local"
"""`--executor`: this machine"""
SITE = "site"
"""label of a host that says where it is"""
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Hosts that are worked on by one Ansible."""

    hosts: tuple[str, ...]
    site: str = ""
    """whose workers get it; "" for any"""
    folder: str = ""
    """its own in the folder of the run; "" where there is but one"""


@dataclass(frozen=True)
class Work:
    """A shard, and all that is needed to run a playbook over it."""

    shard: Shard
    folder: Path
    """with its inventory"""
    job: Job
    secrets: Mapping[str, str]
    """by their names in `provision_secrets`"""
    outcomes: Outcomes
    """told what happens, as it happens"""
    interrupted: Callable[[], bool]


@dataclass(frozen=True)
class Played:
    """How a shard ended."""

    status: str
    """ansible-runner's word for it; "lost" where Ansible was, with its machine"""
    last: str = ""
    """the last lines of what Ansible printed, or why it was lost"""


class Place(Protocol):
    """Where Ansible runs."""

    executor: Executor
    """gets `play` and a shard's work"""
    own_ssh: bool
    """hosts are reached as the SSH configuration of there says, with keys that are there"""

    def check(self) -> None:
        """Raises a ProvisionError where nothing can be done there."""

    def split(self, hosts: Sequence[Host]) -> tuple[Shard, ...]:
        """The shards of these hosts; every host is in one."""

    def play(self, work: Work) -> Played:
        """Runs the playbook to its end."""


class InPlace(Executor):
    """Does what it is given at once, in the thread that gives it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Here:
    """This machine: one Ansible for all hosts."""

    own_ssh = False

    def __init__(self) -> None:
        self.executor: Executor = InPlace()

    def check(self) -> None:
        return

    def split(self, hosts: Sequence[Host]) -> tuple[Shard, ...]:
        return (Shard(tuple(host.name for host in hosts)),)

    def play(self, work: Work) -> Played:
        return Played(*play(work.folder, work.job, work.secrets, take=work.outcomes.take, interrupted=work.interrupted))


@contextmanager
def place_of(executor: str) -> Iterator[Place]:
    """Where `--executor` says that Ansible runs. UsageError for what it cannot mean."""
    if executor == LOCAL:
        yield Here()
        return
    from provisioner.apply.workers import workers_of  # not for runs that stay here: it takes its time

    with workers_of(executor) as workers:
        yield workers


def split(hosts: Sequence[Host], sites: Mapping[str, int], workers: int) -> tuple[Shard, ...]:
    """Shards by site, and by equal parts where a site has several workers.

    `sites`: workers of each site. A host belongs to the site of its label `site`, else to the first of its groups which
    is one. `workers`: how many others take the hosts of no site.
    """
    at: dict[str, list[str]] = {}
    for host in hosts:
        site = next((one for one in (host.labels.get(SITE), *host.groups) if one in sites), None)
        at.setdefault(site or "", []).append(host.name)
    parts = [
        (site, names[begin :: min(len(names), sites.get(site, workers))])
        for site, names in at.items()
        for begin in range(min(len(names), sites.get(site, workers)))
    ]
    return tuple(Shard(tuple(part), site, f"shard-{number}") for number, (site, part) in enumerate(parts, 1))
