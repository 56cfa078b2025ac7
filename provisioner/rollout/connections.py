"""SSH connections of one run: opened when first needed, shared by its phases, closed at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from provisioner.fleet.models import Host
from provisioner.hosts.transport import Transport

KEPT = 256
"""connections that are kept open between phases"""


class Connections:
    """One transport a host; a lost one is opened anew on the next use."""

    def __init__(self, open_transport: Callable[[Host], Transport]) -> None:
        self._open = open_transport
        self._transports: dict[str, Transport] = {}
        self._lock = threading.Lock()

    def connect(self, host: Host) -> Transport:
        """The transport to a host; raises UnreachableError when there is no way to it."""
        with self._lock:
            known = self._transports.get(host.name)
        if known is not None:
            return known
        fresh = self._open(host)
        with self._lock:
            kept = self._transports.setdefault(host.name, fresh)
        if kept is not fresh:  # another thread was quicker
            fresh.close()
        return kept

    def others(self) -> Connections:
        """More connections to the same hosts, for work that must not disturb this one's."""
        return Connections(self._open)

    def release(self, host: Host) -> None:
        """Not needed for now. It stays open for the next phase, unless so many are that the rest would have no room:
        each is a thread and a descriptor, of which a process may have 1024 on many machines.
        """
        with self._lock:
            many = len(self._transports) > KEPT
        if many:
            self.drop(host)

    def drop(self, host: Host) -> None:
        """Forget a connection that may be dead, such as one from before a long phase."""
        with self._lock:
            known = self._transports.pop(host.name, None)
        if known is not None:
            known.close()

    def __enter__(self) -> Connections:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            transports, self._transports = list(self._transports.values()), {}
        for transport in transports:
            transport.close()
