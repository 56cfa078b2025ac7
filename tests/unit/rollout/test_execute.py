from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from builders import IMAGE_ID, converged, facts, fleet, plan
from worlds import World, proven

from provisioner.apply.runner import HostResult
from provisioner.errors import Exit, HostError, UnreachableError
from provisioner.fleet.models import Fleet, Host
from provisioner.history.events import Event
from provisioner.history.verdict import CheckResult, ImageSeen, ServerVerdict
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.transport import Result
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan
from provisioner.rollout import execute as module
from provisioner.rollout.connections import Connections
from provisioner.rollout.execute import Options, execute
from provisioner.rollout.outcome import HostOutcome, exit_code
from provisioner.rollout.survey import Survey

DONE = "sudo -n rm -f /var/lib/vllm/proofs/nemotron.json"
WROTE = "sudo -n sh -c 'umask 022; mkdir -p /var/lib/vllm/proofs"


def verdict(of: HostPlan, **changes: Any) -> ServerVerdict:
    values: dict[str, Any] = {
        "host": of.host,
        "server": of.servers[0].name,
        "platform": of.platform,
        "hardware": of.hardware,
        "hardware_name": of.hardware_name,
        "gpu_count": 1,
        "simulated": False,
        "image": None,
        "variant": "fp8",
        "precision": "fp8",
        "model": "m",
        "endpoint": "http://127.0.0.1:8000",
        "passed": True,
    }
    return ServerVerdict(**(values | changes))


@dataclass
class Hands:
    """What Ansible, the second probe and the validation do, by host; all is well where nothing is said."""

    monkeypatch: pytest.MonkeyPatch
    fleet: Fleet
    applied: dict[str, HostResult] = field(default_factory=dict)
    afterwards: dict[str, Facts] = field(default_factory=dict)
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.monkeypatch.setattr(module, "apply", self.apply)
        self.monkeypatch.setattr(module, "probe", self.probe)
        self.monkeypatch.setattr(module, "validate_host", self.validate_host)

    def apply(
        self, run_dir: Path, fleet: Fleet, plans: Sequence[HostPlan], *_: Any, **__: Any
    ) -> tuple[HostResult, ...]:
        self.log += [f"apply {one.host}" for one in plans]
        return tuple(self.applied.get(one.host, HostResult(host=one.host, state="ok", changed=9)) for one in plans)

    def probe(self, transport: FakeTransport, _: Any) -> Facts:
        self.log.append(f"probe {transport.host}")
        return self.afterwards.get(transport.host, converged(plan(self.fleet, facts(transport.host))))

    def validate_host(self, transport: FakeTransport, of: HostPlan, *_: Any, **given: Any) -> tuple[ServerVerdict, ...]:
        self.log.append(f"validate {of.host} {given['depth']} {given['results_dir'].name}")
        return (verdict(of, **self.verdicts.get(of.host, {})),)

    def run(self, seen: Survey, connections: Connections, run_dir: Path, **options: Any) -> dict[str, HostOutcome]:
        found = execute(seen, connections, run_dir, on_event=self.events.append, options=Options(**options))
        assert [one.host for one in found] == [host.name for host in seen.fleet.hosts]
        return {one.host: one for one in found}


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hands]:
    return lambda of: Hands(monkeypatch, of)


A = fleet(hosts=("a",))
RUN = Path("/runs/r-1")


def one_host(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands], seen: Facts, **options: Any
) -> tuple[HostOutcome, Hands, World]:
    world, does = World({"a": seen}), hands(A)
    outcome = does.run(world.survey(monkeypatch, A), world.connections(), RUN, **options)["a"]
    return outcome, does, world


def test_a_fresh_host_is_applied_looked_at_and_validated(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]
) -> None:
    world, does = World({"a": facts("a")}), hands(A)
    does.verdicts["a"] = {"image": ImageSeen(reference="x:1", id=IMAGE_ID)}
    does.afterwards["a"] = converged(plan(A, facts("a"))).model_copy(update={"driver_version": "590.44.01"})
    outcome = does.run(world.survey(monkeypatch, A), world.connections(), RUN)["a"]
    assert does.log == ["apply a", "probe a", "validate a benchmark a"]
    assert (outcome.exit_code, outcome.changed, outcome.message, outcome.untouched) == (Exit.OK, 9, "", False)
    assert len(outcome.verdicts) == 1
    first, second = world.transports["a"].ran
    assert first.command == DONE  # the old proof goes before anything is changed
    assert second.command.startswith(WROTE)
    proof = json.loads(second.stdin)
    assert (proof["run"], proof["driver"], proof["image_id"]) == ("r-1", "590.44.01", IMAGE_ID)


