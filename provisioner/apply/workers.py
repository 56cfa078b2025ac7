"""Shards on Dask workers: each is given to one near its hosts, followed while it works, and given to another when that
one is lost. What workers do: `worker.py`."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict

from provisioner.apply import worker as there
from provisioner.apply.cluster import Cluster, DaskWorker, read_address
from provisioner.apply.places import Played, Shard, Work, split
from provisioner.apply.play import IDENT
from provisioner.apply.reaper import PATIENCE_S
from provisioner.apply.transit import Processor, transmit
from provisioner.errors import ProvisionError
from provisioner.fleet.models import Host

TURNS = 3
"""of a shard, at most: whoever loses three workers has something that kills them"""
WAIT_S = 120.0
"""for a worker to come, where none is left that may have a shard"""
REST_S = PATIENCE_S + 1
"""between losing a worker and giving its shard to another: what is left of its Ansible is ended in this time"""
END_S = 60.0
"""for a worker to end a shard that was interrupted, and to say its last words"""
MAX_SHARDS = 1024
"""followed at a time: a thread each, which waits; made when it is needed"""
_LOOK_S = 1.0
_LISTEN_S = 0.2
_TOLD_EVERY_S = 10.0
"""how often a worker hears that somebody still wants its shard; see worker.SILENCE_S"""


class Workers:
    """The workers of a Dask cluster, as a place where Ansible runs."""

    own_ssh = True

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._given: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._left = threading.Event()
        self.executor: Executor = ThreadPoolExecutor(MAX_SHARDS, thread_name_prefix="shard")

    def check(self) -> None:
        self._cluster.check()

    def close(self) -> None:
        """Ends what is under way; workers end their shards by themselves."""
        self._left.set()
        self.executor.shutdown(cancel_futures=True)
        self._cluster.close()

    def split(self, hosts: Sequence[Host]) -> tuple[Shard, ...]:
        workers = self._cluster.workers()
        sites = Counter(site for worker in workers for site in worker.sites)
        anywhere = [worker for worker in workers if not worker.sites] or workers
        return split(hosts, sites, max(1, len(anywhere)))

    def play(self, work: Work) -> Played:
        """A shard from its first turn to its last."""

        def stopped() -> bool:
            return work.interrupted() or self._left.is_set()

        stream = transmit(work.folder)
        why = ""
        for number in range(1, TURNS + 1):
            try:
                worker = self._choose(work.shard, stopped)
                if worker is None:
                    return Played("canceled")
                if number > 1:
                    work.outcomes.again(f"{why.splitlines()[0]}: once more on {worker.words}")
                turn = _Turn(self._cluster, worker, work, stream, IDENT if number == 1 else f"{IDENT}-{number}")
                try:
                    played = turn.follow(stopped, self._left)
                finally:
                    self._back(worker)
            except (OSError, ProvisionError) as error:  # the scheduler is gone, or no worker may be used
                return Played("lost", f"{self._cluster.url}: {error}")
            if played.status != "lost" or stopped():
                return played if played.status != "lost" else Played("canceled")
            why = played.last
            _wait(REST_S, stopped)
        return Played("lost", f"its shard ({', '.join(work.shard.hosts)}) was begun {TURNS} times, and lost: {why}")

    def _choose(self, shard: Shard, stopped: Callable[[], bool]) -> DaskWorker | None:
        """The worker that has least to do, among those of the shard's site; None when the run is to end."""
        deadline = time.monotonic() + WAIT_S
        refused: dict[str, ProvisionError] = {}  # one that came later may be of another version
        while not stopped():
            with self._guard:
                able = [one for one in _able(self._cluster.workers(), shard) if one.address not in refused]
                worker = min(able, key=lambda one: self._given[one.address]) if able else None
                if worker:
                    self._given[worker.address] += 1
            if worker:
                try:
                    self._cluster.check_worker(worker)
                except ProvisionError as error:
                    refused[worker.address] = error
                    self._back(worker)
                else:
                    return worker
            elif time.monotonic() > deadline:
                where = f"for site {shard.site} " if shard.site else ""
                reasons = "".join(f"\n{error}" for error in refused.values())
                raise ProvisionError(f"no worker {where}is left; none came within {WAIT_S:.0f} s{reasons}")
            else:
                _wait(_LOOK_S, stopped)
        return None

    def _back(self, worker: DaskWorker) -> None:
        with self._guard:
            self._given[worker.address] -= 1


