"""What happens to hosts, on the screen and in the record of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from provisioner.history.events import Event, OnEvent
from provisioner.history.progress import progress

if TYPE_CHECKING:
    from provisioner.history.rundir import Run


@contextmanager
def shown(hosts: Sequence[str], run: Run | None) -> Iterator[OnEvent]:
    """Events go to the screen and, in a run, to its directory."""
    with progress(sys.stderr, hosts) as screen:
        targets: list[Callable[[Event], None]] = [screen.take, *([run.add] if run else [])]

        def take(event: Event) -> None:
            for target in targets:
                target(event)

        yield take
