"""One host's lease, through the real host-side part."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leasing import LeaseHosts

from provisioner.errors import HostError
from provisioner.hosts import lease
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.lease import Who, by_holder, mark, seen
from provisioner.hosts.transport import Result

OPS = Who(user="ops", machine="control-1", control="c1", fleet="sim", run="run-1")
EVE = Who(user="eve", machine="control-2", control="c2", fleet="sim", run="run-2")


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LeaseHosts:
    return LeaseHosts(monkeypatch, tmp_path)


def test_one_has_it_and_the_other_is_told_who(hosts: LeaseHosts) -> None:
    host = hosts.transport("a")
    assert lease.take(host, "t1", OPS, 300).done
    hosts.clock += 100
    refused = lease.take(host, "t2", EVE, 300)
    assert not refused.done
    assert refused.holder
    assert str(refused.holder).startswith("ops on control-1, run run-1 of fleet sim, since 20")
    assert refused.holder.left_s == 200
    assert lease.release(host, "t1").done
    assert lease.take(host, "t2", EVE, 300).done


def test_an_expired_one_is_taken_over(hosts: LeaseHosts) -> None:
    host = hosts.transport("a")
    lease.take(host, "t1", OPS, 300)
    hosts.clock += 299
    assert not lease.take(host, "t2", EVE, 300).done
    hosts.clock += 1
    taken = lease.take(host, "t2", EVE, 300)
    assert (taken.done, taken.last) == (True, "t1")
    late = lease.renew(host, "t1", OPS, 300)
    assert not late.done
    assert late.holder
    assert late.holder.run == "run-2"


def test_renewing_keeps_it(hosts: LeaseHosts) -> None:
    host = hosts.transport("a")
    lease.take(host, "t1", OPS, 300)
    for _ in range(5):
        hosts.clock += 250
        assert lease.renew(host, "t1", OPS, 300).done
    assert not lease.take(host, "t2", EVE, 300).done


def test_one_that_expired_and_that_nobody_took_is_still_ours(hosts: LeaseHosts) -> None:
    host = hosts.transport("a")
    lease.take(host, "t1", OPS, 300)
    hosts.clock += 1000
    assert lease.renew(host, "t1", OPS, 300).done


def test_a_boot_takes_it_away_and_renewing_brings_it_back(hosts: LeaseHosts) -> None:
    host = hosts.transport("a")
    lease.take(host, "t1", OPS, 300)
    hosts.boot("a")
    hosts.clock = 5
    assert lease.renew(host, "t1", OPS, 300).done
    assert not lease.take(host, "t2", EVE, 300).done


def test_a_dead_run_of_our_own_is_in_nobodys_way(hosts: LeaseHosts) -> None:
    """The turn of the fleet on this machine says that the other run is dead. Of another fleet it says nothing."""
    host = hosts.transport("a")
    lease.take(host, "t1", OPS, 300)
    other_fleet = OPS.model_copy(update={"fleet": "other"})
    assert not lease.take(host, "t2", other_fleet, 300).done
    assert lease.take(host, "t3", OPS.model_copy(update={"run": "run-3"}), 300).done


def test_what_is_ended_by_hand_does_not_come_back(hosts: LeaseHosts) -> None:
    host = hosts.transport("a")
    lease.take(host, "t1", OPS, 300)
    ended = lease.unlock(host, "unlocked by eve: it hangs")
    assert ended.holder
    assert ended.holder.run == "run-1"
    gone = lease.renew(host, "t1", OPS, 300)
    assert (gone.done, gone.unlocked) == (False, "unlocked by eve: it hangs")
    assert not lease.unlock(host, "again").done
    assert lease.take(host, "t2", EVE, 300).done


def test_giving_back_what_is_not_ours(hosts: LeaseHosts) -> None:
    host = hosts.transport("a")
    lease.take(host, "t1", OPS, 300)
    assert not lease.release(host, "t2").done
    assert not lease.take(host, "t2", EVE, 300).done


def test_a_host_that_was_cleared_has_nothing_of_it(hosts: LeaseHosts) -> None:
    """Nor is it given to one who slept for so long that another could take it and clear the host."""
    host = hosts.transport("a")
    slept = lease.take(host, "t1", OPS, 300)
    hosts.clock += 1000
    lease.take(host, "t2", EVE, 300)
    assert not lease.release(host, "t1", clear=True).done
    assert lease.release(host, "t2", clear=True).done
    assert not (hosts.folder / "a").exists()
    late = lease.renew(host, "t1", OPS, 300, slept.boot)
    assert (late.done, late.holder) == (False, None)
    hosts.boot("a")
    assert lease.renew(host, "t1", OPS, 300, slept.boot).done


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"holder": 3}', '{"holder": {"until": "x"}}'])
def test_a_file_that_is_not_ours(hosts: LeaseHosts, text: str) -> None:
    (hosts.folder / "a").mkdir(parents=True)
    (hosts.folder / "a" / "lease.json").write_text(text)
    assert lease.take(hosts.transport("a"), "t1", OPS, 300).done


def test_marks(hosts: LeaseHosts) -> None:
    """What a probe reads tells whether somebody was there since."""
    host = hosts.transport("a")
    assert mark(hosts.file("a")) == ""
    assert lease.take(host, "t1", OPS, 300).last == ""
    assert mark(hosts.file("a")) is None
    lease.release(host, "t1")
    before = mark(hosts.file("a"))
    assert before == lease.take(host, "t2", EVE, 300).last == "t1"
    lease.release(host, "t2")
    assert lease.take(host, "t3", OPS, 300).last == "t2" != before


def test_whose_it_is_when_a_probe_looks(hosts: LeaseHosts) -> None:
    host = hosts.transport("a")
    assert seen(hosts.file("a"), 1000.0) is None
    taken = lease.take(host, "t1", OPS, 300)
    assert seen(hosts.file("a"), 1100.0) == taken.holder.model_copy(update={"left_s": 200.0}) if taken.holder else None
    assert seen(hosts.file("a"), 1301.0) is None  # expired
    assert seen(hosts.file("a"), None) is not None  # nobody knows
    lease.release(host, "t1")
    assert seen(hosts.file("a"), 1000.0) is None


@pytest.mark.parametrize("text", ["", "x", "[]", '{"holder": 3}', '{"holder": {"until": "x"}}', '{"holder": {}}'])
def test_a_lease_of_nonsense_is_nobodys(text: str) -> None:
    assert seen(text, 1.0) is None


def test_hosts_by_who_has_them() -> None:
    many = {f"h{number}": "eve" for number in range(7)} | {"a": "ops"}
    assert by_holder(many) == ["a: ops", "h0, h1, h2, h3, h4 and 2 more: eve"]


@pytest.mark.parametrize("text", ["nonsense", "[]", '"x"'])
def test_a_mark_of_nonsense(text: str) -> None:
    assert mark(text) is None


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            Result(1, "", "PermissionError: /run/provision\n"),
            "a: its lease cannot be had: PermissionError: /run/provision",
        ),
        (
            Result(0, "<<<provision-lease\n{}\nprovision-lease>>>\n", ""),
            "a: its lease cannot be had: it printed nothing",
        ),
        (Result(127, "", "python3: not found\n"), "a: its lease cannot be had: python3: not found"),
    ],
)
def test_a_host_that_does_not_answer_so(result: Result, words: str) -> None:
    with pytest.raises(HostError) as caught:
        lease.take(FakeTransport("a", [("", result)]), "t1", OPS, 300)
    assert str(caught.value) == words


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["take", "renew", "release", "clear", "unlock", "sleep", "boot"]), st.sampled_from([0, 1, 2])
    ),
    max_size=40,
)


@given(ACTS)
def test_two_never_have_it(tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int]]) -> None:
    """Whoever was last told that it is his, and whose time is not up, is the only one who was."""
    with pytest.MonkeyPatch.context() as patch:
        hosts = LeaseHosts(patch, tmp_path_factory.mktemp("lease"))
        host, until, boots = hosts.transport("a"), dict.fromkeys(range(3), -1.0), dict.fromkeys(range(3), "")
        for act, one in acts:
            who = Who(user="u", machine="m", control=f"c{one}", fleet="f", run=f"r{one}")
            if act == "sleep":
                hosts.clock += 40
            elif act == "boot":
                hosts.boot("a")
                until = dict.fromkeys(range(3), -1.0)  # what was under way on it ended with it
            elif act == "unlock":
                lease.unlock(host, "x")
                until = dict.fromkeys(range(3), -1.0)
            elif act in ("release", "clear"):
                lease.release(host, f"t{one}", clear=act == "clear")
                until[one] = -1.0
            elif act == "take" or boots[one]:
                if act == "take":
                    answer = lease.take(host, f"t{one}", who, 100)
                else:
                    answer = lease.renew(host, f"t{one}", who, 100, boots[one])
                boots[one] = answer.boot
                until[one] = hosts.clock + 100 if answer.done else until[one]
            assert sum(end > hosts.clock for end in until.values()) <= 1