def test_a_host_as_planned_and_proven_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]
) -> None:
    the_plan = plan(A, facts("a"))
    outcome, does, world = one_host(monkeypatch, hands, proven(converged(the_plan), the_plan))
    assert outcome == HostOutcome("a", Exit.OK, untouched=True)
    assert does.log == []
    assert world.transports == {}
    assert [(one.phase, one.task) for one in does.events] == [("done", "nothing to do")]


def test_a_host_as_planned_is_only_validated(monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]) -> None:
    outcome, does, world = one_host(monkeypatch, hands, converged(plan(A, facts("a"))))
    assert does.log == ["validate a benchmark a"]
    assert (outcome.exit_code, outcome.changed) == (Exit.OK, 0)
    (written,) = world.transports["a"].commands
    assert written.startswith(WROTE)


def test_requests_alone_prove_nothing(monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]) -> None:
    outcome, does, world = one_host(monkeypatch, hands, facts("a"), depth="smoke")
    assert does.log[-1] == "validate a smoke a"
    assert outcome.exit_code == Exit.OK
    assert world.transports["a"].commands == [DONE]


@pytest.mark.parametrize(
    ("state", "code"),
    [("failed", Exit.HOST_FAILED), ("unreachable", Exit.UNREACHABLE), ("interrupted", Exit.INTERRUPTED)],
)
def test_a_host_that_ansible_failed_on_is_not_validated(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands], state: Any, code: Exit
) -> None:
    world, does = World({"a": facts("a")}), hands(A)
    does.applied["a"] = HostResult(host="a", state=state, changed=2, message="Install: no space")
    outcome = does.run(world.survey(monkeypatch, A), world.connections(), RUN)["a"]
    assert outcome == HostOutcome("a", code, changed=2, message="Install: no space", touched=True)
    assert does.log == ["apply a"]
    # one that was interrupted stands where it stood
    told = [] if code == Exit.INTERRUPTED else [("failed", "failed", "Install: no space")]
    assert [(one.phase, one.status, one.detail) for one in does.events] == told


def test_a_host_that_is_still_not_as_planned(monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]) -> None:
    world, does = World({"a": facts("a")}), hands(A)
    does.afterwards["a"] = converged(plan(A, facts("a"))).model_copy(update={"weights": {}})
    outcome = does.run(world.survey(monkeypatch, A), world.connections(), RUN)["a"]
    assert outcome.exit_code == Exit.HOST_FAILED
    assert outcome.message == (
        "a: still not as planned after Ansible succeeded: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8: not downloaded"
    )
    assert does.log == ["apply a", "probe a"]


def test_a_server_that_crashes_is_the_validations_to_explain(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]
) -> None:
    world, does = World({"a": facts("a")}), hands(A)
    does.afterwards["a"] = converged(plan(A, facts("a"))).model_copy(update={"containers": ()})
    does.verdicts["a"] = {"passed": False, "exit_code": 1, "reasons": ("the unit failed",), "log": "CUDA error"}
    outcome = does.run(world.survey(monkeypatch, A), world.connections(), RUN)["a"]
    assert (outcome.exit_code, outcome.message) == (Exit.HOST_FAILED, "the unit failed\nCUDA error")
    assert world.transports["a"].commands == [DONE]  # no proof


def test_a_gate_that_fails(monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]) -> None:
    world, does = World({"a": facts("a")}), hands(A)
    does.verdicts["a"] = {"passed": False, "exit_code": 3, "reasons": ("1 request failed", "no tokens")}
    outcome = does.run(world.survey(monkeypatch, A), world.connections(), RUN)["a"]
    assert (outcome.exit_code, outcome.message) == (Exit.GATE_FAILED, "1 request failed\nno tokens")
    assert len(outcome.verdicts) == 1


def test_a_failed_check_is_told_with_request_answer_and_log(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]
) -> None:
    asked = {"request": "GET http://127.0.0.1:8000/v1/models", "answer": 'HTTP 200 {"data": []}', "log": "last words"}
    good = CheckResult(name="metrics", passed=True, detail="", seconds=0.1, **asked)
    bad = CheckResult(name="served name", passed=False, detail="serves nothing", seconds=0.1, **asked)
    told = {"exit_code": 3, "reasons": ("served name: serves nothing",), "checks": (good, bad), "log": "last words"}
    world, does = World({"a": facts("a")}), hands(A)
    does.verdicts["a"] = {"passed": False, **told}
    assert does.run(world.survey(monkeypatch, A), world.connections(), RUN)["a"].message == (
        "served name: serves nothing\n"
        "served name: asked GET http://127.0.0.1:8000/v1/models\n"
        '  answer: HTTP 200 {"data": []}\n'
        "last words"
    )


