from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import IMAGE_ID, converged, facts, file, fleet, lock, plan, server, spark, unit

from provisioner.fleet.models import Archive, Image, LogRotation, Weights
from provisioner.fleet.models import Docker as DockerSettings
from provisioner.plan.diff import changes, server_fingerprint
from provisioner.plan.facts import Docker, Facts, ImageFacts
from provisioner.plan.model import HostPlan

KEY = {"env:API_KEY": "s3cret-key"}
WITH_KEY = fleet(server(api_key="env:API_KEY"))
UNIT = "vllm-nemotron.service"
FP8 = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
SECRET_PATH = "/etc/vllm/nemotron.env"


def told(of: HostPlan, seen: Facts, secrets: dict[str, str] | None = None) -> list[tuple[str, str, str]]:
    return [(one.role, one.subject, one.reason) for one in changes(of, seen, secrets or {}).changes]


@pytest.mark.parametrize("the_plan", [plan(), plan(WITH_KEY), plan(fleet(hosts=("spark-01",)), spark())])
def test_a_converged_host_has_no_changes(the_plan: HostPlan) -> None:
    seen = converged(the_plan, facts(the_plan.host), KEY)
    assert told(the_plan, seen, KEY) == []
    assert not changes(the_plan, seen, KEY)


def test_a_fresh_host_needs_everything_in_order() -> None:
    the_plan = plan(WITH_KEY)
    found = changes(the_plan, facts(), KEY)
    assert [(one.role, one.subject, one.reason) for one in found.changes] == [
        ("docker_engine", "docker", "Docker is not installed"),
        ("nvidia_container_toolkit", "nvidia-container-toolkit", "Docker cannot pass GPUs to containers"),
        ("vllm_image", "vllm/vllm-openai:v0.12.0", "not there; will be pulled"),
        ("model_weights", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "not downloaded"),
        ("vllm_server", UNIT_PATH, "not there"),
        ("vllm_server", SECRET_PATH, "not there (secret)"),
        ("vllm_server", UNIT, "no such unit"),
        ("vllm_server", UNIT, "its container is not running"),
    ]
    assert found.roles == ("docker_engine", "nvidia_container_toolkit", "vllm_image", "model_weights", "vllm_server")
    assert found.changes[4].before == ""
    assert found.changes[4].after == the_plan.servers[0].unit_file.content


def test_a_fresh_spark_builds_and_fetches_the_parser() -> None:
    found = told(plan(fleet(hosts=("spark-01",)), spark()), spark())
    assert found[2][1].startswith("vllm/vllm-openai:build-")
    assert found[2][2] == "not there; will be built from https://github.com/vllm-project/vllm.git v0.12.0"
    assert ("model_weights", "nano_v3_reasoning_parser.py", "parser plugin not downloaded") in found


class TestLocked:
    """A locked image is known by its digest, a model by its commit, a plugin by its hash."""

    def test_as_locked(self) -> None:
        for the_plan in (plan(lock=lock()), plan(fleet(hosts=("spark-01",)), spark(), lock())):
            assert told(the_plan, converged(the_plan, facts(the_plan.host))) == []

    def test_what_came_by_tag_or_branch_is_enough_when_it_is_the_same(self) -> None:
        seen = converged(plan(lock=lock()))
        image = seen.images[0].model_copy(update={"tags": (*seen.images[0].tags, "vllm/vllm-openai:v0.12.0")})
        assert told(plan(lock=lock()), seen.model_copy(update={"images": (image,)})) == []

    def test_another_image_under_the_tag(self) -> None:
        seen = converged(plan())
        assert told(plan(lock=lock()), seen)[:2] == [
            ("vllm_image", f"vllm/vllm-openai:v0.12.0@sha256:{'a' * 64}", "not there; will be pulled"),
            ("model_weights", FP8, "is at c0ffee, locked to aaaaaaaaaaaa"),
        ]

    def test_a_moved_lock_is_another_unit(self) -> None:
        found = told(plan(lock=lock("b")), converged(plan(lock=lock("a"))))
        assert [(role, reason) for role, _, reason in found] == [
            ("vllm_image", "not there; will be pulled"),
            ("model_weights", "is at aaaaaaaaaaaa, locked to bbbbbbbbbbbb"),
            ("vllm_server", "differs"),
            ("vllm_server", "its container runs other arguments"),
        ]

    def test_a_plugin_that_moved_alone_is_another_unit(self) -> None:
        the_fleet, old, new = fleet(hosts=("spark-01",)), lock("a"), lock("b")
        moved = old.model_copy(update={"plugins": new.plugins})
        found = told(plan(the_fleet, spark(), moved), converged(plan(the_fleet, spark(), old), spark()))
        assert [(role, reason) for role, _, reason in found] == [
            ("model_weights", "parser plugin is not the locked one"),
            ("vllm_server", "differs"),
        ]

    def test_a_lock_that_went_is_another_unit_too(self) -> None:
        found = told(plan(), converged(plan(lock=lock())))
        assert ("vllm_image", "vllm/vllm-openai:v0.12.0", "not there; will be pulled") in found
        assert ("vllm_server", UNIT_PATH, "differs") in found


