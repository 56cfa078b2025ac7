"""The leases of a run's hosts: taken together or not at all, renewed while the run lives, given back at its end."""

from __future__ import annotations

import math
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeVar

from provisioner.errors import LockedError, ProvisionError, UnreachableError
from provisioner.fleet.models import Host
from provisioner.history.turn import control_id, current_user, holder
from provisioner.hosts import lease
from provisioner.hosts.lease import Answer, Holder, Who
from provisioner.hosts.transport import Transport
from provisioner.rollout.connections import Connections

LEASE_S = 300.0
"""after so long without a sign of life, another control machine may go on"""
RENEW_S = 60.0
PATIENCE_S = 3.0
"""two runs that begin at the same moment are in each other's way for a moment only"""
PAUSE_S = (0.3, 1.5)
"""between two attempts; not the same on both sides"""
MAX_WORKERS = 32

T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """How long leases are; tests have less time."""

    lease_s: float = LEASE_S
    renew_s: float = RENEW_S
    patience_s: float = PATIENCE_S


class Looked(Protocol):
    """A host that was looked at."""

    @property
    def host(self) -> Host:
        """Which one."""

    @property
    def leased(self) -> Holder | None:
        """Whose lease it had at that moment."""

    @property
    def lease_mark(self) -> str | None:
        """What tells later whether it was leased since (`lease.mark`); None where nobody can tell."""


class Leases:
    """Those of one run. Hosts that cannot be reached have none: nothing can be changed on them either."""

    def __init__(self, connections: Connections, hosts: Sequence[Host], who: Who, timing: Timing = Timing()) -> None:
        self._connections = connections
        self._hosts = sorted(hosts, key=lambda host: host.name)
        self._who = who
        self._timing = timing
        self._token = secrets.token_hex(8)
        self._last: dict[str, str] = {}
        self._boots: dict[str, str] = {}
        self._cleared: frozenset[str] = frozenset()
        self._taken: list[Host] = []
        self.lost = ""
        """why the run must stop: somebody else has a host by now; "" while all is well"""

    def take(self, wait_s: float, on_wait: Callable[[str], None]) -> None:
        """All of them, or LockedError with everybody who is in the way after `wait_s`."""
        end = time.monotonic() + max(wait_s, self._timing.patience_s)
        told, at_once = "", True
        while True:
            holders = self._attempt(at_once=at_once)
            if not holders:
                return
            if time.monotonic() >= end:
                waited = f" (waited {wait_s:g} s)" if wait_s else ""
                raise LockedError(_in_the_way(holders) + waited, hint=_HINT)
            if wait_s and (words := "; ".join(holders.values())) != told:
                on_wait(f"{_in_the_way(holders)}\nwaiting for the end of that")
                told = words
            time.sleep(random.uniform(*PAUSE_S))  # noqa: S311 - no secret
            at_once = False

    def untouched_since(self, seen: Iterable[Looked]) -> bool:
        """Whether no other run had one of the hosts since they were looked at."""
        marks = {one.host.name: one.lease_mark for one in seen}
        return all(marks.get(host.name) == self._last[host.name] for host in self._taken)

    def stopped_by(self, interrupted: Callable[[], bool]) -> Callable[[], bool]:
        """Whether the run must stop: somebody interrupted it, or somebody else has a host by now."""
        return lambda: interrupted() or bool(self.lost)

    def regained(self, say: Callable[[str], None]) -> AbstractContextManager[object]:
        """The hosts once more, for what a run that was stopped still owes them. LockedError where one was taken from
        this run and somebody else is at work on it."""
        if not self.lost:
            return nullcontext()
        return leased(self._connections, self._hosts, self._who, wait_s=0, say=say, timing=self._timing)

    def renew(self, connections: Connections) -> None:
        """Once. A host that does not answer is tried again the next time."""

        def one(host: Host) -> None:
            try:
                boot = self._boots[host.name]
                answer = lease.renew(connections.connect(host), self._token, self._who, self._timing.lease_s, boot)
            except ProvisionError:
                connections.drop(host)  # what is wrong with the host is for the run itself to find out
                return
            self._boots[host.name] = answer.boot
            if not answer.done:
                reason = str(answer.holder) if answer.holder else answer.unlocked or "nobody says who"
                self.lost = f"{host.name}: its lease was taken from this run: {reason}"

        _everywhere(one, self._taken)

    def clear(self, hosts: Iterable[str]) -> None:
        """On these hosts nothing that tells of leases is to stay, either. Whoever looked at one before, and takes its
        lease after that, is not told that another run was there, if that was the first since the host's boot."""
        self._cleared = frozenset(hosts)

    def release(self) -> list[str]:
        """Gives all of them back; tells of those where that failed."""
        failed: list[str] = []

        def one(host: Host) -> None:
            clear = host.name in self._cleared
            try:
                self._asked(host, lambda transport: lease.release(transport, self._token, clear=clear))
            except ProvisionError as error:
                failed.append(_expires(host, self._timing.lease_s, error))

        taken, self._taken = self._taken, []
        _everywhere(one, taken)
        return failed

    def _attempt(self, *, at_once: bool) -> dict[str, str]:
        """Who is in the way, by host; then nothing is held. `at_once`: all hosts at the same time, which is quick;
        otherwise one after another by name, so that of several runs one gets through."""
        holders: dict[str, str] = {}

        def one(host: Host) -> None:
            answer = self._take(host)
            if answer is None:
                return
            if answer.done:
                self._last[host.name], self._boots[host.name] = answer.last, answer.boot
                self._taken.append(host)
            else:
                holders[host.name] = str(answer.holder)

        if at_once:
            _everywhere(one, self._hosts)
        else:
            for host in self._hosts:
                if not holders:
                    one(host)
        if holders:
            self.release()
        return holders

    def _take(self, host: Host) -> Answer | None:
        """None where the host cannot be reached. The lease of a run that died on this machine is taken over at once,
        whatever its fleet: nobody has its turn here."""

        def take(transport: Transport) -> Answer:
            answer = lease.take(transport, self._token, self._who, self._timing.lease_s)
            there = answer.holder
            if answer.done or there is None or there.control != self._who.control or holder(there.fleet) is not None:
                return answer
            return lease.take(transport, self._token, self._who, self._timing.lease_s, over=there.token)

        try:
            return self._asked(host, take)
        except UnreachableError:
            self._connections.drop(host)
            return None

    def _asked(self, host: Host, question: Callable[[Transport], Answer]) -> Answer:
        """What the host answers; asked once more where the connection may have died of idleness."""
        try:
            return question(self._connections.connect(host))
        except UnreachableError:
            self._connections.drop(host)
            return question(self._connections.connect(host))


