from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import converged, facts, fleet, plan, recipes, server, spark
from worlds import World, answer, proven

from provisioner.errors import Exit, HostError, UnreachableError, UsageError
from provisioner.fleet.models import Archive, Build, Fleet, Image, Weights
from provisioner.history.events import Event
from provisioner.hosts.fake import ConnectionDies, FakeTransport
from provisioner.plan.facts import Facts, Port
from provisioner.rollout.connections import Connections
from provisioner.rollout.survey import Survey, look_again, probe_request, request_for, survey

DOWN = UnreachableError("down: connection refused")


def looked_at(monkeypatch: pytest.MonkeyPatch, of: Fleet | None = None, **hosts: Facts | Exception) -> Survey:
    world = World(hosts)  # type: ignore[arg-type]  # tests give errors of the right kind
    return world.survey(monkeypatch, of or fleet(hosts=tuple(hosts)))


def test_hosts_are_in_the_fleets_order_whatever_answers_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = looked_at(monkeypatch, c=facts("c"), a=facts("a"), b=facts("b"))
    assert [host.host.name for host in seen.hosts] == ["c", "a", "b"]
    assert all(host.fit and host.work and host.exit_code == Exit.OK for host in seen.hosts)


def test_each_kind_of_unfit_host(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = looked_at(
        monkeypatch,
        down=DOWN,
        mute=HostError("mute: python3 is not installed", hint="install it"),
        weak=facts("weak", sudo=False, systemd=False),
        odd=facts("odd", gpus=("NVIDIA L4",)),
        busy=facts("busy", ports=(Port(port=8000, address="::", process="nginx"),)),
        good=facts("good"),
    )
    assert {host.host.name: (host.exit_code, host.problems) for host in seen.unfit} == {
        "down": (Exit.UNREACHABLE, ("down: connection refused",)),
        "mute": (Exit.HOST_FAILED, ("mute: python3 is not installed\n  hint: install it",)),
        "weak": (
            Exit.HOST_FAILED,
            (
                "no sudo: allow this user to run commands as root without a password (NOPASSWD)",
                "systemd is not running as PID 1; servers are systemd services",
            ),
        ),
        "odd": (
            Exit.HOST_FAILED,
            ('odd: no hardware profile for the GPU "NVIDIA L4"\n  hint: name the nearest one: hosts.odd.hardware',),
        ),
        "busy": (
            Exit.HOST_FAILED,
            ("port 8000 of server nemotron is in use by nginx; free it or choose another port",),
        ),
    }
    assert [host.host.name for host in seen.fit] == ["good"]
    assert [host.host.name for host in seen.work] == ["good"]


def test_a_variant_that_the_recipe_lacks_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    (host,) = looked_at(monkeypatch, fleet(server(variant="int4"), hosts=("a",)), a=facts("a")).hosts
    assert host.exit_code == Exit.BAD_INPUT
    assert host.problems == (
        'recipe nemotron-3-nano-30b-a3b has no variant "int4"\n  hint: known: default, fp8, nvfp4',
    )


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"image": {"default": Image(build=Build(ref="v0.12.0"))}},
            "server nemotron: the image's build lacks git, dockerfile, target\n"
            "  hint: say it in image.build: neither it nor the recipe has a value here",
        ),
        (
            {"allow_known_bad": ("fti",)},
            'allow_known_bad: there is no entry "fti"\n  hint: did you mean "fit"?',
        ),
    ],
)
def test_what_only_the_hosts_hardware_can_tell_is_bad_input_too(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], problem: str
) -> None:
    (host,) = looked_at(monkeypatch, fleet(server(**settings), hosts=("a",)), a=facts("a")).hosts
    assert (host.exit_code, host.problems) == (Exit.BAD_INPUT, (problem,))


def test_events_for_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"a": facts("a"), "down": DOWN})
    world.survey(monkeypatch, fleet(hosts=("a", "down")))
    assert [(one.host, one.phase, one.status, one.task, one.detail) for one in world.events] == [
        ("a", "probe", "running", "looking at the host", ""),
        ("down", "probe", "running", "looking at the host", ""),
        ("down", "failed", "failed", "probe", "down: connection refused"),
        ("a", "plan", "ok", "1 × NVIDIA H200", ""),
    ]


class TestWork:
    def host(self, monkeypatch: pytest.MonkeyPatch, seen: Facts) -> tuple[bool, bool, tuple[str, ...]]:
        (host,) = looked_at(monkeypatch, fleet(), **{"gpu-01": seen}).hosts
        return host.work, bool(host.changes), tuple(host.unproven)

    def test_a_proven_host_as_planned_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.host(monkeypatch, proven(converged(plan()), plan())) == (False, False, ())

    def test_a_host_as_planned_is_validated_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.host(monkeypatch, converged(plan())) == (True, False, ("nemotron",))

    def test_a_proof_of_something_else_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        other = plan(fleet(server(max_num_seqs=4)))
        assert self.host(monkeypatch, proven(converged(plan()), other)) == (True, False, ("nemotron",))

    def test_a_proven_server_that_does_not_answer_is_validated_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = proven(converged(plan()), plan()).model_copy(update={"health": {8000: 0}})
        assert self.host(monkeypatch, seen) == (True, False, ("nemotron",))

    def test_look_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        (host,) = looked_at(monkeypatch, fleet(), **{"gpu-01": facts()}).hosts
        assert host.changes
        again = look_again(host, proven(converged(plan()), plan()), {})
        assert not again.changes
        assert not again.work