def edited(seen: Facts, path: str, **update: Any) -> Facts:
    files = tuple(one.model_copy(update=update) if one.path == path else one for one in seen.files)
    return seen.model_copy(update={"files": files})


def without(seen: Facts, path: str) -> Facts:
    return seen.model_copy(update={"files": tuple(one for one in seen.files if one.path != path)})


def container(seen: Facts, **update: Any) -> Facts:
    return seen.model_copy(update={"containers": tuple(one.model_copy(update=update) for one in seen.containers)})


def units(seen: Facts, **state: Any) -> Facts:
    return seen.model_copy(update={"units": (unit(UNIT, **state),)})


def images(seen: Facts, **update: Any) -> Facts:
    return seen.model_copy(update={"images": tuple(one.model_copy(update=update) for one in seen.images)})


IMAGE = "vllm/vllm-openai:v0.12.0"
DRIFT: dict[str, tuple[Callable[[Facts], Facts], list[tuple[str, str, str]]]] = {
    "a unit edited by hand": (
        lambda seen: edited(seen, UNIT_PATH, sha256="0" * 64, content="by hand"),
        [("vllm_server", UNIT_PATH, "differs")],
    ),
    "a removed unit": (
        lambda seen: units(without(seen, UNIT_PATH), load_state="not-found", active_state="inactive"),
        [("vllm_server", UNIT_PATH, "not there"), ("vllm_server", UNIT, "no such unit")],
    ),
    "a unit that failed": (
        lambda seen: units(seen, active_state="failed"),
        [("vllm_server", UNIT, "is failed")],
    ),
    "a unit that is not enabled": (
        lambda seen: units(seen, enabled=False),
        [("vllm_server", UNIT, "is not enabled: it would not start at boot")],
    ),
    "a unit that systemd has not read since it changed": (
        lambda seen: units(seen, needs_reload=True),
        [("vllm_server", UNIT, "its file changed since systemd read it: it would be started as it was")],
    ),
    "a stopped container": (
        lambda seen: container(seen, running=False),
        [("vllm_server", UNIT, "its container is not running")],
    ),
    "a removed container": (
        lambda seen: seen.model_copy(update={"containers": ()}),
        [("vllm_server", UNIT, "its container is not running")],
    ),
    "other arguments": (
        lambda seen: container(seen, argv=("serve", "other/model")),
        [("vllm_server", UNIT, "its container runs other arguments")],
    ),
    "another image": (
        lambda seen: container(seen, image_id="sha256:" + "2" * 64),
        [("vllm_server", UNIT, f"its container runs another image than {IMAGE} is now")],
    ),
    "a removed image": (
        lambda seen: seen.model_copy(update={"images": ()}),
        [("vllm_image", IMAGE, "not there; will be pulled")],
    ),
    "the deploy tag elsewhere": (
        lambda seen: images(seen, tags=(IMAGE,)),
        [("vllm_image", "vllm/vllm-openai:deploy", f"will be {IMAGE}")],
    ),
    "removed weights": (
        lambda seen: seen.model_copy(update={"weights": {}}),
        [("model_weights", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "not downloaded")],
    ),
    "a rotated key": (
        lambda seen: edited(seen, SECRET_PATH, sha256="0" * 64),
        [("vllm_server", SECRET_PATH, "differs (secret, not shown)")],
    ),
    "a key that everybody can read": (
        lambda seen: edited(seen, SECRET_PATH, mode="0644"),
        [("vllm_server", SECRET_PATH, "mode 0644, not 0600")],
    ),
    "a removed key": (
        lambda seen: without(seen, SECRET_PATH),
        [("vllm_server", SECRET_PATH, "not there (secret)")],
    ),
    "no GPUs in containers": (
        lambda seen: seen.model_copy(update={"gpu_runtime": False}),
        [("nvidia_container_toolkit", "nvidia-container-toolkit", "Docker cannot pass GPUs to containers")],
    ),
    "a Docker that does not answer": (
        lambda seen: seen.model_copy(update={"docker": Docker(version=None, client_version="28.5.1")}),
        [("docker_engine", "docker", "Docker does not answer")],
    ),
}


