"""Whether a wave may begin before the window ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provisioner.history.events import Event
from provisioner.history.steps import Step, StepKind
from provisioner.history.store import Store, open_store
from provisioner.rollout.deadline import Deadline, Expected, expected

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)
UNKNOWN_S = 3600.0


def at(text: str) -> Deadline:
    now = datetime.fromisoformat(f"2026-11-28T{text}:00+00:00")
    return Deadline(END, wave_s=UNKNOWN_S, now=lambda: now)


@pytest.mark.parametrize(
    ("now", "takes", "refused"),
    [
        ("02:00", Expected(3600), False),
        ("05:30", Expected(1800), False),
        ("05:31", Expected(1800), True),
        ("05:10", Expected(1800, 1200), False),
        ("05:11", Expected(1800, 1200), True),
    ],
)
def test_refusing(now: str, takes: Expected, refused: bool) -> None:
    assert bool(at(now).refuses(takes)) is refused


def test_the_words() -> None:
    words = "it would not be over by 06:00 (UTC), which ends the window: it takes 45m"
    assert at("05:30").refuses(Expected(2700)) == words
    assert at("05:30").refuses(Expected(2700, 600)) == f"{words}, and going back from it 10m"
    assert at("05:30").latest_start(Expected(2700, 600)) == datetime(2026, 11, 28, 5, 5, tzinfo=UTC)


class History:
    """Runs of hosts a, b and c, each with what it told of them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs = 0

    def rollout(self, code: int = 0, *, back: int = 0, **minutes: int) -> None:
        """One wave; `minutes` that each host took, and all of them for going back."""
        run = self._begin()
        hosts = tuple(minutes)
        self._step(run, "wave", hosts, 0)
        self._spans(run, minutes)
        if back:
            self._step(run, "rolling_back", hosts, 100)
            for host in hosts:
                self._step(run, "rolled_back", (host,), 100 + back)
        self.store.finish_run(run, code)

    def validation(self, **minutes: int) -> None:
        """A run without waves."""
        run = self._begin()
        self._spans(run, minutes)
        self.store.finish_run(run, 0)

    def expected(self, hosts: str, returning: str = "", fleet: str = "sim") -> Expected:
        return expected(self.store, fleet, tuple(hosts), tuple(returning), UNKNOWN_S)

    def _begin(self) -> str:
        self.runs += 1
        self.store.begin_run(f"r{self.runs}", "sim", "f.yaml", ["x"], "ops", ["a", "b", "c"])
        return f"r{self.runs}"

    def _step(self, run: str, kind: StepKind, hosts: tuple[str, ...], minute: int) -> None:
        self.store.add_step(run, Step(kind=kind, hosts=hosts, time=BEGIN + timedelta(minutes=minute)))

    def _spans(self, run: str, minutes: dict[str, int]) -> None:
        for host, took in minutes.items():
            self.store.add_event(run, Event(host=host, phase="apply", time=BEGIN))
            self.store.add_event(run, Event(host=host, phase="done", time=BEGIN + timedelta(minutes=took)))


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with open_store(tmp_path / "history.sqlite") as store:
        yield History(store)


def test_a_wave_takes_as_long_as_its_slowest_host_did(history: History) -> None:
    history.rollout(a=10, b=20)
    history.rollout(a=25, b=50)
    history.rollout(1, a=90, b=90)
    assert history.expected("a") == Expected(25 * 60)
    assert history.expected("ab") == Expected(50 * 60)
    assert history.expected("abc") == Expected(UNKNOWN_S)
    assert history.expected("a", fleet="other") == Expected(UNKNOWN_S)


def test_only_the_last_waves_of_each_host_count(history: History) -> None:
    history.rollout(a=90)
    history.rollout(b=40)
    for _ in range(5):
        history.rollout(a=10)
    assert history.expected("a") == Expected(10 * 60)
    assert history.expected("ab") == Expected(40 * 60)


def test_what_is_no_rollout_says_nothing_of_waves(history: History) -> None:
    history.rollout(a=30)
    for _ in range(9):
        history.validation(a=2)
    assert history.expected("a") == Expected(30 * 60)


@pytest.mark.parametrize(
    ("told", "returning", "minutes"),
    [
        (lambda of: of.rollout(a=30, b=30), "", 0),
        (lambda of: of.rollout(a=30, b=30), "a", 30),
        (lambda of: of.rollout(3, a=90, back=12), "a", 12),
        (lambda of: (of.rollout(3, a=90, back=12), of.rollout(3, a=90, back=9)), "a", 12),
        (lambda of: of.rollout(3, a=90, back=12), "ab", 60),
        (lambda of: of.rollout(3, a=90, b=90, back=70), "b", 70),
    ],
    ids=["never", "unknown", "known", "the longest", "one of two known", "longer than the wave"],
)
def test_going_back(history: History, told: Callable[[History], None], returning: str, minutes: int) -> None:
    """As long as it took the last times; of a host that never went back, as long as the wave."""
    told(history)
    assert history.expected("a", returning).back_s == minutes * 60
