from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import converged, facts, file, fleet, lock, plan, server, spark, unit
from worlds import World, proven

from provisioner.apply.outcome import TaskChange
from provisioner.apply.runner import HostResult
from provisioner.cli import show
from provisioner.errors import Exit, UnreachableError
from provisioner.fleet.models import Fleet, Image
from provisioner.history.verdict import ServerVerdict
from provisioner.plan.facts import Facts
from provisioner.plan.lock import Lock
from provisioner.rollout.course import Course
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.survey import Survey

DOWN = UnreachableError("spark-01: cannot connect to 10.0.0.9:22: Connection refused", hint="is it on?")


def seen(monkeypatch: pytest.MonkeyPatch, *found: Facts, of: Fleet | None = None, **others: Any) -> Survey:
    hosts = {one.host: one for one in found} | {name.replace("_", "-"): error for name, error in others.items()}
    return World(hosts).survey(monkeypatch, of or fleet(hosts=tuple(hosts)))


def ready(host: str = "gpu-01") -> Facts:
    return proven(converged(plan(fleet(hosts=(host,)), facts(host))), plan(fleet(hosts=(host,)), facts(host)))


def test_problems_in_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    survey = seen(monkeypatch, facts("a", sudo=False, systemd=False), facts("good"), spark_01=DOWN)
    assert (
        show.problems(survey)
        == """
2 of 3 hosts cannot be provisioned as they are:
  a         no sudo: allow this user to run commands as root without a password (NOPASSWD)
            systemd is not running as PID 1; servers are systemd services
  spark-01  cannot connect to 10.0.0.9:22: Connection refused
            hint: is it on?"""
    )
    assert show.nothing_changed(survey) == "nothing was changed; mend them, or provision the other 1 with --keep-going"


def test_no_host_is_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show.nothing_changed(seen(monkeypatch, spark_01=DOWN)) == "nothing was changed"


def test_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    of = fleet(server(image={"default": Image(pull="x/y:v0.32.0")}, max_num_seqs=8), hosts=("a", "b", "c"))
    b = converged(plan(of, facts("b")))
    survey = seen(monkeypatch, facts("a"), b, facts("c", sudo=False), of=of)
    assert (
        show.plan(survey, diff=False)
        == """
a: 1 × NVIDIA H200, linux/amd64
    nemotron: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 (fp8) on 127.0.0.1:8000
      vllm serve nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 --trust-remote-code --async-scheduling --kv-cache-dtype fp8 \
--tensor-parallel-size 1 --max-num-seqs 8 --host 127.0.0.1 --port 8000
  ! nemotron: VLLM_USE_FLASHINFER_MOE_FP8 is left out for vLLM 0.32.0: vLLM ignores it from 0.23 on (its successor is \
--moe-backend)
  ! nemotron: VLLM_FLASHINFER_MOE_BACKEND is left out for vLLM 0.32.0: vLLM ignores it from 0.23 on (its successor is \
--moe-backend)
  ~ docker_engine: docker: Docker is not installed
  ~ nvidia_container_toolkit: nvidia-container-toolkit: Docker cannot pass GPUs to containers
  ~ vllm_image: x/y:v0.32.0: not there; will be pulled
  ~ model_weights: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8: not downloaded
  ~ vllm_server: /etc/systemd/system/vllm-nemotron.service: not there
  ~ vllm_server: vllm-nemotron.service: no such unit
  ~ vllm_server: vllm-nemotron.service: its container is not running
b: 1 × NVIDIA H200, linux/amd64
    nemotron: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 (fp8) on 127.0.0.1:8000
      vllm serve nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 --trust-remote-code --async-scheduling --kv-cache-dtype fp8 \
--tensor-parallel-size 1 --max-num-seqs 8 --host 127.0.0.1 --port 8000
  ! nemotron: VLLM_USE_FLASHINFER_MOE_FP8 is left out for vLLM 0.32.0: vLLM ignores it from 0.23 on (its successor is \
--moe-backend)
  ! nemotron: VLLM_FLASHINFER_MOE_BACKEND is left out for vLLM 0.32.0: vLLM ignores it from 0.23 on (its successor is \
--moe-backend)
  ? nemotron: runs as planned but is not validated yet

rollout: 2 waves
  1. canary   a
  2. batch 1  b
  gate of each: benchmark; it stops at the first failed host and rolls its wave back

3 hosts: 1 to change, 1 to validate, 0 as planned, 1 unfit"""
    )