@pytest.mark.parametrize(("drift", "expected"), DRIFT.values(), ids=DRIFT)
def test_drift_is_seen(drift: Callable[[Facts], Facts], expected: list[tuple[str, str, str]]) -> None:
    the_plan = plan(WITH_KEY)
    assert told(the_plan, drift(converged(the_plan, secrets=KEY)), KEY) == expected


def test_an_edited_unit_is_shown_before_and_after() -> None:
    the_plan = plan()
    (change,) = changes(the_plan, edited(converged(the_plan), UNIT_PATH, sha256="0", content="by hand"), {}).changes
    assert (change.before, change.after) == ("by hand", the_plan.servers[0].unit_file.content)


def test_other_arguments_and_images_are_shown_before_and_after() -> None:
    the_plan = plan()
    argv = ("serve", *the_plan.servers[0].argv)
    (change,) = changes(the_plan, container(converged(the_plan), argv=(*argv, "--by-hand")), {}).changes
    assert (change.before, change.after) == ("\n".join((*argv, "--by-hand")), "\n".join(argv))
    other = "sha256:" + "2" * 64
    (change,) = changes(the_plan, container(converged(the_plan), image_id=other), {}).changes
    assert (change.before, change.after) == (other, IMAGE_ID)


def test_secrets_are_never_in_a_change() -> None:
    the_plan = plan(WITH_KEY)
    seen = edited(converged(the_plan, secrets={"env:API_KEY": "old-s3cret"}), UNIT_PATH, sha256="0")
    assert "s3cret" not in changes(the_plan, seen, KEY).model_dump_json()


def test_an_image_that_is_known_by_its_digest() -> None:
    reference = "vllm/vllm-openai@sha256:" + "d" * 64
    the_plan = plan(fleet(server(image={"default": Image(pull=reference)})))
    seen = images(converged(the_plan), tags=("vllm/vllm-openai:deploy",), digests=(reference,))
    assert told(the_plan, seen) == []


class TestDocker:
    def test_gpus_as_devices(self) -> None:
        the_plan = plan(fleet(docker=DockerSettings(gpus="cdi")))
        seen = converged(the_plan)
        reason = "Docker cannot pass GPUs to containers as devices"
        assert told(the_plan, seen) == [("nvidia_container_toolkit", "nvidia-container-toolkit", reason)]
        assert told(the_plan, seen.model_copy(update={"gpu_devices": True})) == []

    def test_another_version_than_asked_for(self) -> None:
        the_plan = plan(fleet(docker=DockerSettings(version="28.3.3")))
        seen = converged(the_plan)
        assert told(the_plan, seen) == [("docker_engine", "docker", "is 28.5.1, not 28.3.3")]
        debian = seen.model_copy(update={"docker": seen.docker.model_copy(update={"version": "28.3.3+dfsg1"})})
        assert told(the_plan, debian) == []

    def test_certificates_of_registries(self) -> None:
        path = "/etc/docker/certs.d/r:5000/ca.crt"
        the_plan = plan(fleet(certificates={"r:5000": "PEM\n"}))
        seen = converged(the_plan)
        assert told(the_plan, seen) == [("docker_engine", path, "not there")]
        for content, expected in (("PEM\n", []), ("OLD\n", [("docker_engine", path, "differs")])):
            there = seen.model_copy(update={"files": (*seen.files, file(path, content))})
            assert told(the_plan, there) == expected


