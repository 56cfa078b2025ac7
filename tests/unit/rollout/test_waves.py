"""Which hosts change together."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from builders import facts, fleet, plan, server
from hypothesis import given
from hypothesis import strategies as st
from worlds import World, release

from provisioner.fleet.rollout import Order, Rollout
from provisioner.plan.release import release_id
from provisioner.rollout.waves import CANARY, Member, Wave, in_order, may_return, plan_waves, waves_of

MIXED = [
    Member("gpu-1", "h200/linux/amd64", "a"),
    Member("gpu-2", "h200/linux/amd64", "b"),
    Member("spark-1", "gb10/linux/arm64", "a"),
    Member("gpu-3", "h200/linux/amd64", "b"),
    Member("spark-2", "gb10/linux/arm64", "c"),
]


def named(*waves: tuple[str, str]) -> tuple[Wave, ...]:
    return tuple(Wave(name, tuple(hosts.split())) for name, hosts in waves)


def test_by_default_one_host_of_each_kind_goes_first() -> None:
    assert plan_waves(Rollout(), MIXED) == named(("canary", "gpu-1 spark-1"), ("batch 1", "gpu-2 gpu-3 spark-2"))


def test_a_host_that_no_probe_reached_is_no_canary() -> None:
    members = [Member("gone", ""), *MIXED[:2]]
    assert plan_waves(Rollout(), members) == named(("canary", "gpu-1"), ("batch 1", "gone gpu-2"))


def test_the_last_size_repeats() -> None:
    waves = plan_waves(Rollout(canary=1, batches=(1, 2)), [Member(f"h{i}", "k") for i in range(7)])
    assert [len(wave.hosts) for wave in waves] == [1, 1, 2, 2, 1]


def test_percentages_are_of_the_fleet_and_at_least_one_host() -> None:
    waves = plan_waves(Rollout(canary=0, batches=("10%", "50%")), [Member(f"h{i}", "k") for i in range(20)])
    assert [(wave.name, len(wave.hosts)) for wave in waves] == [("batch 1", 2), ("batch 2", 10), ("batch 3", 8)]
    assert [len(w.hosts) for w in plan_waves(Rollout(canary=0, batches=("10%",)), MIXED[:3])] == [1, 1, 1]


def test_canaries_by_name_keep_the_order_of_the_fleet() -> None:
    assert plan_waves(Rollout(canary=("spark-2", "gpu-2")), MIXED)[0] == Wave("canary", ("gpu-2", "spark-2"))


def test_one_wave_for_each_rack() -> None:
    assert plan_waves(Rollout(canary=("gpu-1",), batch_by="rack"), MIXED) == named(
        ("canary", "gpu-1"), ("rack b", "gpu-2 gpu-3"), ("rack a", "spark-1"), ("rack c", "spark-2")
    )


def test_canaries_outside_of_a_chosen_part_of_the_fleet_are_left_out() -> None:
    assert plan_waves(Rollout(canary=("gpu-9",)), MIXED[:2]) == named(("batch 1", "gpu-1 gpu-2"))


@pytest.mark.parametrize(
    ("order", "waves"),
    [
        ("inventory", [("canary", "gpu-1 spark-1"), ("batch 1", "gpu-2 gpu-3 spark-2")]),
        ("reverse_inventory", [("canary", "spark-2 gpu-3"), ("batch 1", "spark-1 gpu-2 gpu-1")]),
        ("sorted", [("canary", "gpu-1 spark-1"), ("batch 1", "gpu-2 gpu-3 spark-2")]),
        ("reverse_sorted", [("canary", "spark-2 gpu-3"), ("batch 1", "spark-1 gpu-2 gpu-1")]),
    ],
)
def test_the_order_of_hosts(order: Order, waves: list[tuple[str, str]]) -> None:
    """MIXED stands neither by name nor by hardware in its file."""
    assert plan_waves(Rollout(order=order), MIXED) == named(*waves)
    names = [member.name for member in in_order(order, MIXED)]
    assert (
        names
        == {
            "inventory": ["gpu-1", "gpu-2", "spark-1", "gpu-3", "spark-2"],
            "reverse_inventory": ["spark-2", "gpu-3", "spark-1", "gpu-2", "gpu-1"],
            "sorted": ["gpu-1", "gpu-2", "gpu-3", "spark-1", "spark-2"],
            "reverse_sorted": ["spark-2", "spark-1", "gpu-3", "gpu-2", "gpu-1"],
        }[order]
    )


def test_a_number_of_canaries_and_labels_follow_the_order() -> None:
    assert plan_waves(Rollout(canary=1, batches=(2,), order="reverse_sorted"), MIXED) == named(
        ("canary", "spark-2"), ("batch 1", "spark-1 gpu-3"), ("batch 2", "gpu-2 gpu-1")
    )
    assert plan_waves(Rollout(canary=0, batch_by="rack", order="reverse_sorted"), MIXED) == named(
        ("rack c", "spark-2"), ("rack a", "spark-1 gpu-1"), ("rack b", "gpu-3 gpu-2")
    )


def test_shuffled_hosts_have_an_order_of_their_release() -> None:
    """The same one whenever it is made, whatever the file's order; another one for another release."""
    first, again, other = (
        [member.name for member in in_order("shuffle", members)]
        for members in (fleet_of("r1"), fleet_of("r1")[::-1], fleet_of("r2"))
    )
    assert first == again != other
    assert sorted(first) == sorted(other)
    without = [member.name for member in in_order("shuffle", fleet_of("r1")[1:])]
    assert without == [name for name in first if name != "h0"]