@contextmanager
def workers_of(executor: str) -> Iterator[Workers]:
    """The workers of the scheduler that `--executor` names. UsageError for what it cannot mean."""
    with closing(Workers(Cluster(read_address(executor)))) as workers:
        yield workers


def _able(workers: Sequence[DaskWorker], shard: Shard) -> Sequence[DaskWorker]:
    if shard.site:
        return [worker for worker in workers if shard.site in worker.sites]
    return [worker for worker in workers if not worker.sites] or workers


class _Turn:
    """One shard at one worker."""

    def __init__(self, cluster: Cluster, worker: DaskWorker, work: Work, stream: bytes, ident: str) -> None:
        from distributed import Queue

        self._cluster, self._worker = cluster, worker
        name = f"provision-{uuid.uuid4().hex}"
        self._orders = Queue(there.orders_of(name), client=cluster.client)
        self._words = Queue(there.words_of(name), client=cluster.client)
        # Through the queue, for Dask keeps and logs what tasks are given.
        self._orders.put({"do": "play", "job": asdict(work.job), "secrets": dict(work.secrets), "stream": stream})
        # On this worker and no other: who gets a shard when its worker is lost is decided here, with a rest between.
        executor = cluster.client.get_executor(pure=False, workers=[worker.address])
        self._task: Future[str] = executor.submit(there.work, name)
        self._processor = Processor(work.folder, work.outcomes.take, ident)

    def follow(self, stopped: Callable[[], bool], left: threading.Event) -> Played:
        """Until it ends. `lost`: with its worker, or with its process there; the last lines say what is known."""
        try:
            ended = self._listen(stopped, left)
        finally:
            status, last = self._processor.end()
            self._leave()
        if ended is None:
            return Played("lost", "\n".join(filter(None, [f"worker {self._worker.words} was lost", last])))
        if status == "canceled" and not stopped():
            why = f"worker {self._worker.words} heard nothing of this machine for {there.SILENCE_S:.0f} s"
            return Played("lost", "\n".join(filter(None, [why, last])))
        if status == "error" or ended:
            return Played("lost", "\n".join(filter(None, [f"worker {self._worker.words}: Ansible {ended}", last])))
        return Played(status, last)

    def _listen(self, stopped: Callable[[], bool], left: threading.Event) -> str | None:
        """Why the stream is not whole, "" where it is; None where the worker is gone."""
        told, end_by = time.monotonic(), float("inf")
        while not left.is_set():
            # Never with a timeout, which the scheduler logs as an error each time.
            words = self._words.get(batch=True)
            for word in words:
                if "end" in word:
                    return str(word["end"])
                self._processor.put(word["stream"])
            now = time.monotonic()
            if stopped() and end_by == float("inf"):
                self._orders.put({"do": "cancel"})
                end_by = now + END_S
            elif now - told > _TOLD_EVERY_S:
                self._orders.put({"do": "go on"})
                told = now
            if words:
                continue
            if now > end_by or self._gone():
                return None
            if self._task.done():
                # What it said before is in the queue already.
                error = None if self._task.cancelled() else self._task.exception()
                if error is not None:
                    return f"could not begin: {type(error).__name__}: {error}"
                end_by = min(end_by, now + END_S)
            left.wait(_LISTEN_S)
        return None

    def _gone(self) -> bool:
        return all(worker.address != self._worker.address for worker in self._cluster.workers())

    def _leave(self) -> None:
        """Leaves nothing at the scheduler, least of all an order that nobody took."""
        self._task.cancel()
        try:
            self._orders.get(batch=True)
            self._words.get(batch=True)
            # Should it be alive and only out of sight, it ends its shard.
            self._orders.put({"do": "cancel"})
        finally:
            self._orders.close()
            self._words.close()


def _wait(seconds: float, stopped: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stopped():
        time.sleep(0.1)
