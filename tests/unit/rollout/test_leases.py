"""The leases of a run: together or not at all, and given back whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import facts, file
from leasing import LeaseHosts

from provisioner.errors import HostError, LockedError, UnreachableError
from provisioner.fleet.models import Host
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.lease import FILE, Who
from provisioner.rollout import leases as module
from provisioner.rollout.connections import Connections
from provisioner.rollout.leases import Leases, Timing, leased, unlock
from provisioner.rollout.survey import HostSurvey

QUICK = Timing(lease_s=300, renew_s=0.02, patience_s=0.0)
A, B = (Who(user="ops", machine=f"control-{n}", control=f"c{n}", fleet="sim", run=f"run-{n}") for n in ("1", "2"))


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LeaseHosts:
    monkeypatch.setattr(module, "PAUSE_S", (0.001, 0.005))
    return LeaseHosts(monkeypatch, tmp_path)


def named(*names: str) -> list[Host]:
    return [Host(name=name) for name in names]


def connections(hosts: LeaseHosts) -> Connections:
    return Connections(lambda host: hosts.transport(host.name))


def run(hosts: LeaseHosts, names: Sequence[str], who: Who, timing: Timing = QUICK) -> Leases:
    return Leases(connections(hosts), named(*names), who, timing)


def seen(hosts: LeaseHosts, names: str) -> list[HostSurvey]:
    """What a probe finds of the leases now."""
    told = {name: hosts.file(name) for name in names}
    files = {name: (file(FILE, text),) if text else () for name, text in told.items()}
    return [HostSurvey(Host(name=name), facts=facts(name, files=files[name])) for name in names]


def nothing(_words: str) -> None:
    raise AssertionError("nobody was to be waited for")


def test_all_or_none(hosts: LeaseHosts) -> None:
    run(hosts, "b", B).take(0, nothing)
    with pytest.raises(LockedError) as caught:
        run(hosts, "abc", A).take(0, nothing)
    since = hosts.holder("b")
    assert since
    assert str(caught.value) == (
        "another run is at work on hosts of this one:\n"
        f"  b: ops on control-2, run run-2 of fleet sim, since {since['since']}\n"
        "  hint: wait for it: --lock-wait 10m. The lease of a run that died expires within 5 minutes; "
        "`provision unlock FLEET --reason TEXT` ends it at once"
    )
    assert (hosts.holder("a"), hosts.holder("c")) == (None, None)


def test_a_hundred_hosts_in_one_round_trip_each(hosts: LeaseHosts) -> None:
    names = [f"h{n:03}" for n in range(100)]
    mine = run(hosts, names, A)
    mine.take(0, nothing)
    assert sorted(hosts.asked) == [(name, "take") for name in names]
    assert mine.release() == []
    assert not [name for name in names if hosts.holder(name)]


def test_waiting(hosts: LeaseHosts) -> None:
    theirs, mine, said = run(hosts, "ab", B), run(hosts, "ab", A), list[str]()
    theirs.take(0, nothing)
    waiter = threading.Thread(target=mine.take, args=(30, said.append))
    waiter.start()
    end = time.monotonic() + 10
    while not said and time.monotonic() < end:
        time.sleep(0.005)
    theirs.release()
    waiter.join(10)
    assert not waiter.is_alive()
    assert said[0].startswith("another run is at work on hosts of this one:\n  a, b: ops on control-2")
    assert said[0].endswith("\nwaiting for the end of that")
    assert {one["run"] for one in map(hosts.holder, "ab") if one} == {"run-1"}


def test_waiting_in_vain(hosts: LeaseHosts) -> None:
    run(hosts, "a", B).take(0, nothing)
    with pytest.raises(LockedError, match=r"\(waited 0\.05 s\)"):
        run(hosts, "a", A).take(0.05, lambda _: None)


@pytest.mark.parametrize("seed", range(5))
def test_runs_that_begin_at_once_get_through_one_after_another(hosts: LeaseHosts, seed: int) -> None:
    """Overlapping sets of hosts, no order among the runs: none waits for ever, and no two have a host at a time."""
    sets, holders, wrong = ["abcd", "bcde", "dea", "cab", "edcba"], dict[str, int](), list[str]()
    lock = threading.Lock()

    def one(number: int) -> None:
        who = A.model_copy(update={"control": f"c{number}", "run": f"run-{number}"})
        mine = run(hosts, sets[number], who)
        mine.take(60, lambda _: None)
        with lock:
            wrong.extend(name for name in sets[number] if name in holders)
            holders.update(dict.fromkeys(sets[number], number))
        time.sleep(0.002)
        with lock:
            for name in sets[number]:
                del holders[name]
        mine.release()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(sets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not [thread for thread in threads if thread.is_alive()]
    assert wrong == []


def test_of_two_that_do_not_wait_one_gets_through(hosts: LeaseHosts) -> None:
    gate, won = threading.Barrier(2), list[str]()

    def one(who: Who) -> None:
        mine = run(hosts, "abcdef", who, Timing(patience_s=5))
        gate.wait()
        try:
            mine.take(0, nothing)
        except LockedError:
            return
        won.append(who.run)

    threads = [threading.Thread(target=one, args=(who,)) for who in (A, B)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(won) == 1


def test_a_host_that_is_away_is_left_out(hosts: LeaseHosts) -> None:
    hosts.away = {"b"}
    before, mine = seen(hosts, "abc"), run(hosts, "abc", A)
    mine.take(0, nothing)
    assert [bool(hosts.holder(name)) for name in "abc"] == [True, False, True]
    assert mine.untouched_since(before)


def test_hosts_that_another_run_had_since(hosts: LeaseHosts) -> None:
    before = seen(hosts, "ab")
    theirs = run(hosts, "b", B)
    theirs.take(0, nothing)
    during = seen(hosts, "ab")
    theirs.release()
    after = seen(hosts, "ab")
    mine = run(hosts, "ab", A)
    mine.take(0, nothing)
    assert [mine.untouched_since(one) for one in (before, during, after)] == [False, False, True]


def test_a_connection_that_died_of_idleness(hosts: LeaseHosts) -> None:
    """As while somebody was asked: the host is leased all the same."""
    opened: list[str] = []

    def dead(_command: str, _stdin: bytes) -> str:
        raise UnreachableError("a: the connection is closed")

    def connect(host: Host) -> FakeTransport:
        opened.append(host.name)
        return hosts.transport(host.name) if len(opened) > 1 else FakeTransport(host.name, [("", dead)])

    mine = Leases(Connections(connect), named("a"), A, QUICK)
    mine.take(0, nothing)
    assert (hosts.holder("a") is not None, opened) == (True, ["a", "a"])


class TestLeased:
    def test_given_back_at_the_end(self, hosts: LeaseHosts) -> None:
        with leased(connections(hosts), named("a"), A, wait_s=0, say=nothing, timing=QUICK):
            assert hosts.holder("a")
        assert hosts.holder("a") is None

    def test_on_hosts_that_are_cleared_nothing_stays(self, hosts: LeaseHosts) -> None:
        with leased(connections(hosts), named("a", "b"), A, wait_s=0, say=nothing, timing=QUICK) as mine:
            mine.clear(["b"])
        assert (hosts.file("a") is not None, (hosts.folder / "b").exists()) == (True, False)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), HostError("x"), RuntimeError("a bug"), SystemExit(1)])
    def test_given_back_whatever_happens(self, hosts: LeaseHosts, error: BaseException) -> None:
        with (
            pytest.raises(type(error)),
            leased(connections(hosts), named("a", "b"), A, wait_s=0, say=nothing, timing=QUICK),
        ):
            raise error
        assert (hosts.holder("a"), hosts.holder("b")) == (None, None)

    def test_it_is_renewed(self, hosts: LeaseHosts) -> None:
        with leased(connections(hosts), named("a"), A, wait_s=0, say=nothing, timing=QUICK) as mine:
            for _ in range(4):
                renewals = hosts.asked.count(("a", "renew"))
                hosts.clock += 200
                wait_until(lambda more=renewals: hosts.asked.count(("a", "renew")) > more + 1)  # type: ignore[misc]
            with pytest.raises(LockedError):
                run(hosts, "a", B).take(0, nothing)
            assert mine.lost == ""

    def test_it_is_lost(self, hosts: LeaseHosts) -> None:
        said: list[str] = []
        with leased(connections(hosts), named("a"), A, wait_s=0, say=said.append, timing=QUICK) as mine:
            unlock(connections(hosts), named("a"), "unlocked by eve: it hangs")
            wait_until(lambda: bool(said))
        assert mine.lost == "a: its lease was taken from this run: unlocked by eve: it hangs"
        assert said == [f"{mine.lost}; stopping"]

    def test_a_host_that_goes_away(self, hosts: LeaseHosts) -> None:
        said: list[str] = []
        with leased(connections(hosts), named("a", "b"), A, wait_s=0, say=said.append, timing=QUICK):
            connections_of_b = hosts.transport("b")
            hosts.away = {"b"}
            connections_of_b.close()
        assert hosts.holder("a") is None
        assert len(said) <= 1  # the connection that it had may have been good for one more word


def test_unlocking(hosts: LeaseHosts) -> None:
    run(hosts, "a", A).take(0, nothing)
    hosts.away = {"c"}
    told = unlock(connections(hosts), named("a", "b", "c"), "x")
    assert list(told) == ["a", "b", "c"]
    assert [getattr(one, "done", str(one)) for one in told.values()] == [True, False, "c: refused"]


def wait_until(ready: object) -> None:
    end = time.monotonic() + 10
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < end, "waited 10 s"
        time.sleep(0.005)


def test_a_run_that_died_on_this_machine_is_in_no_way_whatever_its_fleet(
    hosts: LeaseHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = A.model_copy(update={"fleet": "other", "run": "run-0"})
    run(hosts, "ab", other).take(0, nothing)
    monkeypatch.setattr(module, "holder", lambda fleet: "somebody" if fleet == "other" else None)
    with pytest.raises(LockedError):
        run(hosts, "ab", A).take(0, nothing)
    monkeypatch.setattr(module, "holder", lambda _fleet: None)
    run(hosts, "ab", A).take(0, nothing)
    holder = hosts.holder("a")
    assert holder
    assert holder["run"] == A.run
    # of another machine nobody knows whether it is alive
    with pytest.raises(LockedError):
        run(hosts, "ab", B).take(0, nothing)
