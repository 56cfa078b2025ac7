"""What a shell may complete out of the history. A history that cannot be read completes nothing: there is no place for
a message."""

from __future__ import annotations

from collections.abc import Callable

from provisioner.errors import ProvisionError


def run_ids(incomplete: str) -> list[str]:
    """Runs, newest first."""
    return _found(lambda: ["latest", *_runs()], incomplete)


def hosts(incomplete: str) -> list[str]:
    """Hosts that a run has acted on."""
    return _found(_hosts, incomplete)


def _runs() -> list[str]:
    from provisioner.history.store import open_store

    with open_store(read_only=True) as store:
        return [run.id for run in store.runs(limit=200)]


def _hosts() -> list[str]:
    from provisioner.history.store import open_store

    with open_store(read_only=True) as store:
        return list(store.hosts())


def _found(ask: Callable[[], list[str]], incomplete: str) -> list[str]:
    try:
        return [word for word in ask() if word.startswith(incomplete)]
    except ProvisionError:
        return []
