"""The course of a tuning over a host whose facts are given: what is done in which order, and what is put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import IMAGE_ID, converged, facts, fleet, plan, recipes, server
from reports import latency, result
from worlds import World, proven

from provisioner.apply.runner import HostResult
from provisioner.errors import Exit, HostError, LockedError, ProvisionError, UnreachableError
from provisioner.fleet.models import Fleet
from provisioner.history.events import Event
from provisioner.history.rundir import Run, create_run
from provisioner.history.tuning import TunedPoint, Tuning, known_points, read_tuning, tunings
from provisioner.history.verdict import Evidence, ImageSeen
from provisioner.hosts.fake import FakeTransport
from provisioner.plan import flags
from provisioner.plan.bundle import Blob, Bundled, BundledImage
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan, Server
from provisioner.plan.tuning import Axis, Candidate, candidates
from provisioner.rollout import put_back as back
from provisioner.rollout import tune as module
from provisioner.rollout.points import Work, planned, server_of
from provisioner.rollout.tune import tune
from provisioner.validate.answers import Answers
from provisioner.validate.health import Healthy
from provisioner.validate.interrupt import RunInterrupted
from provisioner.validate.measure import Measured

FLEET = fleet(server(max_num_seqs=8, max_model_len=4096), hosts=("a",))
AXIS = Axis(key="max_num_seqs", values=(4, 16, 64))


def batch(of: Server) -> int:
    return int(flags.value_of(of.argv, "--max-num-seqs") or 0)


class Hands:
    """What Ansible, the probe and validation do; all is well where `wrong` says nothing of a batch size."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.log: list[str] = []
        self.events: list[Event] = []
        self.wrong: dict[tuple[str, int], BaseException] = {}
        self.stopped = False
        self.now = 0.0
        self.runs_now = 8
        self.folder = folder
        self.monkeypatch = monkeypatch
        the_plan = plan(FLEET, facts("a"))
        self.facts: Facts = proven(converged(the_plan), the_plan)
        self.world = World({"a": self.facts})
        for name in ("apply", "wait_healthy", "check_answers", "image_seen", "measure"):
            monkeypatch.setattr(module, name, getattr(self, name))
        for name in ("apply", "wait_healthy", "probe"):
            monkeypatch.setattr(back, name, getattr(self, name))
        self.run = self.create_run()

    def create_run(self) -> Run:
        return create_run("fleet", command=["t"], fleet_path=Path("f"), hosts=["a"], root=self.folder)

    def work(self, budget_s: int = 600, known: dict[str, TunedPoint] | None = None) -> Work:
        seen = self.world.survey(self.monkeypatch, FLEET)
        connections = self.world.connections()
        return Work(
            *(seen, "nemotron", recipes(), connections, self.run, self.events.append, lambda: self.stopped, budget_s),
            known=known or {},
            clock=lambda: self.now,
        )

    def tune(self, *axes: Axis, concurrency: Sequence[int] = (), **given: Any) -> Tuning:
        work = self.work(**given)
        return tune(work, planned(work, candidates(axes or (AXIS,), concurrency)))

    def apply(self, run_dir: Path, of: Fleet, plans: Sequence[HostPlan], *_: Any, **given: Any) -> tuple[HostResult]:
        size = batch(plans[0].servers[0])
        self.log.append(f"apply {size} {run_dir.name}")
        self._do("apply", size)
        self.runs_now = size
        state = "interrupted" if given["interrupted"]() else "ok"
        return (HostResult(host="a", state=state, changed=2),)

    def probe(self, transport: FakeTransport, _: Any) -> Facts:
        self.log.append("probe")
        changed = fleet(server(max_num_seqs=self.runs_now, max_model_len=4096), hosts=("a",))
        return converged(plan(changed, facts("a")))

    def wait_healthy(self, _: FakeTransport, of: Server, **__: Any) -> Healthy:
        self._do("health", batch(of))
        return Healthy(seconds=1)

    def image_seen(self, *_: Any) -> ImageSeen:
        return ImageSeen(reference="x:1", id=IMAGE_ID, engine="sim")

    def check_answers(self, _: FakeTransport, of: Server, **__: Any) -> Answers:
        self._do("answers", batch(of))
        return Answers(checks=(), chat=None, version=None)

    def measure(self, _: FakeTransport, of: Server, **__: Any) -> Measured:
        size = int(flags.value_of(of.benchmark.argv, "--max-concurrency") or 0)
        self.log.append(f"measure {batch(of)} at {size}")
        self._do("measure", size)
        self.now += 60
        bench = of.benchmark.model_copy(update={"num_prompts": 8, "output_len": None})
        found = result(100.0 * size, tpot=latency(size), num_prompts=8, completed=8, raw={"max_concurrency": size})
        return Measured(found, bench, Evidence())

    def _do(self, what: str, size: int) -> None:
        if (what, size) in self.wrong:
            raise self.wrong[what, size]

    def record(self) -> Tuning:
        found = read_tuning(self.run.path)
        assert found is not None
        return found


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hands:
    return Hands(monkeypatch, tmp_path)


