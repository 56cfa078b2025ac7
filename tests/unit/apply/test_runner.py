from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import Any

import pytest

from provisioner import assets
from provisioner.apply import play, runner
from provisioner.apply.outcome import Outcomes
from provisioner.apply.places import Played
from provisioner.apply.play import Job
from provisioner.apply.runner import HostResult


def environment(strategy: play.Strategy = "free", **given: str) -> dict[str, str]:
    return play.environment(given, Job("site.yml", strategy, hosts=1), Path("/run-folder"))


def test_of_our_environment_only_what_is_needed_goes_on() -> None:
    made = environment(HOME="/root", HF_TOKEN="s3cret", AWS_SECRET="s3cret", ANSIBLE_X="1", SSH_AUTH_SOCK="/s")
    assert "s3cret" not in str(made)
    assert (made["HOME"], made["ANSIBLE_X"], made["SSH_AUTH_SOCK"]) == ("/root", "1", "/s")


def test_host_keys_are_checked_and_roles_found() -> None:
    made = environment(ANSIBLE_HOST_KEY_CHECKING="False")
    assert made["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert Path(made["ANSIBLE_ROLES_PATH"]) == assets.ansible_dir() / "roles"
    assert made["ANSIBLE_FORKS"] == "1"


def test_ansible_reads_the_configuration_of_the_run_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    assert environment()["ANSIBLE_CONFIG"] == "/run-folder/ansible.cfg"
    assert environment(ANSIBLE_CONFIG="/mine.cfg")["ANSIBLE_CONFIG"] == "/mine.cfg"
    play.arguments(tmp_path, Job("site.yml", "free", hosts=1), "/secrets", tmp_path / "logs")
    read = configparser.ConfigParser()
    read.read(play.config_file(tmp_path))
    assert read["defaults"].getfloat("internal_poll_interval") == 0.01


@pytest.mark.parametrize("strategy", ["free", "linear"])
def test_strategies_of_ansible_need_no_plugin(strategy: play.Strategy) -> None:
    made = environment(strategy)
    assert made["ANSIBLE_STRATEGY"] == strategy
    assert "ANSIBLE_STRATEGY_PLUGINS" not in made


def test_mitogen_is_found() -> None:
    made = environment("mitogen_free")
    assert (Path(made["ANSIBLE_STRATEGY_PLUGINS"]) / "mitogen_free.py").is_file()


def test_without_mitogen_ansible_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert play.usable("mitogen_free") == ("mitogen_free", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert play.usable("free") == ("free", "")
    assert play.usable("mitogen_free") == ("linear", "mitogen is not installed")


def test_a_mitogen_that_cannot_be_loaded_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "ansible_mitogen"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "strategy.py").write_text("raise ImportError('cannot import what newer ones have')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    play._mitogen_problem.cache_clear()
    try:
        assert play.usable("mitogen_free") == (
            "linear",
            "mitogen does not work with this Ansible: ImportError: cannot import what newer ones have",
        )
    finally:
        play._mitogen_problem.cache_clear()


def result(status: str, *events: dict[str, Any], last: str = "") -> HostResult:
    outcomes = Outcomes(["a"], lambda _: None)
    for one in events:
        outcomes.take(one)
    return runner._result("a", outcomes, Played(status, last))


def test_forks_follow_hosts_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    told = {"SC_PAGE_SIZE": page, "SC_AVPHYS_PAGES": 2000 * 2**20 // page}
    monkeypatch.setattr(os, "sysconf", told.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert [play.forks(hosts) for hosts in (1, 12, 20, 1000)] == [1, 12, 20, 20]
    told["SC_AVPHYS_PAGES"] *= 100
    assert play.forks(1000) == 75
    told["SC_AVPHYS_PAGES"] = 0
    assert play.forks(1000) == 1


STATS = {"event": "playbook_on_stats", "event_data": {"failures": {}, "dark": {}}}
STARTED = {"event": "runner_on_start", "event_data": {"host": "a", "task": "t"}}
CHANGED = {"event": "runner_on_ok", "event_data": {"host": "a", "task": "t", "res": {"changed": True}}}
FAILED = {"event": "runner_on_failed", "event_data": {"host": "a", "task": "t", "res": {"msg": "why"}}}
LOST = {"event": "runner_on_unreachable", "event_data": {"host": "a", "task": "t", "res": {"msg": "gone"}}}


def test_results() -> None:
    failed = {"event": "playbook_on_stats", "event_data": {"failures": {"a": 1}}}
    assert result("successful", CHANGED, STATS) == HostResult(host="a", state="ok", changed=1)
    assert result("failed", FAILED, failed) == HostResult(host="a", state="failed", changed=0, message="t: why")
    assert result("failed", LOST, STATS) == HostResult(
        host="a", state="unreachable", changed=0, message="lost during “t”: gone"
    )
    assert result("canceled", STARTED, CHANGED) == HostResult(
        host="a", state="interrupted", changed=1, message="during “t”"
    )
    assert result("canceled").message == "before its first task"


def test_an_ansible_that_ended_early_says_its_last_words() -> None:
    said = result("failed", last="line 9\nline 10")
    assert (said.state, said.message) == ("failed", "Ansible ended early (failed):\nline 9\nline 10")
    assert result("timeout", last="line").message == "Ansible did not finish within 6 h:\nline"


def test_of_a_shard_that_was_lost_who_was_through_is_well() -> None:
    through = {"event": "runner_on_ok", "event_data": {"host": "a", "task": "Applied", "res": {}}}
    assert result("lost", CHANGED, last="why") == HostResult(host="a", state="failed", changed=1, message="why")
    assert result("lost", CHANGED, through, last="why") == HostResult(host="a", state="ok", changed=1)


def test_the_end_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_text("\n".join(f"line {number}" for number in range(30)))
    assert play.last_lines(tmp_path / "stdout").splitlines() == [f"line {number}" for number in range(10, 30)]
    assert play.last_lines(tmp_path / "none") == ""
