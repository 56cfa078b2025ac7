from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.apply.outcome import LAST_TASK, Outcomes, TaskChange, words
from provisioner.history.events import Event

ROOT = Path(__file__).parents[3]


def event(kind: str, host: str = "a", **data: Any) -> dict[str, Any]:
    """As ansible-runner gives them to an event handler, with the keys that are read."""
    return {"event": kind, "event_data": {"host": host, "task": "Install", "role": "docker_engine", **data}}


def stats(**hosts: dict[str, int]) -> dict[str, Any]:
    return {"event": "playbook_on_stats", "event_data": {"ok": {}, "changed": {}, "ignored": {}, **hosts}}


def read(*events: dict[str, Any], hosts: tuple[str, ...] = ("a", "b")) -> tuple[Outcomes, list[Event]]:
    heard: list[Event] = []
    outcomes = Outcomes(hosts, heard.append)
    assert all(outcomes.take(one) for one in events)
    return outcomes, heard


def short(heard: list[Event]) -> list[tuple[str, str, str, str]]:
    return [(one.host, one.status, one.task, one.detail) for one in heard]


def test_a_run_without_failures() -> None:
    outcomes, heard = read(
        {"event": "playbook_on_start", "event_data": {"playbook": "site.yml"}, "uuid": "1"},
        {"event": "verbose", "stdout": "…"},
        event("runner_on_start"),
        event("runner_on_ok", res={"changed": True}),
        event("runner_on_ok", host="b", res={"changed": False}),
        event("runner_on_skipped", host="b", res={}),
        event("runner_on_ok", res={"changed": True}),
        stats(ok={"a": 2, "b": 1}),
    )
    assert short(heard) == [
        ("a", "running", "docker_engine: Install", ""),
        ("a", "changed", "docker_engine: Install", ""),
        ("b", "ok", "docker_engine: Install", ""),
        ("a", "changed", "docker_engine: Install", ""),
    ]
    assert {one.phase for one in heard} == {"apply"}
    assert outcomes.finished
    assert (outcomes.changed("a"), outcomes.changed("b")) == (2, 0)
    assert not any(outcomes.failed(host) or outcomes.unreachable(host) for host in "ab")


def test_a_task_that_waits_for_something_long_says_how_far_it_is() -> None:
    outcomes, heard = read(
        event("runner_on_start"),
        event("runner_retry", res={"progress": "3 of 9 layers", "finished": False}),
        event("runner_retry", res={"msg": "again"}),
        event("runner_on_ok", res={"changed": True}),
        stats(changed={"a": 1}),
    )
    assert [(one.status, one.detail) for one in heard] == [
        ("running", ""),
        ("running", "3 of 9 layers"),
        ("changed", ""),
    ]
    assert outcomes.changed("a") == 1


def test_a_host_that_is_through_is_told_at_once() -> None:
    through: list[str] = []
    outcomes = Outcomes(("a", "b"), lambda _event: None, through.append)
    outcomes.take(event("runner_on_ok", res={}))
    assert through == []
    outcomes.take(event("runner_on_ok", host="b", role=None, task=LAST_TASK, res={}))
    assert through == ["b"]


def test_the_last_task_of_the_playbook_is_the_one_that_is_waited_for() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
    assert play["tasks"][-1]["name"] == LAST_TASK


def test_what_went_another_way_than_it_should_have_is_told() -> None:
    outcomes, heard = read(event("runner_on_ok", res={"changed": False, "notice": "not from gpu-02"}), stats())
    assert short(heard) == [
        ("a", "ok", "docker_engine: Install", ""),
        ("a", "skipped", "docker_engine: Install", "not from gpu-02"),
    ]
    assert not outcomes.failed("a")


def test_changes_of_tasks_that_are_not_logged_are_counted_in_the_end() -> None:
    outcomes, _ = read(
        event("runner_on_ok", res={"changed": True}),
        event("runner_on_ok", res={"censored": "…"}),
        stats(changed={"a": 2}),
    )
    assert (outcomes.changed("a"), outcomes.changed("b")) == (2, 0)


def test_what_changed_is_told_with_its_diff() -> None:
    """The diff of a task comes before its end; one that changed nothing leaves none to the next."""
    shown = {"stdout": "\r\n--- before\r\n+++ after\r\n"}
    outcomes, _ = read(
        event("runner_on_file_diff") | {"stdout": "--- mine"},
        event("runner_on_ok", res={"changed": False}),
        event("runner_on_ok", task="Restart", res={"changed": True}),
        event("runner_on_file_diff", task="Write") | shown,
        event("runner_on_ok", task="Write", res={"changed": True}),
        event("runner_on_ok", host="b", res={"changed": False}),
        stats(),
    )
    assert outcomes.changes("a") == (
        TaskChange(task="docker_engine: Restart"),
        TaskChange(task="docker_engine: Write", diff="--- before\r\n+++ after"),
    )
    assert outcomes.changes("b") == ()


