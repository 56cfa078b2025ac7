"""Who gives what to whom: whatever the fleet, everything comes to it once, and nobody is left without a way."""

from __future__ import annotations

from builders import facts, fleet, plan, spark
from hypothesis import given as cases
from hypothesis import strategies as st

from provisioner.fleet.models import Distribution
from provisioner.plan.facts import Docker, Facts, ImageFacts
from provisioner.plan.model import Change, Changes, HostPlan
from provisioner.plan.peers import FANOUT, Given, chains, from_peers, given, peer_variables

IMAGE = "vllm/vllm-openai:v0.12.0"
FP8 = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
BF16 = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
NAMES = tuple(f"gpu-{number:02}" for number in range(1, 7))
FLEET = fleet(hosts=(*NAMES, "spark-01", "spark-02", "spark-03"), distribution=Distribution(mode="peers"))


def host(name: str, *, image: bool = False, model: str = "") -> tuple[HostPlan, Facts]:
    seen: dict[str, object] = {"docker": Docker(version="28.3.3")}
    if image:
        seen["images"] = (ImageFacts(id="sha256:1", tags=(IMAGE,)),)
    if model:
        seen["weights"] = {model: "a" * 40}
    known = spark(name, **seen) if name.startswith("spark") else facts(name, **seen)
    return plan(FLEET, known), known


@cases(st.integers(0, 12), st.integers(0, 40))
def test_everybody_gets_it_and_it_comes_once(having: int, lacking: int) -> None:
    have = [f"have-{number}" for number in range(having)]
    lack = [f"lack-{number}" for number in range(lacking)]
    found = chains(have, lack)
    from_upstream = [name for name in lack if name not in found]
    assert len(from_upstream) == (1 if lack and not have else 0)
    there = {*have, *from_upstream}
    for name in lack:  # in the order of their turns: whoever gives has it, or gets it before
        if name in found:
            assert found[name][0] in there
        there.add(name)
    assert there == {*have, *lack}


@cases(st.integers(0, 12), st.integers(0, 40))
def test_no_host_gives_to_more_than_the_fanout_nor_gets_it_back(having: int, lacking: int) -> None:
    found = chains([f"have-{number}" for number in range(having)], [f"lack-{number}" for number in range(lacking)])
    givers = [chain[0] for chain in found.values()]
    assert all(givers.count(name) <= FANOUT for name in givers)
    for name, chain in found.items():
        assert name not in chain
        assert len(set(chain)) == len(chain)


@cases(st.integers(0, 6), st.integers(1, 30), st.sets(st.integers(0, 35)))
def test_whatever_hosts_are_lost_every_other_one_gets_it(having: int, lacking: int, lost: set[int]) -> None:
    have = [f"have-{number}" for number in range(having)]
    lack = [f"lack-{number}" for number in range(lacking)]
    dead = {name for position, name in enumerate([*have, *lack]) if position in lost}
    found = chains(have, lack)
    there, upstream = set(have) - dead, []
    for name in (one for one in lack if one not in dead):
        if not any(giver in there for giver in found.get(name, ())):
            upstream.append(name)
        there.add(name)
    assert there == {*have, *lack} - dead
    # it comes more than once only for hosts that have nobody left to ask
    assert all(set(found.get(name, ())) <= dead for name in upstream)


def test_images_go_among_hosts_of_a_platform_and_models_among_all() -> None:
    hosts = [host("gpu-01"), host("gpu-02"), host("spark-01"), host("spark-02"), host("spark-03")]
    found = given(hosts)
    (built,) = hosts[2][0].images
    assert "gpu-01" not in found
    assert found["gpu-02"] == Given(images={IMAGE: ("gpu-01",)}, weights={FP8: ("gpu-01",)})
    assert "spark-01" not in found
    assert found["spark-02"] == Given(images={built.reference: ("spark-01",)}, weights={BF16: ("spark-01",)})
    assert found["spark-03"].images == {built.reference: ("spark-01",)}
    assert built.build is not None


def test_who_has_it_gives_it_wherever_it_stands_in_the_file() -> None:
    found = given([host("gpu-01"), host("gpu-02", model=FP8), host("gpu-03", image=True)])
    assert found["gpu-01"] == Given(images={IMAGE: ("gpu-03",)}, weights={FP8: ("gpu-02",)})
    assert found["gpu-02"] == Given(images={IMAGE: ("gpu-03",)})
    assert found["gpu-03"] == Given(weights={FP8: ("gpu-02",)})
    assert found["gpu-03"].givers == ("gpu-02",)


def test_two_are_given_to_at_once_and_the_next_get_it_from_them() -> None:
    found = given([host(name) for name in NAMES])
    assert [found[name].images[IMAGE] for name in NAMES[1:]] == [
        ("gpu-01",),
        ("gpu-01",),
        ("gpu-02", "gpu-01"),
        ("gpu-02", "gpu-01"),
        ("gpu-03", "gpu-01"),
    ]


def test_variables_name_those_that_can_be_asked() -> None:
    known, _ = host("gpu-04")
    part = Given(images={IMAGE: ("gpu-02", "gpu-01")}, weights={FP8: ("gpu-02", "gpu-01")})
    asked = [{"host": "gpu-01", "address": "192.0.2.1:7717"}]
    made = peer_variables(known, part, {"gpu-01": "192.0.2.1:7717"})
    assert made["vllm_image_list"][0]["reference"] == IMAGE
    assert made["vllm_image_list"][0]["peers"] == asked
    assert made["model_weights_peers"] == {FP8: asked}


def test_the_plan_says_from_whom() -> None:
    changes = Changes(
        host="gpu-04",
        changes=(
            Change(role="vllm_image", subject=IMAGE, reason="not there; will be pulled"),
            Change(role="model_weights", subject=FP8, reason="not downloaded"),
            Change(role="vllm_server", subject="vllm-nemotron.service", reason="no such unit"),
        ),
    )
    told = from_peers(changes, Given(images={IMAGE: ("gpu-02", "gpu-01")}, weights={FP8: ("gpu-01",)}))
    assert [one.reason for one in told.changes] == [
        "not there; will come from gpu-02",
        "not there; will come from gpu-01",
        "no such unit",
    ]
