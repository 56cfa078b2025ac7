from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.apply.places import Here, InPlace, Shard, split
from provisioner.fleet.models import Host


def host(name: str, site: str | None = None, *groups: str) -> Host:
    return Host(name=name, labels={"site": site} if site else {}, groups=groups)


def test_this_machine_has_one_shard_in_the_runs_own_folder() -> None:
    assert Here().split([host("a"), host("b", "berlin")]) == (Shard(("a", "b")),)


def test_what_is_done_in_place_is_done_at_once() -> None:
    assert InPlace().submit(lambda one, two: one + two, 1, two=2).result(timeout=0) == 3


def test_hosts_go_to_the_workers_of_their_site_and_others_to_any() -> None:
    hosts = [host("a", "berlin"), host("b", "oslo"), host("c", None, "rack", "berlin"), host("d", "berlin", "oslo")]
    assert split(hosts, {"berlin": 1}, 2) == (
        Shard(("a", "c", "d"), "berlin", "shard-1"),
        Shard(("b",), "", "shard-2"),
    )
    assert split(hosts, {"berlin": 2, "oslo": 3}, 1) == (
        Shard(("a", "d"), "berlin", "shard-1"),
        Shard(("c",), "berlin", "shard-2"),
        Shard(("b",), "oslo", "shard-3"),
    )


def test_a_host_of_another_site_goes_by_its_groups() -> None:
    assert split([host("a", "oslo", "berlin")], {"berlin": 1}, 1) == (Shard(("a",), "berlin", "shard-1"),)


_SITES = st.sampled_from(["berlin", "oslo", "rome", None])


@given(
    st.lists(_SITES, max_size=30),
    st.dictionaries(st.sampled_from(["berlin", "oslo"]), st.integers(1, 9)),
    st.integers(1, 9),
)
def test_every_host_is_in_one_shard_and_shards_are_equal(
    sites: list[str | None], workers: dict[str, int], others: int
) -> None:
    hosts = [host(f"h{number}", site) for number, site in enumerate(sites)]
    shards = split(hosts, workers, others)
    assert sorted(name for shard in shards for name in shard.hosts) == sorted(one.name for one in hosts)
    assert len({shard.folder for shard in shards}) == len(shards)
    for site in {shard.site for shard in shards}:
        sizes = [len(shard.hosts) for shard in shards if shard.site == site]
        assert len(sizes) <= workers.get(site, others)
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1