def test_a_failed_task() -> None:
    outcomes, heard = read(
        event("runner_on_failed", res={"msg": "no space", "stderr": "line 1\nline 2"}),
        stats(failures={"a": 1}),
    )
    assert outcomes.failed("a")
    assert not outcomes.failed("b")
    assert outcomes.message("a") == "docker_engine: Install: no space\nline 1\nline 2"
    assert short(heard) == [("a", "failed", "docker_engine: Install", "no space\nline 1\nline 2")]


def test_a_failure_that_is_ignored_is_none() -> None:
    outcomes, heard = read(
        event("runner_on_failed", res={"msg": "x"}, ignore_errors=True), stats(ok={"a": 1}, ignored={"a": 1})
    )
    assert heard == []
    assert not outcomes.failed("a")


def test_a_failure_that_was_rescued_is_none() -> None:
    outcomes, _ = read(event("runner_on_failed", res={"msg": "x"}), event("runner_on_ok"), stats(ok={"a": 1}))
    assert not outcomes.failed("a")


def test_a_lost_host() -> None:
    outcomes, heard = read(
        event("runner_on_unreachable", res={"msg": "Connection reset by peer"}), stats(dark={"a": 1})
    )
    assert outcomes.unreachable("a")
    assert not outcomes.failed("a")
    assert outcomes.message("a") == "lost during “docker_engine: Install”: Connection reset by peer"
    assert [one.status for one in heard] == ["failed"]


def test_a_run_that_was_cut_off_is_not_finished() -> None:
    outcomes, _ = read(event("runner_on_start"))
    assert not outcomes.finished
    assert outcomes.message("a") == "failed without a message; see the run's Ansible output"


def test_a_host_that_is_not_of_the_run_is_no_concern() -> None:
    assert read(event("runner_on_ok", host="localhost", res={"changed": True}))[1] == []


@pytest.mark.parametrize(
    ("role", "task", "expected"),
    [
        ("docker_engine", "Install", "docker_engine: Install"),
        ("docker_engine", "docker_engine : Install", "docker_engine : Install"),
        (None, "Gathering Facts", "Gathering Facts"),
        ("", "Gathering Facts", "Gathering Facts"),
    ],
)
def test_names_of_tasks(role: str | None, task: str, expected: str) -> None:
    _, (heard,) = read(event("runner_on_start", role=role, task=task))
    assert heard.task == expected


def test_words_of_a_result() -> None:
    assert words({}) == "failed"
    assert words({"censored": "hidden by no_log"}) == "hidden by no_log"
    assert words({"msg": "non-zero return code", "stdout": "out\n", "stderr": "err\n"}) == (
        "non-zero return code\nerr\nout"
    )
    assert words({"msg": "E: broken", "stderr": "E: broken"}) == "E: broken"
    assert words({"msg": "MODULE FAILURE", "module_stderr": "Traceback"}) == "MODULE FAILURE\nTraceback"


def test_of_long_output_the_end_is_kept() -> None:
    lines = [str(number) for number in range(100)]
    assert words({"msg": "x", "stdout": "\n".join(lines)}).splitlines() == ["x", *lines[-15:]]


def test_of_a_loop_the_failed_items_speak() -> None:
    items = [{"failed": False, "msg": "fine"}, {"failed": True, "msg": "one"}, {"failed": True, "msg": "two"}]
    assert words({"msg": "One or more items failed", "results": items}) == "one\ntwo"


def test_a_host_that_mitogen_lost_is_unreachable() -> None:
    lost = {"msg": "mitogen/service.py, line 712\n'NoneType' object has no attribute 'protocol'"}
    outcomes, heard = read(event("runner_on_failed", res=lost), stats(failures={"a": 1}))
    assert outcomes.unreachable("a")
    assert outcomes.message("a") == "lost during “docker_engine: Install”: the connection broke"
    assert short(heard) == [("a", "failed", "docker_engine: Install", "the connection broke")]


def test_a_host_that_came_back_is_not() -> None:
    lost = {"msg": "mitogen.core.ChannelError: the respondent context has disconnected"}
    outcomes, _ = read(event("runner_on_failed", res=lost), stats(ok={"a": 2}))
    assert not outcomes.unreachable("a")


def test_what_begins_anew_keeps_what_was_changed_and_who_is_through() -> None:
    events: list[Event] = []
    outcomes = Outcomes(["a", "b"], events.append)

    def ok(host: str, task: str, changed: bool) -> None:
        data = {"host": host, "task": task, "res": {"changed": changed}}
        outcomes.take({"event": "runner_on_ok", "event_data": data})

    ok("a", "Units", changed=True)
    ok("a", "Applied", changed=False)
    ok("b", "Units", changed=True)
    outcomes.take({"event": "runner_on_failed", "event_data": {"host": "b", "task": "x", "res": {"msg": "cut off"}}})
    outcomes.again("worker 1 was lost")
    assert [(one.host, one.task, one.status) for one in events[-1:]] == [("b", "worker 1 was lost", "running")]
    ok("b", "Weights", changed=True)
    outcomes.take({"event": "playbook_on_stats", "event_data": {"changed": {"b": 1}, "failures": {}}})
    assert (outcomes.changed("a"), outcomes.changed("b")) == (1, 2)
    assert (outcomes.through("a"), outcomes.through("b"), outcomes.failed("b")) == (True, False, False)
    assert outcomes.finished
