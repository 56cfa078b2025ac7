"""What happens to hosts, on the screen and in the record of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from provisioner.history.events import Event, OnEvent
from provisioner.history.progress import progress
from provisioner.history.rundir import Run


@contextmanager
def shown(hosts: Sequence[str], run: Run | None) -> Iterator[OnEvent]:
    """Events go to the screen and, in a run, to its directory."""
    with progress(Console(stderr=True), hosts) as screen:
        targets: list[Callable[[Event], None]] = [screen.take, *([run.add] if run else [])]

        def take(event: Event) -> None:
            for target in targets:
                target(event)

        yield take