def states(tuning: Tuning) -> dict[str, str]:
    return {one.candidate.label: f"{one.state} {one.reason}".strip() for one in tuning.points}


def test_every_point_is_served_and_measured_and_the_server_put_back(hands: Hands) -> None:
    found = hands.tune()
    assert hands.log == [
        "measure 8 at 8",  # it runs already
        *("apply 4 2", "measure 4 at 4"),
        *("apply 64 3", "measure 64 at 64"),
        *("apply 16 4", "measure 16 at 16"),
        *("apply 8 back", "probe"),
    ]
    assert set(states(found).values()) == {"measured"}
    assert (found.changed, found.put_back, found.owed, found.engine) == (True, True, False, "sim")
    assert hands.record() == found
    assert [one.phase for one in hands.events][-1] == "done"
    # the proof goes before the first change, and comes back with what was proven
    commands = hands.world.transports["a"].commands
    assert commands[0] == "sudo -n rm -f /var/lib/vllm/proofs/nemotron.json"
    assert commands[-1].startswith("sudo -n sh -c 'umask 022; mkdir -p /var/lib/vllm/proofs")


def test_points_of_one_server_cost_one_restart(hands: Hands) -> None:
    found = hands.tune(Axis(key="max_num_seqs", values=(8, 16)), concurrency=(1, 2))
    assert hands.log == [
        *("measure 8 at 1", "measure 8 at 2", "apply 16 3", "measure 16 at 1", "measure 16 at 2"),
        *("apply 8 back", "probe"),
    ]
    assert len(found.points) == 4  # 8 is what it has: the same points


def test_nothing_is_restarted_where_only_requests_are_tried(hands: Hands) -> None:
    work = hands.work()
    found = tune(work, planned(work, [Candidate(concurrency=2), Candidate(concurrency=4)]))
    assert hands.log == ["measure 8 at 2", "measure 8 at 4"]
    assert (found.changed, found.put_back) == (False, False)
    assert not hands.world.transports["a"].commands  # its proof stays


@pytest.mark.parametrize("where", ["apply", "health", "answers", "measure"])
def test_a_point_that_fails_has_a_reason_and_others_go_on(hands: Hands, where: str) -> None:
    hands.wrong[where, 64] = HostError("it is not healthy: died\nmore", log="torch.OutOfMemoryError: CUDA")
    found = hands.tune()
    assert states(found)["max_num_seqs 64"] == "failed it is not healthy: died"
    failed = next(one for one in found.points if one.state == "failed")
    assert failed.log == "more\ntorch.OutOfMemoryError: CUDA"
    assert len(found.measured) == 3
    assert found.put_back


def test_what_cannot_even_be_planned_has_a_reason(hands: Hands) -> None:
    found = hands.tune(Axis(key="tensor_parallel_size", values=(4,)))
    assert states(found)["tensor_parallel_size 4"] == (
        "failed a: server nemotron has tensor_parallel_size 4, but gets 1 GPU"
    )
    assert hands.log == ["measure 8 at 8"]


def test_points_are_left_when_the_time_is_over(hands: Hands) -> None:
    found = hands.tune(budget_s=150)  # a minute each: a third would not fit
    assert list(states(found).values()) == ["measured", "measured", *["left the time was over"] * 2]
    assert found.put_back


def test_an_interrupted_tuning_puts_back_and_leaves_the_rest(hands: Hands) -> None:
    hands.wrong["measure", 4] = RunInterrupted("interrupted")
    original = hands.measure

    def stop(*given: Any, **named: Any) -> Measured:
        hands.stopped = batch(given[1]) == 4
        return original(*given, **named)

    hands.monkeypatch.setattr(module, "measure", stop)
    found = hands.tune()
    assert list(states(found).values()) == ["measured", *["left interrupted"] * 3]
    assert hands.log[-2:] == ["apply 8 back", "probe"]
    assert found.put_back


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug"), UnreachableError("gone")])
def test_whatever_happens_the_server_is_put_back(hands: Hands, error: BaseException) -> None:
    hands.wrong["measure", 4] = error
    with pytest.raises(type(error)):
        hands.tune()
    assert hands.log[-2:] == ["apply 8 back", "probe"]
    assert hands.record().put_back


def test_a_server_that_cannot_be_put_back_is_told_and_stays_in_the_record(hands: Hands) -> None:
    hands.wrong["health", 8] = HostError("it is not healthy: died")
    work = hands.work()
    points = planned(work, [Candidate(settings=(("max_num_seqs", 16),))])
    with pytest.raises(ProvisionError) as caught:
        tune(work, points)
    assert str(caught.value) == (
        "it is not healthy: died\n"
        "  hint: nemotron was not put back; `provision fleet.yaml` brings the host to its plan again"
    )
    assert hands.record().owed
    assert len(hands.record().measured) == 1