def test_over_many_releases_every_host_is_the_canary() -> None:
    rollout = Rollout(canary=1, order="shuffle")
    assert len({plan_waves(rollout, fleet_of(f"r{number}", 6))[0] for number in range(100)}) == 6


def test_the_release_is_that_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = Rollout(canary=0, batches=(1,), order="shuffle")
    orders = set()
    for requests in range(1, 9):
        of = fleet(server(max_num_seqs=requests), hosts=("a", "b", "c", "d"), rollout=rollout)
        seen = World({host.name: facts(host.name) for host in of.hosts}).survey(monkeypatch, of)
        members = [Member(host.host.name, "", release=release_id(plan(of, facts("a")))) for host in seen.hosts]
        assert waves_of(seen) == plan_waves(rollout, members)
        orders.add(waves_of(seen))
    assert len(orders) > 1


def fleet_of(release: str, count: int = 20) -> list[Member]:
    return [Member(f"h{number}", "k", release=release) for number in range(count)]


SIZES = st.one_of(st.integers(1, 9), st.integers(1, 100).map(lambda share: f"{share}%"))
MEMBERS = st.lists(
    st.builds(
        Member,
        st.integers(0, 10_000).map("h{}".format),
        st.sampled_from(["", "a", "b"]),
        st.sampled_from([None, "x", "y"]),
        st.sampled_from(["", "r1", "r2"]),
    ),
    max_size=60,
    unique_by=lambda member: member.name,
)


ORDERS = st.sampled_from(get_args(Order))
CANARIES = st.one_of(
    st.just("auto"), st.integers(0, 70), st.lists(st.integers(0, 10_000).map("h{}".format), max_size=5)
)


@given(MEMBERS, CANARIES, st.lists(SIZES, min_size=1, max_size=4), st.sampled_from([None, "rack"]), ORDERS)
def test_every_host_is_in_exactly_one_wave(
    members: list[Member], canary: Any, sizes: list[int | str], label: str | None, order: Order
) -> None:
    """Canaries first, whatever the order; and in each wave, the hosts stand as the order has them."""
    rollout = Rollout.model_validate({"canary": canary, "batches": sizes, "batch_by": label, "order": order})
    waves = plan_waves(rollout, members)
    hosts = [host for wave in waves for host in wave.hosts]
    assert sorted(hosts) == sorted(member.name for member in members)
    assert all(wave.hosts for wave in waves)
    assert len({wave.name for wave in waves}) == len(waves)
    canaries = [(number, len(wave.hosts)) for number, wave in enumerate(waves) if wave.name == CANARY]
    assert canaries == ([(0, expected(canary, members))] if expected(canary, members) else [])
    place = {member.name: number for number, member in enumerate(in_order(order, members))}
    assert all(list(wave.hosts) == sorted(wave.hosts, key=place.__getitem__) for wave in waves)


def expected(canary: Any, members: list[Member]) -> int:
    """How many canaries there are."""
    if canary == "auto":
        return len({member.kind for member in members if member.kind})
    if isinstance(canary, int):
        return min(canary, len(members))
    return len({member.name for member in members} & set(canary))


@pytest.mark.parametrize(("rollback", "returning"), [("never", ()), ("wave", ("c",)), ("all", ("a", "c"))])
def test_who_may_have_to_go_back(monkeypatch: pytest.MonkeyPatch, rollback: str, returning: tuple[str, ...]) -> None:
    """Of a wave of c and d after one of a and b; b and d have nothing to go back to."""
    of = fleet(hosts=("a", "b", "c", "d"), rollout=Rollout.model_validate({"rollback": rollback}))
    seen = World({name: facts(name, files=(release(plan()),) if name in "ac" else ()) for name in "abcd"})
    assert may_return(seen.survey(monkeypatch, of), ("c", "d"), ("a", "b")) == returning