@contextmanager
def leased(
    connections: Connections,
    hosts: Sequence[Host],
    who: Who,
    *,
    wait_s: float,
    say: Callable[[str], None],
    timing: Timing = Timing(),
) -> Iterator[Leases]:
    """The hosts are ours until the block ends; then they are given back, however it ends."""
    leases = Leases(connections, hosts, who, timing)
    ended = threading.Event()

    def keep() -> None:
        with connections.others() as own:
            while not ended.wait(timing.renew_s) and not leases.lost:
                leases.renew(own)
                if leases.lost:
                    say(f"{leases.lost}; stopping")

    keeper = threading.Thread(target=keep, name="leases", daemon=True)
    try:
        leases.take(wait_s, say)
        keeper.start()
        yield leases
    finally:
        ended.set()
        if keeper.is_alive():
            keeper.join(lease.TIMEOUT_S)
        for words in leases.release():
            say(words)


def who_am_i(fleet: str, run: str) -> Who:
    """This control machine's name on the hosts."""
    return Who(user=current_user(), machine=socket.gethostname(), control=control_id(), fleet=fleet, run=run)


def unlock(connections: Connections, hosts: Sequence[Host], why: str) -> dict[str, Answer | ProvisionError]:
    """Ends the leases of these hosts, whoever has them; by host: what it said, or why it said nothing."""
    answers: dict[str, Answer | ProvisionError] = {}

    def one(host: Host) -> None:
        try:
            answers[host.name] = lease.unlock(connections.connect(host), why)
        except ProvisionError as error:
            answers[host.name] = error

    _everywhere(one, hosts)
    return {host.name: answers[host.name] for host in hosts}


def release_dead(connections: Connections, held: Iterable[tuple[Host, Holder]], fleet: str) -> list[str]:
    """Gives back what runs that died on this machine still hold, of what `held` tells; tells of those where that
    failed. `fleet`: whose turn this run has, so that no other run of it lives here.

    A run takes the hosts alone that still have work: without this, one that the dead run was done with stays leased
    until the lease expires, and another control machine waits for nobody.
    """
    ours, failed = control_id(), list[str]()

    def dead(there: Holder) -> bool:
        return there.control == ours and (there.fleet == fleet or holder(there.fleet) is None)

    def one(found: tuple[Host, Holder]) -> None:
        host, there = found
        try:
            lease.release(connections.connect(host), there.token)
        except ProvisionError as error:
            failed.append(_expires(host, there.left_s, error))

    _everywhere(one, [(host, there) for host, there in held if dead(there)])
    return failed


_HINT = (
    "wait for it: --lock-wait 10m. The lease of a run that died expires within 5 minutes; "
    "`provision unlock FLEET --reason TEXT` ends it at once"
)


def _in_the_way(holders: Mapping[str, str]) -> str:
    lines = [f"  {line}" for line in lease.by_holder(holders)]
    return "\n".join(["another run is at work on hosts of this one:", *lines])


def _expires(host: Host, left_s: float, error: ProvisionError) -> str:
    return f"{host.name}: its lease expires in {math.ceil(left_s / 60)} minutes: {error}"


def _everywhere(one: Callable[[T], None], things: Iterable[T]) -> None:
    todo = list(things)
    if not todo:
        return
    with ThreadPoolExecutor(min(MAX_WORKERS, len(todo)), thread_name_prefix="lease") as pool:
        for _ in pool.map(one, todo):
            pass
