"""What is happening on each host, live: a table at a terminal, plain lines elsewhere. Fed by events alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from provisioner.history.events import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

REFRESH_PER_S = 4
SIGN_OF_LIFE = timedelta(minutes=1)
COLORS = {"done": "green", "failed": "red"}


class Progress(Protocol):
    """A context that takes events from any thread."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def take(self, event: Event) -> None: ...


def progress(stream: TextIO, hosts: Sequence[str]) -> Progress:
    """A live table where `stream` is a terminal, plain lines where it is none."""
    if not stream.isatty():
        return LineProgress(stream)
    from rich.console import Console

    return LiveProgress(Console(file=stream), hosts)


class State:
    """Where each host is, as far as the events told; safe to use from several threads."""

    def __init__(self, hosts: Sequence[str], clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, Event | None] = dict.fromkeys(hosts)
        self._since: dict[str, datetime] = {}

    def take(self, event: Event) -> None:
        with self._lock:
            before = self._last.get(event.host)
            if before is None or before.phase != event.phase or before.server != event.server:
                self._since[event.host] = event.time
            self._last[event.host] = event

    def table(self) -> Table:
        """Host × phase, task, and how long the phase has been going on."""
        from rich.markup import escape
        from rich.table import Table

        built = Table(box=None, pad_edge=False)
        built.add_column("host")
        built.add_column("phase")
        built.add_column("task", overflow="ellipsis", no_wrap=True, ratio=1)
        built.add_column("elapsed", justify="right")
        with self._lock:
            for host, event in self._last.items():
                built.add_row(escape(host), *self._cells(host, event))
        return built

    def _cells(self, host: str, event: Event | None) -> tuple[str, str, str]:
        from rich.markup import escape

        if event is None:
            return "[dim]waiting[/]", "", ""
        color = "red" if event.status == "failed" else COLORS.get(event.phase, "cyan")
        ended = event.phase in COLORS
        elapsed = "" if ended else duration((self._clock() - self._since[host]).total_seconds())
        return f"[{color}]{event.phase}[/]", escape(_task(event)), elapsed


class LiveProgress:
    """The live table; it stays on the screen as it was at the end."""

    def __init__(
        self,
        console: Console,
        hosts: Sequence[str],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        from rich.live import Live

        self._state = State(hosts, clock)
        self._live = Live(console=console, get_renderable=self._state.table, refresh_per_second=REFRESH_PER_S)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def take(self, event: Event) -> None:
        self._state.take(event)
        if is_notice(event):  # the table forgets it
            self._live.console.print(line(event), markup=False, highlight=False)


class LineProgress:
    """One line whenever a host enters a phase, changes something, fails or is done; of what goes on for long, one a
    minute."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._phases: dict[tuple[str, str], str] = {}
        self._said: dict[str, datetime] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def take(self, event: Event) -> None:
        with self._lock:
            entered = self._phases.get((event.host, event.server)) != event.phase
            self._phases[event.host, event.server] = event.phase
            # An Ansible task that changed nothing is no news; the end of any other phase is.
            news = event.status in ("changed", "failed") or (event.status == "ok" and event.phase != "apply")
            news = news or is_notice(event)
            last = self._said.get(event.host)
            slow = event.status == "running" and event.detail and last and event.time - last >= SIGN_OF_LIFE
            if entered or news or slow:
                self._said[event.host] = event.time
                self._say(event)

    def _say(self, event: Event) -> None:
        # Not printed by rich: its millisecond a line would be most of what a thousand hosts cost.
        self._stream.write(f"{line(event)}\n")
        self._stream.flush()


def is_notice(event: Event) -> bool:
    """Whether it tells why something went another way than it should have."""
    return event.status == "skipped" and bool(event.detail)


def line(event: Event) -> str:
    """An event as one plain line."""
    time = event.time.astimezone().strftime("%H:%M:%S")
    return f"{time}  {event.host}  {event.phase}  {_task(event)}".rstrip()


def duration(seconds: float) -> str:
    """`7 s`, `3:05`, `1:02:03`."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _task(event: Event) -> str:
    words = ": ".join(part for part in (event.server, event.task, event.detail) if part)
    if event.status in ("failed", "changed", "skipped") and event.phase != "failed":
        words = f"{words} [{event.status}]"
    return " ".join(words.split())