def test_a_host_that_somebody_else_has_by_now_is_not_put_back(hands: Hands) -> None:
    """Its lease was taken from the run: two at once would be in each other's way."""

    @contextmanager
    def regained() -> Iterator[None]:
        hands.log.append("regained")
        raise LockedError("a: eve", hint="wait")
        yield

    work = replace(hands.work(), regained=regained)
    with pytest.raises(LockedError) as caught:
        tune(work, planned(work, [Candidate(settings=(("max_num_seqs", 16),))]))
    assert str(caught.value) == (
        "a: eve\n  hint: nemotron was not put back; `provision fleet.yaml` brings the host to its plan again"
    )
    assert hands.log == ["apply 16 1", "measure 16 at 16", "regained"]
    assert hands.record().owed


def test_a_host_that_is_not_as_planned_afterwards_is_told(hands: Hands) -> None:
    hands.monkeypatch.setattr(back, "probe", lambda *_: facts("a"))
    with pytest.raises(HostError, match="a: still not as planned after the tuning: docker: Docker is not installed"):
        back.put_back(hands.work(), "back")


def test_what_the_host_lacks_comes_from_the_bundle(hands: Hands) -> None:
    """A tuning that was killed left it; somebody removed the image since."""
    hands.world = World({"a": facts("a")})
    work = hands.work()
    reference = server_of(work.host.plan, "nemotron").image
    blob = Blob(path="images/vllm.tar", size=1, sha256="0" * 64)
    part = Bundled(images=(BundledImage(reference=reference, platform="linux/amd64", digest="d", archive=blob),))
    work.seen = replace(work.seen, bundle=Path("bundle"), hosts=(replace(work.host, bundled=part),))
    told: list[Any] = []

    def bring(transport: FakeTransport, folder: Path, what: Bundled, _: Any) -> None:
        hands.log.append(f"bring {transport.host} {folder} {len(what.blobs())}")

    def apply(run_dir: Path, of: Fleet, plans: Sequence[HostPlan], *_: Any, **given: Any) -> tuple[HostResult, ...]:
        told.append(given["more"]["a"]["vllm_image_list"][0]["archive"])
        return hands.apply(run_dir, of, plans, **given)

    hands.monkeypatch.setattr(back, "bring", bring)
    hands.monkeypatch.setattr(back, "apply", apply)
    hands.monkeypatch.setattr(back, "clear", lambda transport: hands.log.append(f"clear {transport.host}"))
    back.put_back(work, "owed", proof=False)
    assert hands.log == ["bring a bundle 1", "apply 8 owed", "clear a", "probe"]
    assert told == [{"path": "/var/lib/vllm/bundle/images/vllm.tar", "at": "host"}]


def test_points_take_nothing_from_the_bundle(hands: Hands) -> None:
    """The host is as planned: images, models and plugins are there."""
    work = hands.work()
    work.seen = replace(work.seen, bundle=Path("bundle"), hosts=(replace(work.host, bundled=Bundled()),))
    hands.monkeypatch.setattr(back, "bring", None)
    found = tune(work, planned(work, candidates((AXIS,), ())))
    assert len(found.measured) == 4
    assert found.put_back


def test_what_is_known_is_not_measured_again(hands: Hands) -> None:
    hands.wrong["measure", 64] = RunInterrupted("interrupted")
    first = hands.tune()
    assert len(first.measured) == 3
    before = hands.run.record.id
    hands.run.finish(Exit.INTERRUPTED)
    hands.log.clear()
    hands.wrong.clear()
    hands.run = hands.create_run()
    known = known_points(tunings("fleet", "a", "nemotron", hands.folder))
    second = hands.tune(known=known)
    assert [line for line in hands.log if line.startswith("measure")] == ["measure 64 at 64"]
    assert {one.candidate.label: one.kept_from for one in second.points} == {
        "as it is": before,
        "max_num_seqs 4": before,
        "max_num_seqs 64": "",
        "max_num_seqs 16": before,
    }
    # another driver, and all of it is measured anew
    hands.run.finish(Exit.OK)
    hands.run = hands.create_run()
    hands.world.hosts = {"a": hands.facts.model_copy(update={"driver_version": "590.1"})}
    hands.log.clear()
    hands.tune(known=known)
    assert len([line for line in hands.log if line.startswith("measure")]) == 4


def test_records_of_others_are_not_taken(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    hands.tune()
    (hands.run.path.parent / "20990101T000000Z-abcdef").mkdir()
    (hands.run.path.parent / "20990101T000000Z-abcdef" / "tune.json").write_text('{"another": "version"}')
    look: Callable[[str, str], int] = lambda host, name: len(tunings("fleet", host, name, hands.folder))  # noqa: E731
    assert (look("a", "nemotron"), look("b", "nemotron"), look("a", "other")) == (1, 0, 0)
