"""The pure parts of vllm_image: names, the record of what is ours, what a failed pull means, what an archive is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load import module

ours = module("vllm_image", "filter_plugins/vllm_image.py")
DIGEST = "sha256:" + "1" * 64
PRIVATE = "registry.example.com:5000"


@pytest.mark.parametrize(
    ("reference", "registry", "known_as"),
    [
        ("vllm/vllm-openai:v0.12.0", "docker.io", "vllm/vllm-openai:v0.12.0"),
        ("vllm/vllm-openai", "docker.io", "vllm/vllm-openai:latest"),
        ("docker.io/vllm/vllm-openai:v1", "docker.io", "vllm/vllm-openai:v1"),
        ("docker.io/library/debian:13", "docker.io", "debian:13"),
        ("library/debian", "docker.io", "debian:latest"),
        ("debian", "docker.io", "debian:latest"),
        (f"{PRIVATE}/vllm:v1", PRIVATE, f"{PRIVATE}/vllm:v1"),
        (f"{PRIVATE}/vllm", PRIVATE, f"{PRIVATE}/vllm:latest"),
        ("localhost/vllm", "localhost", "localhost/vllm:latest"),
        (f"vllm/vllm-openai:v1@{DIGEST}", "docker.io", f"vllm/vllm-openai@{DIGEST}"),
        (f"{PRIVATE}/a/b@{DIGEST}", PRIVATE, f"{PRIVATE}/a/b@{DIGEST}"),
        (f"docker.io/vllm/x:v1@{DIGEST}", "docker.io", f"vllm/x@{DIGEST}"),
    ],
)
def test_names(reference: str, registry: str, known_as: str) -> None:
    assert ours.registry(reference) == registry
    assert ours.known_as(reference) == known_as
    assert ours.known_as(known_as) == known_as


def seen(name: str, identity: str = "1") -> dict[str, Any]:
    return {"Id": identity, "RepoTags": [name], "RepoDigests": None, "Architecture": "amd64"}


def item(reference: str, *images: dict[str, Any], platform: str = "linux/amd64") -> dict[str, Any]:
    return {"vllm_image": {"reference": reference, "platform": platform}, "images": list(images)}


def test_missing_is_what_is_not_there_or_for_another_platform() -> None:
    results = [
        item("a:1", seen("a:1")),
        item("b:1"),
        item("c:1", seen("c:1"), platform="linux/arm64"),
        {"vllm_image": {"reference": "d:1", "platform": "linux/amd64"}, "msg": "no Docker"},
    ]
    assert [one["reference"] for one in ours.missing(results)] == ["b:1", "c:1", "d:1"]
    assert ours.ids(results) == [{"name": "a:1", "id": "1"}, {"name": "c:1", "id": "1"}]


def came(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "id": f"id of {name}"} for name in names]


def after(*sets: tuple[str, ...], keep: int = 1) -> tuple[dict[str, Any], list[str]]:
    """The record after a host was given these sets, one after the other, and what was removed for the last."""
    known, gone = ours.record(""), []
    for names in sets:
        gone = ours.outdated(known, names, keep)
        fresh = [one for one in came(*map(ours.known_as, names)) if one["name"] not in known["images"]]
        known = ours.without(ours.given(known, names, fresh), gone, keep)
    return known, gone


def test_the_previous_image_stays_and_the_one_before_goes() -> None:
    assert after(("a:1",)) == ({"images": {"a:1": {"id": "id of a:1"}}, "sets": [["a:1"]]}, [])
    assert after(("a:1",), ("a:2",))[1] == []
    known, gone = after(("a:1",), ("a:2",), ("a:3",))
    assert gone == ["a:1"]
    assert list(known["images"]) == ["a:2", "a:3"]
    assert known["sets"] == [["a:3"], ["a:2"]]


def test_going_back_keeps_what_was_left() -> None:
    known, gone = after(("a:1",), ("a:2",), ("a:1",))
    assert gone == []
    assert known["sets"] == [["a:1"], ["a:2"]]


def test_sets_stay_whole() -> None:
    """A host with two servers goes back to both of their images."""
    _, gone = after(("a:1", "b:1"), ("a:2", "b:2"))
    assert gone == []
    _, gone = after(("a:1", "b:1"), ("a:2", "b:1"), ("a:3", "b:2"))
    assert gone == ["a:1"]


@pytest.mark.parametrize(("keep", "gone"), [(0, ["a:2"]), (1, ["a:1"]), (2, [])])
def test_how_many_sets_stay(keep: int, gone: list[str]) -> None:
    assert after(("a:1",), ("a:2",), ("a:3",), keep=keep)[1] == gone


def test_nothing_goes_while_the_host_has_what_it_is_given() -> None:
    known, _ = after(("a:1",), ("a:2",), ("a:3",), keep=2)
    assert ours.outdated(known, ["a:3"], 0) == []
    assert ours.outdated(known, ["a:4"], 0) == ["a:1", "a:2", "a:3"]


def test_what_was_there_before_is_nobodys_to_remove() -> None:
    known = ours.given(ours.given(ours.record(""), ["theirs:1"]), ["ours:1"], came("ours:1"))
    assert ours.outdated(known, ["next:1"], 0) == ["ours:1"]


def test_another_image_under_our_name_is_not_ours_any_more() -> None:
    known = ours.given(ours.record(""), ["a:1"], came("a:1"))
    assert ours.still_ours(known, ["a:1"], [seen("a:1", "id of a:1")]) == ["a:1"]
    assert ours.still_ours(known, ["a:1"], [seen("a:1", "another")]) == []
    assert ours.still_ours(known, ["a:1"], []) == []


def test_what_could_not_be_removed() -> None:
    results = [
        {"vllm_image_name": "a:1", "untagged": ["a:1"]},
        {"vllm_image_name": "b:1", "msg": "in use"},
        {"vllm_image_name": "c:1", "rc": 0},
        {"vllm_image_name": "d:1", "rc": 1, "stderr": "conflict"},
        {"vllm_image_name": "e:1", "skipped": True},
    ]
    assert ours.in_use(results) == [{"name": "b:1", "reason": "in use"}, {"name": "d:1", "reason": "conflict"}]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": []}', '{"images": {"a": 1}}', '{"sets": [1]}', "null"])
def test_a_record_that_cannot_be_read_makes_nothing_ours(text: str) -> None:
    assert ours.record(text)["images"] == {}


NAMES = st.lists(st.sampled_from(["a:1", "a:2", "b:1", "c:1", "docker.io/d"]), min_size=1, max_size=3)


@given(st.lists(NAMES, min_size=1, max_size=8), st.integers(0, 3))
def test_what_is_kept_can_always_come_back(sets: list[list[str]], keep: int) -> None:
    known, _ = after(*map(tuple, sets), keep=keep)
    assert ours.record(ours.dump(known)) == known
    assert len(known["sets"]) <= 1 + keep
    assert {name for names in known["sets"] for name in names} == set(known["images"])
    assert known["sets"][0] == sorted({ours.known_as(name) for name in sets[-1]})


@pytest.mark.parametrize(
    ("answer", "logins", "text"),
    [
        (
            "Error response from daemon: unauthorized: authentication required",
            {PRIVATE: "ops"},
            'The registry refuses the login of user "ops": check the password that '
            f'docker.registries."{PRIVATE}" refers to, and that this user may read the image.',
        ),
        (
            "no basic auth credentials",
            {},
            "The registry asks for a login, or has no such image: give docker.registries a login for "
            f"{PRIVATE}, or check the name.",
        ),
        (
            "manifest for x not found: manifest unknown",
            {PRIVATE: "ops"},
            "No such image, tag or platform there: check the reference (a typing error? a tag without this platform?).",
        ),
        (
            "toomanyrequests: You have reached your pull rate limit",
            {},
            f"Docker Hub's limit for this address is reached: give docker.registries a login for {PRIVATE}, "
            "or use a mirror.",
        ),
        (
            "write /var/lib/docker/x: no space left on device",
            {},
            "The disk is full: free some (`docker image prune --all`), then run again.",
        ),
        (
            "http: server gave HTTP response to HTTPS client",
            {},
            f"{PRIVATE} has no TLS: name it in docker.insecure_registries, if that is meant.",
        ),
        (
            "x509: certificate signed by unknown authority",
            {},
            f"The host does not trust the certificate of {PRIVATE}: put its CA into "
            f"/etc/docker/certs.d/{PRIVATE}/ca.crt.",
        ),
        (
            "dial tcp: lookup registry.example.com: no such host",
            {},
            "The network failed several times in a row: check name resolution, proxy and firewall of the host, run "
            "again.",
        ),
    ],
)
def test_what_a_failed_pull_means(answer: str, logins: dict[str, str], text: str) -> None:
    assert ours.advice(answer, f"{PRIVATE}/vllm:v1", logins) == text


def test_a_mirror_that_does_not_have_it_comes_first() -> None:
    assert ours.advice("denied", "vllm:v1", {}, ["http://mirror"]) == (
        'The image is not there: http://mirror answered "not found". Check the reference, or put it into that registry.'
    )


def held(*names: str, platform: str = "linux/amd64") -> dict[str, Any]:
    return {"problem": "", "images": [{"names": list(names), "platform": platform}]}


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (held("vllm/vllm-openai:v1"), ""),
        (held("other:1", "docker.io/vllm/vllm-openai:v1"), ""),
        (
            held("vllm/vllm-openai:v2"),
            "/a.tar holds vllm/vllm-openai:v2, not vllm/vllm-openai:v1: say so in the fleet file, or save the image "
            "under that name.",
        ),
        (
            held(),
            "/a.tar holds an image without a name, not vllm/vllm-openai:v1: say so in the fleet file, or save the "
            "image under that name.",
        ),
        (
            held("vllm/vllm-openai:v1", platform="linux/arm64"),
            "/a.tar holds vllm/vllm-openai:v1 for linux/arm64; this host is linux/amd64: give it an archive of its own "
            "platform.",
        ),
        (
            {"problem": "", "images": [*held("a:1")["images"], *held("vllm/vllm-openai:v1")["images"]]},
            "/a.tar holds 2 images (a:1, vllm/vllm-openai:v1); one archive has one image.",
        ),
        (
            {"problem": "it has no manifest.json", "images": []},
            "/a.tar is no archive of images as `docker save` writes it: it has no manifest.json.",
        ),
    ],
)
def test_an_archive_that_is_not_the_one_that_was_meant(told: dict[str, Any], problem: str) -> None:
    assert ours.archive_problem(told, "/a.tar", "vllm/vllm-openai:v1", "linux/amd64") == problem


def test_the_build_as_an_argument_list() -> None:
    image = {
        "reference": "vllm/vllm-openai:build-1",
        "platform": "linux/arm64",
        "build": {"dockerfile": "docker/Dockerfile", "target": "vllm-openai", "args": {"b": "x y", "a": "{{ 1 }}"}},
    }
    # fmt: off
    assert ours.build_argv(image, "/src") == [
        "docker", "buildx", "build", "--progress", "plain", "--platform", "linux/arm64",
        "--tag", "vllm/vllm-openai:build-1", "--file", "/src/docker/Dockerfile", "--target", "vllm-openai",
        "--build-arg", "a={{ 1 }}", "--build-arg", "b=x y", "/src",
    ]
    # fmt: on
    assert ours.build_argv({**image, "build": {"git": "x"}}, "/src")[-3:] == ["--file", "/src/Dockerfile", "/src"]


def test_a_build_gets_its_proxies_by_name() -> None:
    image = {"reference": "r", "platform": "linux/amd64", "build": {"git": "x"}}
    argv = ours.build_argv(image, "/src", {"https_proxy": "http://me:s3cret@p", "no_proxy": ".lab"})
    assert argv[-5:] == ["--build-arg", "https_proxy", "--build-arg", "no_proxy", "/src"]


def test_other_hosts_are_asked_by_the_name_that_docker_knows() -> None:
    peers = [{"host": "spark-01", "address": "192.0.2.1:7717"}, {"host": "spark-02", "address": "[2001:db8::2]:7717"}]
    image = {"reference": f"vllm/vllm-openai:v1@sha256:{'a' * 64}", "platform": "linux/arm64", "peers": peers}
    # fmt: off
    assert ours.peers_argv(image, "/run/vllm-peers/peer.py") == [
        "/usr/bin/env", "python3", "-I", "/run/vllm-peers/peer.py", "image", f"vllm/vllm-openai@sha256:{'a' * 64}",
        "--platform", "linux/arm64", "--from", "spark-01=192.0.2.1:7717", "--from", "spark-02=[2001:db8::2]:7717",
    ]
    # fmt: on


def test_the_text_of_a_record_is_stable() -> None:
    known = ours.given(ours.record(""), ["b:1", "a:1"], came("b:1", "a:1"))
    assert json.loads(ours.dump(known)) == known
    assert ours.dump(known) == ours.dump(ours.record(ours.dump(known)))
