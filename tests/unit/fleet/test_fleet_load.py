"""What is accepted, and what it becomes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.errors import InputError, Problem
from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Build, Fleet, Image
from provisioner.fleet.recipes import find_recipe
from provisioner.inventory.read import read_inventory

ROOT = Path(__file__).parents[3]
SERVERS = "servers:\n  nemotron: {recipe: nemotron-3-nano}\n"


def load(folder: Path, text: str) -> Fleet:
    file = folder / "fleet.yaml"
    file.write_text(text, encoding="utf-8")
    return load_fleet(file)


def one_server(folder: Path, settings: str) -> Fleet:
    return load(folder, f"hosts: [gpu-01]\nservers:\n  a: {{recipe: nemotron-3-nano, {settings}}}\n")


def outcome(folder: Path, text: str) -> Fleet | list[Problem]:
    """The fleet, or what is wrong with it; anything else that is raised fails the test."""
    try:
        return load(folder, text)
    except InputError as error:
        return error.problems


def test_three_lines_are_enough(tmp_path: Path) -> None:
    fleet = load(tmp_path, "hosts: [gpu-01, gpu-02, spark-01]\nservers:\n  nemotron: {recipe: nemotron-3-nano}\n")
    assert [host.name for host in fleet.hosts] == ["gpu-01", "gpu-02", "spark-01"]
    (server,) = fleet.servers
    assert (server.name, server.recipe, server.hosts, server.port) == ("nemotron", "nemotron-3-nano", None, 8000)
    assert fleet.servers_on("spark-01") == (server,)


def test_the_example_loads() -> None:
    fleet = load_fleet(ROOT / "inventories/example/fleet.yaml", read_inventory)
    assert [server.name for server in fleet.servers] == ["nemotron", "nemotron-bf16"]
    assert [host.name for host in fleet.hosts] == ["gpu-01", "gpu-02", "gpu-03", "gpu-04", "spark-02", "spark-01"]


@pytest.mark.parametrize("page", ["README.md", "docs/design/README.md"])
def test_fleets_in_the_pages_load(page: str, tmp_path: Path) -> None:
    blocks = [block.partition("```")[0] for block in (ROOT / page).read_text(encoding="utf-8").split("```yaml\n")[1:]]
    fleets = [block for block in blocks if block.startswith("hosts:")]
    if not fleets and page == "README.md":
        pytest.skip("README.md shows no fleet yet")
    assert fleets
    for block in fleets:
        load(tmp_path, block)


def test_ranges_and_settings(tmp_path: Path) -> None:
    fleet = load(tmp_path, "hosts:\n  gpu-[08:10]: {user: ops}\n  rack-[a:b]-[1:3:2]:\n" + SERVERS)
    assert [host.name for host in fleet.hosts] == [
        "gpu-08", "gpu-09", "gpu-10", "rack-a-1", "rack-a-3", "rack-b-1", "rack-b-3",
    ]  # fmt: skip
    assert [host.user for host in fleet.hosts[:4]] == ["ops", "ops", "ops", None]


def test_numbers_are_names_as_written(tmp_path: Path) -> None:
    assert [host.name for host in load(tmp_path, "hosts: [007, 1]\n" + SERVERS).hosts] == ["007", "1"]


def test_merge_keys_and_aliases(tmp_path: Path) -> None:
    fleet = load(tmp_path, "hosts:\n  a: &a {user: ops, port: 23}\n  b: {<<: *a, port: 24}\n" + SERVERS)
    assert [(host.user, host.port) for host in fleet.hosts] == [("ops", 23), ("ops", 24)]


def test_paths_start_at_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ops")
    (tmp_path / "more").mkdir()
    fleet = load(
        tmp_path,
        "ssh: {config: ssh_config}\nhub: {token: 'file:secrets/hf'}\nrecipes: [more]\n"
        "hosts:\n  a: {identity_file: ~/.ssh/key}\n  b: {identity_file: /etc/key}\n"
        "servers:\n  a: {recipe: nemotron-3-nano, api_key: 'file:/etc/api', gpus: [0]}\n"
        "  b: {recipe: nemotron-3-nano, api_key: 'vault:secrets.yml#keys.b', gpus: [1], port: 8001}\n",
    )
    assert fleet.ssh.config == tmp_path / "ssh_config"
    assert fleet.hub.token == f"file:{tmp_path}/secrets/hf"
    assert [host.identity_file for host in fleet.hosts] == [Path("/home/ops/.ssh/key"), Path("/etc/key")]
    assert [server.api_key for server in fleet.servers] == ["file:/etc/api", f"vault:{tmp_path}/secrets.yml#keys.b"]
    assert [server.api_key for server in fleet.servers_on("a")] == [server.api_key for server in fleet.servers]
    assert fleet.recipes == (tmp_path / "more",)


RECIPE = "meta: {slug: mine}\nmodel: {model_id: org/mine}\nvariants: {default: {precision: bf16}}\n"


def test_recipes_beside_the_file_are_found(tmp_path: Path) -> None:
    """They come before the folders that the file names, and after the built-in ones."""
    for folder, model in (("recipes", "org/mine"), ("more", "org/other")):
        (tmp_path / folder / "org").mkdir(parents=True)
        (tmp_path / folder / "org" / "mine.yaml").write_text(RECIPE.replace("org/mine", model))
    (tmp_path / "recipes" / "org" / "nemotron.yaml").write_text(RECIPE.replace("slug: mine", "slug: nemotron-3-nano"))
    fleet = load(tmp_path, "recipes: [more, recipes]\nhosts: [a]\nservers:\n  x: {recipe: mine}\n")
    assert fleet.recipes == (tmp_path / "recipes", tmp_path / "more")
    assert find_recipe("mine", fleet.recipes).model.model_id == "org/mine"
    assert find_recipe("nemotron-3-nano", fleet.recipes).model.model_id != "org/mine"
    assert load(tmp_path, "hosts: [a]\nservers:\n  x: {recipe: mine}\n").recipes == (tmp_path / "recipes",)


def test_defaults_accept_known_bad_combinations(tmp_path: Path) -> None:
    text = "hosts: [a]\ndefaults: {allow_known_bad: [fit]}\nservers:\n  x: {recipe: nemotron-3-nano, gpus: [0]}\n"
    text += "  y: {recipe: nemotron-3-nano, gpus: [1], port: 8001, allow_known_bad: []}\n"
    fleet = load(tmp_path, text)
    assert [one.allow_known_bad for one in fleet.servers_on("a")] == [("fit",), ()]


def test_a_home_that_is_not_there_is_a_path_like_others(tmp_path: Path) -> None:
    fleet = load(tmp_path, "ssh: {config: ~nobody-at-all/config}\nhosts: [a]\n" + SERVERS)
    assert fleet.ssh.config == tmp_path / "~nobody-at-all/config"


def test_an_anchor_may_be_used_again(tmp_path: Path) -> None:
    fleet = load(tmp_path, "hosts:\n  a: &x {user: one}\n  b: &x {user: two}\n  c: *x\n" + SERVERS)
    assert [host.user for host in fleet.hosts] == ["one", "two", "two"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("vllm/vllm-openai:v0.13.0", {"default": Image(pull="vllm/vllm-openai:v0.13.0")}),
        ("{pull: 'r.example:5000/vllm:1'}", {"default": Image(pull="r.example:5000/vllm:1")}),
        ("{build: {ref: v0.13.0}}", {"default": Image(build=Build(ref="v0.13.0"))}),
        ("{build: }", {"default": Image(build=Build())}),
        (
            "{linux/amd64: a:1, dgx_spark_gb10: {build: {args: {CUDA_VERSION: 13.10, max_jobs: 12, CHECK: false}}}}",
            {
                "linux/amd64": Image(pull="a:1"),
                "dgx_spark_gb10": Image(
                    build=Build(args={"CUDA_VERSION": "13.10", "max_jobs": "12", "CHECK": "false"})
                ),
            },
        ),
    ],
)
def test_image_forms(tmp_path: Path, written: str, read: dict[str, Image]) -> None:
    assert one_server(tmp_path, f"image: {written}").servers[0].image == read


def test_words_are_taken_as_written(tmp_path: Path) -> None:
    server = one_server(tmp_path, "env: {A: 1.10, B: on, C: ''}, extra_args: [--seed, 007, --x, true]").servers[0]
    assert server.env == {"A": "1.10", "B": "on", "C": ""}
    assert server.extra_args == ("--seed", "007", "--x", "true")


def test_two_servers_on_one_host(tmp_path: Path) -> None:
    text = "hosts: [gpu-01]\nservers:\n  a: {recipe: nemotron-3-nano, gpus: [0]}\n"
    fleet = load(tmp_path, text + "  b: {recipe: nemotron-3-nano, gpus: [1, 2], port: 8001}\n")
    assert [server.gpus for server in fleet.servers] == [(0,), (1, 2)]


def test_a_thousand_hosts_are_quick(tmp_path: Path) -> None:
    hosts = "".join(f"  gpu-{n:04}: {{address: 10.0.{n // 250}.{n % 250}, user: ops, port: 22}}\n" for n in range(1000))
    began = time.process_time()
    fleet = load(tmp_path, "hosts:\n" + hosts + SERVERS)
    assert len(fleet.hosts) == 1000
    assert time.process_time() - began < 2


SEED = """\
name: demo
defaults: {max_num_seqs: 8, env: {B: c}}
ssh: {config: ~/.ssh/config}
hub: {token: env:HF_TOKEN}
hosts:
  gpu-[01:03]: &h {user: ops, port: 22}
  spark-01: {<<: *h, hardware: dgx_spark_gb10, servers: {nemotron: {port: 8001, mounts: ['/a:/b:ro']}}}
