"""What `make bench` prints of what it measured; the measuring itself is done by running it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import frame
    import output

    return frame, output


def test_a_missed_goal_is_named_with_what_limits_it(modules: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    frame, output = modules
    results = frame.Results()
    runs = {"ours": [frame.Sample(seconds, 0.5, 20, 0) for seconds in (1.0, 3.0, 2.0)]}
    results.add(
        frame.Row("quick", "time", 2.5, frame.middle(runs["ours"]), "s", runs, limit="nothing"),
        frame.Row("slow", "time", 1, 2.0, "s", stand_ins="a stand-in", limit="the network"),
    )
    results.point("quick", 1, 1.0)
    results.point("quick", 10, 3.0)
    text = output.write(tmp_path, results)
    lines = text.splitlines()
    assert "| quick | time | ≤ 2.5 s | 2 s | met |" in lines
    assert "| slow | time | ≤ 1 s | 2 s | **missed** |" in lines
    assert "| quick: ours | 3 | 1.00 s | 2.00 s | 3.00 s | 0.50 s | 20 MiB |" in lines
    assert lines[lines.index("Missed, and what limits it:") + 1] == "- slow, time: the network."
    assert lines[lines.index("Stand-ins:") + 1] == "- slow: a stand-in."
    recorded = json.loads((tmp_path / "results.json").read_text())
    assert [row["met"] for row in recorded["rows"]] == [True, False]
    assert recorded["noise"]["looks"] == 1
    assert (tmp_path / "time-by-hosts.svg").read_text().startswith("<svg ")


def test_ratios_are_taken_turn_by_turn(modules: tuple[ModuleType, ModuleType]) -> None:
    """The machine is ten times slower in the second turn: the ratio does not notice."""
    frame, _ = modules
    turns: list[str] = []

    def work(name: str, seconds: float) -> object:
        turns.append(name)
        return frame.Sample(seconds * (10 if len(turns) > 2 else 1), 0, 0, 0)

    samples = frame.in_turn(2, {"ours": lambda: work("ours", 2.0), "theirs": lambda: work("theirs", 1.0)})
    assert turns == ["ours", "theirs", "ours", "theirs"]
    assert [one.seconds for one in samples["ours"]] == [2.0, 20.0]
    assert frame.ratio(samples["ours"], samples["theirs"]) == 2


def test_a_command_that_fails_ends_the_benchmark_with_its_words(modules: tuple[ModuleType, ModuleType]) -> None:
    frame, _ = modules
    with pytest.raises(SystemExit, match=r"(?s)ended with 3:\nwhy"):
        frame.measure([sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    sample = frame.measure([sys.executable, "-c", "sum(range(10**6))"])
    assert 0 < sample.cpu_seconds < 60
    assert sample.peak_mib > 1