@pytest.mark.parametrize(("opened", "closed"), [(None, False), ((22, 8000), False), ((22,), True), ((), True)])
def test_a_port_that_a_firewall_keeps_closed(opened: tuple[int, ...] | None, closed: bool) -> None:
    the_plan = plan(fleet(server(open_firewall=True)))
    seen = converged(the_plan).model_copy(update={"firewall": opened})
    assert told(the_plan, seen) == [("vllm_server", "firewall", "port 8000 is not opened")] * closed
    assert told(plan(), converged(plan()).model_copy(update={"firewall": opened})) == []


@pytest.mark.parametrize(("wanted", "ports"), [(True, (9000,)), (False, (8000, 9000))])
def test_a_port_that_was_opened_for_a_server_that_does_not_want_it_any_more(
    wanted: bool, ports: tuple[int, ...]
) -> None:
    the_plan = plan(fleet(server(open_firewall=wanted)))
    opened = {"firewall": (22, 8000, 9000), "opened_for_us": (8000, 9000)}
    assert told(the_plan, converged(the_plan).model_copy(update=opened)) == [
        ("vllm_server", "firewall", f"port {port} was opened for a server: will be closed again") for port in ports
    ]


class TestDaemonJson:
    SETTINGS = DockerSettings(registry_mirrors=("http://mirror",), insecure_registries=("mirror:5000",))
    PATH = "/etc/docker/daemon.json"

    def told(self, content: str | None) -> list[tuple[str, str, str]]:
        the_plan = plan(fleet(docker=self.SETTINGS))
        seen = converged(the_plan)
        files = (*seen.files, file(self.PATH, content)) if content is not None else seen.files
        return told(the_plan, seen.model_copy(update={"files": files}))

    def test_as_planned_with_other_keys_and_values(self) -> None:
        config = {"registry-mirrors": ["http://x", "http://mirror"], "insecure-registries": ["mirror:5000"], "a": 1}
        assert self.told(json.dumps(config)) == []

    @pytest.mark.parametrize(
        ("content", "missing"),
        [
            (None, "registry-mirrors, insecure-registries"),
            ("", "registry-mirrors, insecure-registries"),
            ("[]", "registry-mirrors, insecure-registries"),
            ("{broken", "registry-mirrors, insecure-registries"),
            ('{"registry-mirrors": ["http://mirror"]}', "insecure-registries"),
            ('{"registry-mirrors": "http://mirror", "insecure-registries": ["mirror:5000"]}', "registry-mirrors"),
            ('{"registry-mirrors": ["http://x"], "insecure-registries": ["mirror:5000"]}', "registry-mirrors"),
        ],
    )
    def test_keys_missing(self, content: str | None, missing: str) -> None:
        assert self.told(content) == [("docker_engine", self.PATH, f"{missing} not as planned")]

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ('{"log-opts": {"max-size": "10m", "max-file": "3", "tag": "x"}}', []),
            ('{"log-opts": {"max-size": "10m"}}', ["log-opts not as planned"]),
        ],
    )
    def test_mappings_are_compared_key_by_key(self, content: str, expected: list[str]) -> None:
        the_plan = plan(fleet(docker=DockerSettings(logs=LogRotation(max_size="10m", max_files=3))))
        seen = converged(the_plan)
        files = (*seen.files, file(self.PATH, content))
        found = told(the_plan, seen.model_copy(update={"files": files}))
        assert found == [("docker_engine", self.PATH, reason) for reason in expected]

    def test_the_file_is_shown_before_and_after(self) -> None:
        the_plan = plan(fleet(docker=DockerSettings(registry_mirrors=("http://mirror",))))
        seen = converged(the_plan)
        for content, after in (
            ('{"a": 1}', '{\n  "a": 1,\n  "registry-mirrors": [\n    "http://mirror"\n  ]\n}\n'),
            ("{broken", None),
        ):
            files = (*seen.files, file(self.PATH, content))
            (change,) = changes(the_plan, seen.model_copy(update={"files": files}), {}).changes
            assert (change.before, change.after) == (content if after else None, after)

    def test_no_file_is_as_planned_when_nothing_is_wanted(self) -> None:
        assert told(plan(), converged(plan())) == []