def test_a_plan_of_hosts_that_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said of all of them, those that are not fit at that moment as well; nobody has one whose lease has expired."""
    who = {"user": "ops", "machine": "control-2", "control": "c2", "fleet": "nights", "run": "r-7", "token": "t"}
    held = json.dumps({"holder": who | {"since": "2026-11-24T15:02:13Z", "until": 1300.0}, "last": ""})
    files = (file("/run/provision/lease.json", held),)
    found = [
        facts("a", files=files, uptime_s=1000.0),
        facts("b", files=files, uptime_s=1000.0, sudo=False),
        facts("c", files=files, uptime_s=2000.0),
        facts("d"),
    ]
    survey = seen(monkeypatch, *found)
    assert (
        "\n\nleased at this moment:\n"
        "  a, b: ops on control-2, run r-7 of fleet nights, since 2026-11-24T15:02:13Z\n\n"
        "4 hosts: 3 to change"
    ) in show.plan(survey, diff=False)
    told = json.loads(show.plan_json(survey))["hosts"]
    assert {name: bool(one["leased"]) for name, one in told.items()} == {"a": True, "b": True, "c": False, "d": False}
    assert told["a"]["leased"] == {key: value for key, value in who.items() if key != "token"} | {
        "since": "2026-11-24T15:02:13Z",
        "left_s": 300.0,
    }


def test_a_plan_of_a_host_with_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = show.plan(seen(monkeypatch, ready()), diff=False).splitlines()
    assert lines[-3:] == ["  = as planned, validated", "", "1 host: 0 to change, 0 to validate, 1 as planned"]


def test_a_diff_of_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/etc/systemd/system/vllm-nemotron.service"
    was = ready()
    by_hand = plan().servers[0].unit_file.content.replace("Restart=on-failure", "Restart=no")
    files = tuple(file(path, by_hand) if one.path == path else one for one in was.files)
    survey = seen(monkeypatch, was.model_copy(update={"files": files}))
    assert "Restart=" not in show.plan(survey, diff=False)
    text = show.plan(survey, diff=True)
    shown = [line.strip() for line in text.splitlines() if line.startswith("      ") and line.strip()[:1] in "+-@"]
    assert shown == [
        f"--- {path} (now)",
        f"+++ {path} (planned)",
        shown[2],
        "-Restart=no",
        "+Restart=on-failure",
    ]


CHECKED = (
    HostResult(
        host="a",
        state="ok",
        changed=2,
        would=(TaskChange(task="r: Write", diff="--- before\n\n+++ after"), TaskChange(task="r: Start")),
    ),
    HostResult(host="bb", state="ok", changed=0),
)


def test_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    survey = seen(monkeypatch, facts("a"), facts("bb"))
    text = show.check(survey, CHECKED, diff=False)
    assert text.startswith(show.plan(survey, diff=False))
    told = "\n\nAnsible in check mode:\n  a   ~ r: Write\n{}      ~ r: Start\n  bb  would change nothing"
    assert text.removeprefix(show.plan(survey, diff=False)) == told.format("")
    with_diff = told.format("          --- before\n\n          +++ after\n")
    assert show.check(survey, CHECKED, diff=True).endswith(with_diff)


def test_a_check_of_a_converged_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show.check(seen(monkeypatch, ready()), (), diff=False).endswith("\n\nnothing for Ansible to do")


def test_a_check_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(show.check_json(seen(monkeypatch, facts("a"), facts("bb"), ready()), CHECKED))
    assert made["hosts"]["a"]["ansible"] == {
        "state": "ok",
        "message": "",
        "would": [{"task": "r: Write", "diff": "--- before\n\n+++ after"}, {"task": "r: Start", "diff": ""}],
    }
    assert "ansible" not in made["hosts"]["gpu-01"]


def test_a_plan_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(show.plan_json(seen(monkeypatch, ready(), spark_01=DOWN)))
    assert made["fleet"] == "fleet"
    assert made["hosts"]["spark-01"] == {
        "problems": ["spark-01: cannot connect to 10.0.0.9:22: Connection refused\n  hint: is it on?"],
        "changes": [],
        "unproven": {},
        "unaccepted": False,
        "release": None,
        "leased": None,
        "plan": None,
    }
    assert made["hosts"]["gpu-01"]["plan"]["hardware"] == "h200"
    assert made["hosts"]["gpu-01"]["changes"] == []


def test_what_is_locked_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    survey = seen(monkeypatch, ready())
    assert json.loads(show.plan_json(survey))["lock"] is None
    locked = json.loads(show.plan_json(replace(survey, lock=lock())))["lock"]
    assert Lock.model_validate(locked) == lock()


def test_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    converged_host = converged(plan(), facts(simulated=True)).model_copy(
        update={"units": (unit("vllm-nemotron.service"), unit("vllm-old.service", load_state="not-found"))}
    )
    fresh = spark(driver_version=None, cuda_version=None, disk_free_mib={"/": 1536}).model_copy(update={"gpus": ()})
    survey = seen(monkeypatch, converged_host, fresh, down=DOWN)
    assert (
        show.facts(survey)
        == """\