groups:
  big: {hosts: ['gpu-[01:02]', small], user: ops, servers: {nemotron: {gpus: , env: {A: d}}}}
  small: {hosts: [spark-01]}
servers:
  nemotron:
    recipe: nemotron-3-nano
    variant: fp8
    hosts: ['gpu-[01:02]', small]
    image: {default: {pull: a:1}, linux/arm64: {build: {args: {A: 1}}}}
    gpus: [0, 1]
    extra_args: [--seed, 1]
    env: {A: b}
    benchmark: {num_prompts: 10}
"""
PIECES = (
    *("null", "[]", "{}", "true", "-1", "1e999", "0x", "''", "!t x", "&h", "*h", "<<:", "? ", "\t", "\0", "é", "\x85"),
    *("- ", ": ", "{", "[", "\n", "---\n", "'", '"', "|\n", "2020-01-01", "%YAML 1.1\n", "[1:9]", "\ud7ff", "~"),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SEED)), st.integers(0, 12), st.sampled_from(PIECES)), max_size=4))
def test_mutated_fleets_load_or_are_rejected(tmp_path: Path, edits: list[tuple[int, int, str]]) -> None:
    text = SEED
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    assert outcome(tmp_path, text)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a:1", "env:X", "all"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
SERVER_KEYS = (
    *("recipe", "variant", "hosts", "image", "host", "port", "gpus", "env", "extra_args", "benchmark", "features"),
    *("mounts", "api_key", "tensor_parallel_size", "async_scheduling"),
)

SETTINGS = st.dictionaries(st.sampled_from(SERVER_KEYS), VALUES, max_size=4)
OVERRIDES = VALUES | st.fixed_dictionaries(
    {},
    optional={
        "hosts": VALUES | st.lists(st.sampled_from(["a", "b", "c[1:2]", "g", "h", "all"]), max_size=3),
        "user": VALUES,
        "port": VALUES,
        "servers": VALUES | st.dictionaries(st.sampled_from(["x", "y", "q"]), SETTINGS | VALUES, max_size=2),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "hosts": VALUES
            | st.lists(st.sampled_from(["a", "b", "c[1:2]"]))
            | st.dictionaries(st.sampled_from(["a", "b", "c[1:2]"]), OVERRIDES),
            "groups": VALUES | st.dictionaries(st.sampled_from(["g", "h", "all", "a"]), OVERRIDES, max_size=3),
            "defaults": VALUES | SETTINGS,
            "inventory": VALUES | st.sampled_from([".", "fleet.yaml"]),
            "servers": st.dictionaries(
                st.sampled_from(["x", "y", "z"]),
                SETTINGS | VALUES,
                max_size=3,
            ),
            "ssh": VALUES, "hub": VALUES, "docker": VALUES, "weights": VALUES, "recipes": VALUES, "name": VALUES,
        },
    )
)  # fmt: skip
def test_any_data_loads_or_is_rejected(tmp_path: Path, data: dict[str, object]) -> None:
    assert outcome(tmp_path, json.dumps(data))  # YAML holds JSON