def test_buildx_is_needed_for_a_build_alone() -> None:
    the_plan = plan(fleet(hosts=("spark-01",)), spark())
    docker = Docker(version="28.5.1", buildx=False)
    seen = converged(the_plan, spark()).model_copy(update={"docker": docker})
    assert told(the_plan, seen) == [("docker_engine", "buildx", "image builds need it")]
    assert told(plan(), converged(plan()).model_copy(update={"docker": docker})) == []


def fingerprint(the_plan: HostPlan) -> str:
    return server_fingerprint(the_plan, the_plan.servers[0])


def test_a_validation_is_valid_for_what_could_change_an_answer() -> None:
    first = fingerprint(plan())
    assert fingerprint(plan()) == first
    assert fingerprint(plan(fleet(server(health_timeout_s=5)))) == first
    others = [
        plan(fleet(server(max_num_seqs=4))),
        plan(fleet(server(env={"A": "1"}))),
        plan(fleet(server(port=8001))),
        plan(fleet(server(variant="default"))),
        plan(seen=facts(gpus=("NVIDIA H100 80GB HBM3",))),
    ]
    assert len({first, *map(fingerprint, others)}) == 1 + len(others)


def test_an_image_from_an_archive() -> None:
    archive = Archive(path=Path("/srv/vllm.tar"), image="vllm/vllm-openai:v0.12.0")
    found = told(plan(fleet(server(image={"default": Image(archive=archive)}))), facts())
    assert found[2] == ("vllm_image", "vllm/vllm-openai:v0.12.0", "not there; will be loaded from /srv/vllm.tar")


def test_weights_of_somebody_else_are_no_change() -> None:
    the_plan = plan(fleet(weights=Weights(download=False)))
    assert "model_weights" not in changes(the_plan, facts(), {}).roles


class TestOldImages:
    """What runs have brought goes when an image comes, as the role's own code says; nothing else does."""

    RECORD = json.dumps({"images": {"old:1": {"id": "1"}, "last:1": {"id": "2"}}, "sets": [["last:1"], ["old:1"]]})

    def told(self, *images: ImageFacts, keep: int = 1, record: str = RECORD, comes: bool = True) -> list[str]:
        """The images that will be removed, with the reason."""
        the_plan = plan(fleet(docker=DockerSettings(keep_images=keep)))
        seen = converged(the_plan)
        files = (*seen.files, file("/var/lib/vllm/images.json", record))
        there = images if comes else (*seen.images, *images)
        found = told(the_plan, seen.model_copy(update={"files": files, "images": there}))
        assert bool(found) == comes
        return [f"{subject}: {reason}" for _, subject, reason in found if "removed" in reason]

    def test_older_than_what_is_kept(self) -> None:
        assert self.told(ImageFacts(id="1", tags=("old:1",)), ImageFacts(id="2", tags=("last:1",))) == [
            "old:1: will be removed: an earlier run brought it, and docker.keep_images is 1"
        ]

    def test_nothing_goes_for_its_own_sake(self) -> None:
        assert self.told(ImageFacts(id="1", tags=("old:1",)), comes=False) == []

    def test_kept(self) -> None:
        assert self.told(ImageFacts(id="1", tags=("old:1",)), keep=2) == []

    def test_gone_or_another_image_by_now(self) -> None:
        assert self.told() == []
        assert self.told(ImageFacts(id="3", tags=("old:1",))) == []

    def test_nothing_goes_when_the_same_image_comes_again(self) -> None:
        record = json.loads(self.RECORD)
        record["sets"].insert(0, ["vllm/vllm-openai:v0.12.0"])
        images = [ImageFacts(id="1", tags=("old:1",)), ImageFacts(id="2", tags=("last:1",))]
        assert self.told(*images, keep=0, record=json.dumps(record)) == []

    def test_a_record_that_cannot_be_read(self) -> None:
        assert self.told(ImageFacts(id="1", tags=("old:1",)), record="{") == []