def test_the_probe_is_asked_for_all_that_a_plan_could_manage() -> None:
    the_fleet = fleet(server(api_key="env:K", port=9000, host="0.0.0.0"), hosts=("spark-01",))
    request = probe_request(the_fleet, the_fleet.hosts[0], ["parser.py"])
    assert request.files == (
        "/etc/docker/daemon.json",
        "/var/lib/vllm/images.json",
        "/var/lib/vllm/release",
        "/run/provision/lease.json",
        "/etc/systemd/system/vllm-nemotron.service",
        "/var/lib/vllm/proofs/nemotron.json",
        "/etc/vllm/nemotron.env",
        "/var/lib/vllm/plugins/parser.py",
    )
    assert request.public_files == request.files[:6]
    assert request.units == ("vllm-nemotron.service",)
    assert request.ports == (9000,)
    assert request.health == ((9000, "127.0.0.1"),)
    assert request.disk_paths == ("/var/lib/docker", "/var/lib/vllm/huggingface")
    assert (request.paths, request.cached) == ((), ())


def test_the_probe_is_asked_for_what_somebody_else_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = (
        Image(archive=Archive(path=Path(path), image="a:1", at=at))  # type: ignore[arg-type]
        for path, at in (("/mnt/a.tar", "host"), ("/home/b.tar", "control"))
    )
    the_fleet = fleet(server(image={"h200": there, "default": here}), weights=Weights(download=False))
    world = World({"gpu-01": facts()})
    (host,) = world.survey(monkeypatch, the_fleet).hosts
    request = world.requests["gpu-01"]
    assert request.paths == ("/mnt/a.tar",)
    assert request.cached == (
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8",
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
    )
    assert host.problems == (
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 is not whole in /var/lib/vllm/huggingface (it is not there), and "
        "weights.download is false; mount it, or fill it: HF_HOME=/var/lib/vllm/huggingface hf download "
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8",
    )


def test_every_file_of_a_plan_is_probed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a host would never be as planned."""
    the_fleet = fleet(server(api_key="command:echo k"), hosts=("spark-01",))
    world = World({"spark-01": spark()})
    (host,) = world.survey(monkeypatch, the_fleet).hosts
    assert host.plan is not None
    (one,) = host.plan.servers
    assert one.secret_file is not None
    plugins = {f"{host.plan.plugin_dir}/{plugin.file}" for plugin in host.plan.plugins}
    assert plugins
    assert {one.unit_file.path, one.secret_file.path, *plugins} <= set(world.requests["spark-01"].files)
    assert one.secret_file.path not in world.requests["spark-01"].public_files


def test_secrets_are_resolved_for_fit_plans_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    the_fleet = fleet(server(api_key="env:KEY_THAT_IS_NOT_SET"), hosts=("a",))
    assert looked_at(monkeypatch, the_fleet, a=DOWN).secrets == {}
    with pytest.raises(UsageError, match=r"^the secret env:KEY_THAT_IS_NOT_SET is not set"):
        looked_at(monkeypatch, the_fleet, a=facts("a"))
    monkeypatch.setenv("KEY_THAT_IS_NOT_SET", "k")
    assert looked_at(monkeypatch, the_fleet, a=facts("a")).secrets == {"env:KEY_THAT_IS_NOT_SET": "k"}


def test_over_ssh_to_recorded_hosts() -> None:
    transports = {
        "gpu-01": FakeTransport("gpu-01", [("python3", answer("gpu/h200/probe.json", system={"systemd": True}))]),
        "gpu-02": FakeTransport("gpu-02", [("python3", answer("gpu/h200/probe.json"))]),
        "spark-01": FakeTransport("spark-01", [("python3", answer("probe/arm64-fresh.json"))]),
        "gone": FakeTransport("gone", [("python3", ConnectionDies())]),
    }
    events: list[Event] = []
    with Connections(lambda host: transports[host.name]) as connections:
        seen = survey(fleet(hosts=tuple(transports)), recipes(), connections, on_event=events.append)
        assert all(len(one.ran) == 1 for one in transports.values())
    assert all(one.closed for one in transports.values())
    found = {host.host.name: host for host in seen.hosts}
    assert found["gpu-01"].plan is not None
    assert found["gpu-01"].plan.hardware_name == "1 × NVIDIA H200"
    assert found["gpu-02"].problems == ("systemd is not running as PID 1; servers are systemd services",)
    assert found["gone"].exit_code == Exit.UNREACHABLE
    assert found["spark-01"].facts is not None
    assert found["spark-01"].facts.platform == "linux/arm64"
    json.dumps([event.model_dump(mode="json") for event in events])


def test_for_a_plan_of_before_the_probe_looks_where_that_plan_has_its_weights() -> None:
    the_fleet = fleet(weights=Weights(cache_dir="/srv/new"))
    old = plan().model_copy(update={"cache_dir": "/srv/old"})
    request = request_for(the_fleet, the_fleet.hosts[0], old)
    assert request.cache_dir == "/srv/old"
    assert request.disk_paths == ("/var/lib/docker", "/srv/old")
