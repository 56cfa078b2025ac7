"""Which hosts change together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.fleet.rollout import Rollout
from provisioner.rollout.waves import Member, Wave, plan_waves

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


SIZES = st.one_of(st.integers(1, 9), st.integers(1, 100).map(lambda share: f"{share}%"))
MEMBERS = st.lists(
    st.builds(Member, st.integers(0, 10_000).map("h{}".format), st.sampled_from(["", "a", "b"])),
    max_size=60,
    unique_by=lambda member: member.name,
)


@given(MEMBERS, st.one_of(st.just("auto"), st.integers(0, 70)), st.lists(SIZES, min_size=1, max_size=4))
def test_every_host_is_in_exactly_one_wave(members: list[Member], canary: str | int, sizes: list[int | str]) -> None:
    waves = plan_waves(Rollout.model_validate({"canary": canary, "batches": sizes}), members)
    hosts = [host for wave in waves for host in wave.hosts]
    assert sorted(hosts) == sorted(member.name for member in members)
    assert all(wave.hosts for wave in waves)
    assert len({wave.name for wave in waves}) == len(waves)
