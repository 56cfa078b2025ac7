"""Several places that say something about one server: who wins, and what is told about each."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.fleet.inventory import Inventory, InventoryHost
from provisioner.fleet.load import Loaded, load
from provisioner.fleet.sources import matching, sources

FLEET = """\
defaults: {max_num_seqs: 1, max_model_len: 1000, env: {A: defaults, B: defaults}, benchmark: {num_prompts: 5}}
hosts:
  gpu-[01:03]: {user: ops}
  gpu-04:
    servers:
      a: {max_num_seqs: 5, env: {C: host}}
groups:
  late: {hosts: [early, gpu-04], servers: {a: {max_num_seqs: 4, env: {B: late}}}}
  early: {hosts: ['gpu-[02:03]'], user: group, port: 2222, servers: {a: {max_num_seqs: 3, max_model_len: }}}
servers:
  a:
    recipe: nemotron-3-nano
    max_num_seqs: 2
    env: {A: server}
    benchmark: {max_concurrency: 7}
    gpus: [0]
  b: {recipe: nemotron-3-nano, gpus: [1], port: 8001, hosts: [early]}
"""


def read(folder: Path, text: str = FLEET, inventory: Inventory | None = None) -> Loaded:
    file = folder / "fleet.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, lambda _: inventory or Inventory(hosts={}, groups={}))


def test_precedence(tmp_path: Path) -> None:
    fleet = read(tmp_path).fleet
    said = {host.name: fleet.servers_on(host.name)[0] for host in fleet.hosts}
    # `early` stands after `late` in the file, so it is the stronger group; a host is stronger than both.
    assert {name: server.max_num_seqs for name, server in said.items()} == {
        "gpu-01": 2, "gpu-02": 3, "gpu-03": 3, "gpu-04": 5,
    }  # fmt: skip
    assert fleet.servers[0].max_num_seqs == 2


def test_mappings_are_merged_and_a_key_without_a_value_takes_away(tmp_path: Path) -> None:
    fleet = read(tmp_path).fleet
    said = {host.name: fleet.servers_on(host.name)[0] for host in fleet.hosts}
    assert said["gpu-01"].env == {"A": "server", "B": "defaults"}
    assert said["gpu-02"].env == {"A": "server", "B": "late"}
    assert said["gpu-04"].env == {"A": "server", "B": "late", "C": "host"}
    assert [said[name].max_model_len for name in ("gpu-01", "gpu-02")] == [1000, None]
    assert (said["gpu-01"].benchmark.num_prompts, said["gpu-01"].benchmark.max_concurrency) == (5, 7)


def test_groups_place_servers_and_reach_hosts(tmp_path: Path) -> None:
    fleet = read(tmp_path).fleet
    assert [host.name for host in fleet.hosts if len(fleet.servers_on(host.name)) == 2] == ["gpu-02", "gpu-03"]
    assert [(host.user, host.port) for host in fleet.hosts] == [
        ("ops", None), ("ops", 2222), ("ops", 2222), (None, None),
    ]  # fmt: skip


def test_hosts_alike_share_their_servers(tmp_path: Path) -> None:
    fleet = read(tmp_path).fleet
    assert fleet.servers_on("gpu-02") is fleet.servers_on("gpu-03")
    assert fleet.servers_on("gpu-01") is not fleet.servers_on("gpu-02")


def test_an_override_may_change_the_recipe(tmp_path: Path) -> None:
    text = "hosts:\n  a: {servers: {x: {recipe: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8}}}\n  b:\n"
    fleet = read(tmp_path, text + "servers:\n  x: {recipe: nemotron-3-nano}\n").fleet
    assert fleet.recipe_names() == ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "nemotron-3-nano")


def test_the_index_follows_the_hosts(tmp_path: Path) -> None:
    fleet = read(tmp_path).fleet
    assert fleet.host("gpu-01").name == "gpu-01"
    fewer = fleet.model_copy(update={"hosts": fleet.hosts[1:]})
    with pytest.raises(KeyError):
        fewer.host("gpu-01")


INVENTORY = Inventory(
    hosts={
        name: InventoryHost(name=name, user="inv", port=2022, source="hosts.ini", unused=unused)
        for name, unused in [("gpu-01", ()), ("spark-01", ("ansible_password",)), ("web-01", ())]
    },
    groups={"gpus": ("gpu-01",), "sparks": ("spark-01",), "web": ("web-01",)},
)


def with_inventory(folder: Path, text: str) -> Loaded:
    (folder / "hosts.ini").write_text("", encoding="utf-8")
    return read(folder, "inventory: hosts.ini\n" + text, INVENTORY)


def test_hosts_of_an_inventory_without_a_server_are_left_out(tmp_path: Path) -> None:
    fleet = with_inventory(tmp_path, "servers:\n  a: {recipe: nemotron-3-nano, hosts: [gpus, sparks]}\n").fleet
    assert [host.name for host in fleet.hosts] == ["gpu-01", "spark-01"]
    assert fleet.host("spark-01").notes == (
        "ansible_password of the inventory is not used here: say it in the SSH configuration",
    )


def test_the_file_wins_over_the_inventory(tmp_path: Path) -> None:
    text = "hosts:\n  gpu-01: {user: ops}\n  own:\ngroups:\n  sparks: {hosts: [own], user: nvidia}\n"
    loaded = with_inventory(tmp_path, text + "servers:\n  a: {recipe: nemotron-3-nano, hosts: [gpus, sparks]}\n")
    reached = {host.name: (host.user, host.port) for host in loaded.fleet.hosts}
    assert reached == {"gpu-01": ("ops", 2022), "spark-01": ("nvidia", 2022), "own": ("nvidia", None)}


def test_all_is_a_group(tmp_path: Path) -> None:
    text = "servers:\n  a: {recipe: nemotron-3-nano}\ngroups:\n  all: {servers: {a: {max_num_seqs: 3}}}\n"
    fleet = with_inventory(tmp_path, text).fleet
    assert {fleet.servers_on(host.name)[0].max_num_seqs for host in fleet.hosts} == {3}
    assert len(fleet.hosts) == 3


@pytest.mark.parametrize(
    ("host", "key", "value", "source"),
    [
        ("gpu-01", "servers.a.max_num_seqs", "2", "{file}:13:5 (server)"),
        ("gpu-03", "a.max_num_seqs", "3", "{file}:9:74 (group early)"),
        ("gpu-04", "a.max_num_seqs", "5", "{file}:6:11 (host gpu-04)"),
        ("gpu-04", "a.env.B", "late", "{file}:8:71 (group late)"),
        ("gpu-04", "a.env.A", "server", "{file}:14:11 (server)"),
        ("gpu-03", "a.max_model_len", "–", "{file}:9:91 (group early)"),
        ("gpu-01", "a.max_model_len", "1000", "{file}:1:29 (defaults)"),
        ("gpu-01", "a.benchmark.num_prompts", "5", "{file}:1:95 (defaults)"),
        ("gpu-01", "a.host", "127.0.0.1", "default"),
        ("gpu-03", "port", "2222", "{file}:9:48 (group early)"),
        ("gpu-01", "user", "ops", "{file}:3:17"),
        ("gpu-04", "user", "–", "SSH configuration"),
        ("gpu-04", "hardware", "–", "seen on the host"),
        ("gpu-04", "docker.min_free_gib", "30", "default"),
    ],
)
def test_sources(tmp_path: Path, host: str, key: str, value: str, source: str) -> None:
    loaded = read(tmp_path)
    found = matching(sources(loaded, host, {}), key)[0]
    assert (found.value, found.source) == (value, source.format(file=tmp_path / "fleet.yaml"))


def test_what_the_inventory_says_is_told_so(tmp_path: Path) -> None:
    loaded = with_inventory(tmp_path, "servers:\n  a: {recipe: nemotron-3-nano, hosts: [gpus]}\n")
    (user,) = matching(sources(loaded, "gpu-01", {}), "user")
    assert (user.value, user.source) == ("inv", "inventory hosts.ini")


def test_unknown_host_and_key(tmp_path: Path) -> None:
    loaded = read(tmp_path)
    with pytest.raises(UsageError, match=r'has no host "gpu-4"'):
        sources(loaded, "gpu-4", {})
    with pytest.raises(UsageError, match=r'no key "prot" here'):
        matching(sources(loaded, "gpu-01", {}), "prot")