gpu-01: Ubuntu 24.04.3 LTS, x86_64, kernel 6.8.0
    GPUs 1 × NVIDIA H200 (simulated), driver 580.95.05, CUDA 13.0, container toolkit 1.17.8
    Docker 28.5.1, 16 CPUs, 128 GiB memory, sudo True
    /var/lib/docker: 500.0 GiB free
    /var/lib/vllm/huggingface: 500.0 GiB free
    vllm-nemotron.service: active
spark-01: NVIDIA DGX Spark 7.2, aarch64, kernel 6.8.0
    GPUs no GPU, driver –, CUDA –, container toolkit –
    Docker not there, 16 CPUs, 128 GiB memory, sudo True
    /: 1.5 GiB free"""
    )
    made = json.loads(show.facts_json(survey))
    assert made["down"] is None
    assert made["gpu-01"]["gpus"][0]["name"] == "NVIDIA H200"


def verdict(**changes: Any) -> ServerVerdict:
    values: dict[str, Any] = {
        "host": "a",
        "server": "nemotron",
        "platform": "linux/amd64",
        "hardware": "h200",
        "hardware_name": "1 × NVIDIA H200",
        "gpu_count": 1,
        "simulated": False,
        "image": None,
        "variant": "fp8",
        "precision": "fp8",
        "model": "m",
        "endpoint": "http://127.0.0.1:8000",
        "passed": True,
        "chat_answer": "Hello.",
    }
    return ServerVerdict(**(values | changes))


OUTCOMES = (
    HostOutcome("a", Exit.OK, changed=9, verdicts=(verdict(),)),
    HostOutcome("b", Exit.HOST_FAILED, message="Install: no space\nline 2"),
    HostOutcome("c", Exit.GATE_FAILED, verdicts=(verdict(passed=False, chat_answer=None),), message="1 request failed"),
    HostOutcome("d", Exit.UNREACHABLE, message="d: lost"),
    HostOutcome("e", Exit.INTERRUPTED, message="interrupted"),
    HostOutcome("f", Exit.OK, untouched=True),
)


def test_outcomes() -> None:
    assert (
        show.outcome(OUTCOMES, Path("/runs/1"))
        == """
b: failed: Install: no space
    line 2
c: gate failed: 1 request failed
d: unreachable: d: lost
e: interrupted: interrupted
2 of 6 hosts served and validated (1 untouched)
chat answer from a: 'Hello.'
record: /runs/1"""
    )


def test_nothing_was_to_do() -> None:
    one, other = HostOutcome("a", Exit.OK, untouched=True), HostOutcome("b", Exit.OK, untouched=True)
    assert show.outcome([one, other], None) == "\nnothing changed: 2 hosts are as planned and validated"
    assert show.outcome([one], None) == "\nnothing changed: 1 host is as planned and validated"


def test_a_rollout_that_stopped() -> None:
    course = Course({}, stopped_at="canary", reason="its gate failed: a")
    outcomes = (
        HostOutcome("a", Exit.GATE_FAILED, message="slo: slow", state="rolled_back", rollback="serves release 1 again"),
        HostOutcome("b", Exit.OK, state="rolled_back", rollback="serves release 2 again"),
        HostOutcome("c", Exit.HOST_FAILED, message="slo: slow", state="lost", rollback="COULD NOT\nlook there"),
        HostOutcome("d", Exit.OK, untouched=True, pending=True),
        HostOutcome("e", Exit.OK, untouched=True),
        HostOutcome("f", Exit.OK, state="promoted"),
    )
    assert (
        show.outcome(outcomes, Path("/runs/1"), course)
        == """
rollout stopped at canary: its gate failed: a
a: gate failed: slo: slow
a: serves release 1 again
b: serves release 2 again
c: failed: slo: slow
c: COULD NOT
c: look there
2 of 6 hosts served and validated (1 untouched, 1 not reached)
record: /runs/1"""
    )


def test_outcomes_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(show.outcome_json(seen(monkeypatch, facts("a")), OUTCOMES, Path("/runs/1")))
    assert (made["fleet"], made["run"]) == ("fleet", "/runs/1")
    assert made["hosts"]["b"] == {
        "exit_code": 1,
        "changed": 0,
        "untouched": False,
        "state": "unchanged",
        "pending": False,
        "rollback": "",
        "message": "Install: no space\nline 2",
        "servers": [],
    }
    assert made["hosts"]["a"]["servers"][0]["chat_answer"] == "Hello."
    assert json.loads(show.outcome_json(seen(monkeypatch, facts("a")), (), None))["run"] is None