def test_one_host_lost_before_ansible_starts_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]
) -> None:
    of = fleet(hosts=("gone", "full", "well"))
    world, does = World({name: facts(name) for name in ("gone", "full", "well")}), hands(of)
    seen = world.survey(monkeypatch, of)
    full = FakeTransport("full", [("rm -f", Result(1, "", "Read-only file system"))])

    def open_one(host: Host) -> FakeTransport:
        if host.name == "gone":
            raise UnreachableError("gone: no route to host")
        return full if host.name == "full" else FakeTransport(host.name, [("", "")])

    outcomes = does.run(seen, Connections(open_one), RUN)
    assert {name: (one.exit_code, one.message) for name, one in outcomes.items()} == {
        "gone": (Exit.UNREACHABLE, "gone: no route to host"),
        "full": (Exit.HOST_FAILED, "cannot remove /var/lib/vllm/proofs/nemotron.json\nRead-only file system"),
        "well": (Exit.OK, ""),
    }
    assert does.log == ["apply well", "probe well", "validate well benchmark well"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UnreachableError("a: lost", hint="wait"), Exit.UNREACHABLE, "a: lost\n  hint: wait"),
        (HostError("a: broken", log="last words"), Exit.HOST_FAILED, "a: broken\nlast words"),
    ],
)
def test_an_error_while_validating(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands], error: Exception, code: Exit, message: str
) -> None:
    world, does = World({"a": converged(plan(A, facts("a")))}), hands(A)
    seen = world.survey(monkeypatch, A)

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "validate_host", refuse)
    outcome = does.run(seen, world.connections(), RUN)["a"]
    assert (outcome.exit_code, outcome.message) == (code, message)
    assert [(one.phase, one.detail) for one in does.events] == [("failed", message)]


def test_an_interruption_after_ansible_ends_before_validation(
    monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]
) -> None:
    outcome, does, _ = one_host(monkeypatch, hands, facts("a"), interrupted=lambda: True)
    assert (outcome.exit_code, outcome.message) == (Exit.INTERRUPTED, "interrupted before validation")
    assert outcome.changed == 9
    assert does.log == ["apply a"]


def test_unfit_hosts_are_told_and_left_alone(monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]) -> None:
    of = fleet(hosts=("weak", "down", "well"))
    world = World(
        {"weak": facts("weak", sudo=False, systemd=False), "down": UnreachableError("down: x"), "well": facts("well")}
    )
    does = hands(of)
    outcomes = does.run(world.survey(monkeypatch, of), world.connections(), RUN)
    assert does.log == ["apply well", "probe well", "validate well benchmark well"]
    assert outcomes["weak"].exit_code == Exit.HOST_FAILED
    assert outcomes["weak"].message == (
        "no sudo: allow this user to run commands as root without a password (NOPASSWD); "
        "systemd is not running as PID 1; servers are systemd services"
    )
    assert outcomes["down"] == HostOutcome("down", Exit.UNREACHABLE, message="down: x")
    assert list(world.transports) == ["well"]
    assert exit_code(list(outcomes.values())) == Exit.HOST_FAILED


def test_hosts_are_validated_side_by_side(monkeypatch: pytest.MonkeyPatch, hands: Callable[..., Hands]) -> None:
    names = tuple(f"h{number}" for number in range(5))
    of = fleet(hosts=names)
    world, does = World({name: facts(name) for name in names}), hands(of)
    outcomes = does.run(world.survey(monkeypatch, of), world.connections(), RUN)
    assert {one.exit_code for one in outcomes.values()} == {Exit.OK}
    assert does.log[:5] == [f"apply {name}" for name in names]
    assert sorted(does.log[5:]) == sorted(
        [f"probe {name}" for name in names] + [f"validate {name} benchmark {name}" for name in names]
    )


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ((), 0),
        ((0, 0), 0),
        ((0, 4), 4),
        ((4, 3), 3),
        ((3, 1, 4), 1),
        ((2, 3), 2),
        ((1, 130, 3), 130),
    ],
)
def test_exit_code(codes: tuple[int, ...], code: int) -> None:
    assert exit_code([HostOutcome(str(one), Exit(one)) for one in codes]) == code
