from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from provisioner.history.events import Event, Phase, Status
from provisioner.history.progress import LineProgress, LiveProgress, State, duration, progress

START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


def event(
    phase: Phase, task: str, status: Status = "running", *, at: int = 0, server: str = "", detail: str = ""
) -> Event:
    time = START + timedelta(seconds=at)
    return Event(host="gpu-01", phase=phase, task=task, status=status, time=time, server=server, detail=detail)


def plain(*events: Event) -> list[str]:
    stream = io.StringIO()
    with LineProgress(stream) as shown:
        for told in events:
            shown.take(told)
    return [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]


def test_lines_tell_phases_changes_and_ends() -> None:
    assert plain(
        event("apply", "docker_engine: look"),
        event("apply", "docker_engine: look", "ok"),
        event("apply", "docker_engine: install", "changed"),
        event("apply", "docker_engine: start", "running"),
        event("health", "waiting for /health", "started", server="nemotron"),
        event("health", "loading", server="nemotron"),
        event("health", "healthy after 3.0 s", "ok", server="nemotron"),
        event("done", "nemotron 202.2 output tok/s", "ok"),
    ) == [
        "gpu-01  apply  docker_engine: look",
        "gpu-01  apply  docker_engine: install [changed]",
        "gpu-01  health  nemotron: waiting for /health",
        "gpu-01  health  nemotron: healthy after 3.0 s",
        "gpu-01  done  nemotron 202.2 output tok/s",
    ]


def test_what_went_another_way_is_told_in_lines_and_above_the_table() -> None:
    told = event("apply", "vllm_image: Copy a:1", "skipped", detail="a:1 does not come from another host: none has it")
    text = "gpu-01  apply  vllm_image: Copy a:1: a:1 does not come from another host: none has it [skipped]"
    assert plain(event("apply", "x"), told)[1:] == [text]
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with LiveProgress(console, ["gpu-01"]) as shown:
        shown.take(told)
    assert isinstance(console.file, io.StringIO)
    assert text in console.file.getvalue()


def test_something_long_is_heard_of_once_a_minute() -> None:
    assert plain(
        event("apply", "Pull x"),
        event("apply", "Pull x", detail="1 of 9 layers", at=10),
        event("apply", "Pull x", detail="2 of 9 layers", at=70),
        event("apply", "Pull x", detail="3 of 9 layers", at=120),
        event("apply", "Pull x", detail="4 of 9 layers", at=130),
    ) == [
        "gpu-01  apply  Pull x",
        "gpu-01  apply  Pull x: 2 of 9 layers",
        "gpu-01  apply  Pull x: 4 of 9 layers",
    ]


def test_a_failure_is_one_line_with_its_reason() -> None:
    failed = Event(host="gpu-01", phase="apply", task="[x] pull", status="failed", detail="no such\n  manifest")
    assert plain(failed) == ["gpu-01  apply  [x] pull: no such manifest [failed]"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(state: State) -> str:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(state.table())
    return capture.get()


def test_the_table_has_every_host_from_the_start_and_its_elapsed_time() -> None:
    state = State(["gpu-01", "gpu-02"], lambda: START + timedelta(seconds=100))
    state.take(event("apply", "one", at=10))
    state.take(event("apply", "two [b]", at=90))
    text = shown(state)
    assert [line.split() for line in text.splitlines()] == [
        ["host", "phase", "task", "elapsed"],
        ["gpu-01", "apply", "two", "[b]", "1:30"],
        ["gpu-02", "waiting"],
    ]


def test_a_host_that_ended_has_no_running_clock() -> None:
    state = State(["gpu-01"], lambda: START + timedelta(seconds=100))
    state.take(event("done", "fine", "ok"))
    assert shown(state).splitlines()[1].split() == ["gpu-01", "done", "fine"]


def test_a_terminal_gets_the_live_table_and_anything_else_lines() -> None:
    assert isinstance(progress(io.StringIO(), ["a"]), LineProgress)
    terminal = Terminal()
    live = progress(terminal, ["gpu-01"])
    assert isinstance(live, LiveProgress)
    with live:
        live.take(event("probe", "looking"))
    assert "looking" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1:00"), (3723, "1:02:03"), (-1, "0 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
