"""A Dask cluster as this program sees it: where its scheduler is, which workers there are, whether they may be used.

The only module that knows how to speak to a scheduler; `distributed` is imported when it is first needed.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from provisioner import assets
from provisioner.apply.places import LOCAL
from provisioner.errors import ProvisionError, UnreachableError, UsageError

CONNECT_S = 15.0
_FRESH_S = 1.0
"""for how long what the scheduler said about its workers is taken to be so"""
_ADDRESS = re.compile(r"dask(?P<tls>\+tls)?://(?P<at>(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5})")
_SITE = "site:"
_TLS_HINT = (
    "give scheduler, workers and this machine certificates (Dask's distributed.comm.tls, for example "
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE) and use dask+tls://, or a tunnel to loopback"
)


@dataclass(frozen=True)
class Scheduler:
    """Where a scheduler is."""

    url: str
    """as the operator wrote it"""
    at: str
    """HOST:PORT"""
    tls: bool
    """wanted, whatever Dask's configuration says"""
    loopback: bool


@dataclass(frozen=True)
class DaskWorker:
    """One worker that is there."""

    address: str
    name: str
    sites: tuple[str, ...] = ()
    """resources `site:NAME` that it has"""

    @property
    def words(self) -> str:
        return self.name if self.name in ("", self.address) else f"{self.name} ({self.address})"


def read_address(text: str) -> Scheduler:
    """The scheduler that `--executor` names. UsageError for what names none."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise UsageError(f"--executor {text}: expected {LOCAL}, dask://HOST:PORT or dask+tls://HOST:PORT")
    return Scheduler(text, found["at"], bool(found["tls"]), is_loopback(f"tcp://{found['at']}"))


def is_loopback(address: str) -> bool:
    """Whether what is sent to an address of Dask's (`tcp://127.0.0.1:8786`) stays on this machine."""
    scheme, _, rest = address.partition("://")
    if scheme == "inproc":
        return True
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_safe(address: str) -> bool:
    """Whether secrets may be sent there: encrypted, or not over a network."""
    return address.startswith("tls://") or is_loopback(address)


def own() -> tuple[str, str]:
    """What workers must have too: the version, and what the roles say."""
    return metadata.version("provision"), assets.fingerprint()


def worker_of(address: str, told: dict[str, Any]) -> DaskWorker:
    """A worker as the scheduler tells of it."""
    sites = [name.removeprefix(_SITE) for name in told.get("resources") or {} if name.startswith(_SITE)]
    return DaskWorker(address, str(told.get("name", "")), tuple(sorted(sites)))


class Cluster:
    """A connection to a scheduler; made when it is first needed, and closed by `close`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._client: Any = None
        self._seen: tuple[DaskWorker, ...] = ()
        self._seen_at = float("-inf")
        self._fit: set[str] = set()
        self._guard = threading.Lock()

    @property
    def url(self) -> str:
        return self._scheduler.url

    def check(self) -> None:
        """Raises where there is no worker, or one that must not be used: another version, no encryption."""
        workers = self.workers()
        if not workers:
            raise UsageError(f"{self.url}: no worker is there", hint="start `dask worker` where the hosts are near")
        for worker in workers:
            self.check_worker(worker)

    def check_worker(self, worker: DaskWorker) -> None:
        """Raises where this worker must not be used; asks each one once."""
        if worker.address in self._fit:
            return
        if not is_safe(worker.address):
            raise UsageError(
                f"{self.url}: worker {worker.words} is reached without encryption: it gets the fleet's secrets",
                hint=_TLS_HINT,
            )
        here, roles = own()
        there = self._ask(worker, metadata.version, "provision")
        if isinstance(there, BaseException):
            raise UsageError(
                f"{self.url}: worker {worker.words} has no provision ({there}); this machine has {here}",
                hint="install the same wheel, with the extra dask, where `dask worker` runs",
            )
        if there != here:
            raise UsageError(
                f"{self.url}: worker {worker.words} has provision {there}, this machine has {here}",
                hint="install the same version on both",
            )
        roles_there = self._ask(worker, assets.fingerprint)
        if roles_there != roles:
            raise UsageError(
                f"{self.url}: worker {worker.words} has provision {there} with other roles ({roles_there}) than this "
                f"machine ({roles})",
                hint="install the same wheel on both",
            )
        self._fit.add(worker.address)

    def workers(self) -> tuple[DaskWorker, ...]:
        """Those that are there now, by their addresses."""
        with self._guard:
            if time.monotonic() - self._seen_at > _FRESH_S:
                told = self.client.scheduler_info(n_workers=-1)["workers"]
                self._seen = tuple(worker_of(address, told[address]) for address in sorted(told))
                self._seen_at = time.monotonic()
            return self._seen

    @property
    def client(self) -> Any:
        """Dask's own."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask(self, worker: DaskWorker, what: Any, *given: str) -> Any:
        answers = self.client.run(what, *given, workers=[worker.address], on_error="return")
        return answers.get(worker.address, ProvisionError("it does not answer"))

    def _connect(self) -> Any:
        try:
            from distributed import Client, Security
        except ImportError as error:
            raise UsageError(
                f"--executor {self.url}: this Python has no Dask ({error})",
                hint="install the extra: pip install 'provision[dask]'",
            ) from error
        security = Security()
        told = bool(security.tls_ca_file and security.tls_client_cert)
        if self._scheduler.tls and not told:
            raise UsageError(
                f"{self.url}: Dask's configuration on this machine names no certificates",
                hint="set distributed.comm.tls.ca-file, client.cert and client.key, for example by "
                "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT",
            )
        if not told and not self._scheduler.loopback:
            raise UsageError(
                f"{self.url}: without encryption, and workers get the fleet's secrets through it", hint=_TLS_HINT
            )
        address = f"{'tls' if told else 'tcp'}://{self._scheduler.at}"
        try:
            return Client(address, timeout=CONNECT_S, set_as_default=False, security=security)
        except OSError as error:
            reason = str(error.__cause__ or error)
            raise UnreachableError(f"{self.url}: no scheduler answers at {address}: {reason}") from error
