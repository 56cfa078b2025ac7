"""Whether a wave may begin before the window ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provisioner.history.events import Event
from provisioner.history.store import open_store
from provisioner.rollout.deadline import Deadline, expected_wave_s

END = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)


def at(text: str) -> Deadline:
    now = datetime.fromisoformat(f"2026-11-28T{text}:00+00:00")
    return Deadline(END, wave_s=3600, now=lambda: now)


@pytest.mark.parametrize(
    ("now", "expected_s", "refused"),
    [
        ("02:00", None, False),
        ("05:00", None, False),
        ("05:01", None, True),
        ("05:30", 1800, False),
        ("05:31", 1800, True),
    ],
)
def test_refusing(now: str, expected_s: float | None, refused: bool) -> None:
    assert bool(at(now).refuses(expected_s)) is refused


def test_the_words() -> None:
    assert at("05:30").refuses(2700) == "it would not be over by 06:00 (UTC), which ends the window: it takes 45m"
    assert at("05:30").latest_start(2700) == datetime(2026, 11, 28, 5, 15, tzinfo=UTC)


def test_what_the_history_knows(tmp_path: Path) -> None:
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    with open_store(tmp_path / "history.sqlite") as store:
        for number, (minutes, code) in enumerate([(10, 0), (25, 0), (90, 1)]):
            store.begin_run(f"r{number}", "sim", "f.yaml", ["x"], "ops", ["a", "b"])
            for host, factor in (("a", 1), ("b", 2)):
                store.add_event(f"r{number}", Event(host=host, phase="apply", time=begin))
                store.add_event(
                    f"r{number}", Event(host=host, phase="done", time=begin + timedelta(minutes=minutes * factor))
                )
            store.finish_run(f"r{number}", code)
        assert expected_wave_s(store, "sim", ["a"]) == 25 * 60
        assert expected_wave_s(store, "sim", ["a", "b", "c"]) == 50 * 60
        assert expected_wave_s(store, "sim", ["c"]) is None
        assert expected_wave_s(store, "other", ["a"]) is None
