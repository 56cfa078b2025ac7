from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from provisioner import assets
from provisioner.apply import runner
from provisioner.apply.outcome import Outcomes
from provisioner.apply.runner import HostResult


def environment(strategy: runner.Strategy = "free", **given: str) -> dict[str, str]:
    return runner._environment(given, strategy, forks=3)


def test_of_our_environment_only_what_is_needed_goes_on() -> None:
    made = environment(HOME="/root", HF_TOKEN="s3cret", AWS_SECRET="s3cret", ANSIBLE_X="1", SSH_AUTH_SOCK="/s")
    assert "s3cret" not in str(made)
    assert (made["HOME"], made["ANSIBLE_X"], made["SSH_AUTH_SOCK"]) == ("/root", "1", "/s")


def test_host_keys_are_checked_and_roles_found() -> None:
    made = environment(ANSIBLE_HOST_KEY_CHECKING="False")
    assert made["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert Path(made["ANSIBLE_ROLES_PATH"]) == assets.ansible_dir() / "roles"
    assert made["ANSIBLE_FORKS"] == "3"


@pytest.mark.parametrize("strategy", ["free", "linear"])
def test_strategies_of_ansible_need_no_plugin(strategy: runner.Strategy) -> None:
    made = environment(strategy)
    assert made["ANSIBLE_STRATEGY"] == strategy
    assert "ANSIBLE_STRATEGY_PLUGINS" not in made


def test_mitogen_is_found() -> None:
    made = environment("mitogen_free")
    assert (Path(made["ANSIBLE_STRATEGY_PLUGINS"]) / "mitogen_free.py").is_file()


def test_without_mitogen_ansible_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runner.usable("mitogen_free") == ("mitogen_free", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert runner.usable("free") == ("free", "")
    assert runner.usable("mitogen_free") == ("linear", "mitogen is not installed")


def test_a_mitogen_that_cannot_be_loaded_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "ansible_mitogen"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "strategy.py").write_text("raise ImportError('cannot import what newer ones have')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    runner._mitogen_problem.cache_clear()
    try:
        assert runner.usable("mitogen_free") == (
            "linear",
            "mitogen does not work with this Ansible: ImportError: cannot import what newer ones have",
        )
    finally:
        runner._mitogen_problem.cache_clear()


def result(tmp_path: Path, status: str, *events: dict[str, Any]) -> HostResult:
    outcomes = Outcomes(["a"], lambda _: None)
    for one in events:
        outcomes.take(one)
    return runner._result("a", outcomes, status, tmp_path)


def test_forks_follow_hosts_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    told = {"SC_PAGE_SIZE": page, "SC_AVPHYS_PAGES": 2000 * 2**20 // page}
    monkeypatch.setattr(os, "sysconf", told.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert [runner.forks(hosts) for hosts in (1, 12, 20, 1000)] == [1, 12, 20, 20]
    told["SC_AVPHYS_PAGES"] *= 100
    assert runner.forks(1000) == 75
    told["SC_AVPHYS_PAGES"] = 0
    assert runner.forks(1000) == 1


STATS = {"event": "playbook_on_stats", "event_data": {"failures": {}, "dark": {}}}
STARTED = {"event": "runner_on_start", "event_data": {"host": "a", "task": "t"}}
CHANGED = {"event": "runner_on_ok", "event_data": {"host": "a", "task": "t", "res": {"changed": True}}}
FAILED = {"event": "runner_on_failed", "event_data": {"host": "a", "task": "t", "res": {"msg": "why"}}}
LOST = {"event": "runner_on_unreachable", "event_data": {"host": "a", "task": "t", "res": {"msg": "gone"}}}


def test_results(tmp_path: Path) -> None:
    failed = {"event": "playbook_on_stats", "event_data": {"failures": {"a": 1}}}
    assert result(tmp_path, "successful", CHANGED, STATS) == HostResult(host="a", state="ok", changed=1)
    assert result(tmp_path, "failed", FAILED, failed) == HostResult(
        host="a", state="failed", changed=0, message="t: why"
    )
    assert result(tmp_path, "failed", LOST, STATS) == HostResult(
        host="a", state="unreachable", changed=0, message="lost during “t”: gone"
    )
    assert result(tmp_path, "canceled", STARTED, CHANGED) == HostResult(
        host="a", state="interrupted", changed=1, message="during “t”"
    )
    assert result(tmp_path, "canceled").message == "before its first task"


def test_an_ansible_that_ended_early_says_its_last_words(tmp_path: Path) -> None:
    stdout = tmp_path / "artifacts" / "ansible" / "stdout"
    stdout.parent.mkdir(parents=True)
    stdout.write_text("\n".join(f"line {number}" for number in range(30)))
    said = result(tmp_path, "failed")
    assert said.state == "failed"
    assert said.message.splitlines()[0] == "Ansible ended early (failed):"
    assert said.message.splitlines()[1:] == [f"line {number}" for number in range(10, 30)]
    assert result(tmp_path / "none", "failed").message == "Ansible ended early (failed):\n"
