"""What goes and what stays, and why: decided from the record and from what is on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from load import ROLES, module

decide = module("removal", "filter_plugins/removal.py").removal_plan
look = module("removal", "library/removal_look.py")

DAEMON = "/etc/docker/daemon.json"
CACHE = "/var/lib/vllm/huggingface"
CAME = {"before": None, "after": "1"}
RECORD = {
    "docker_engine": {
        "packages": {"docker.io": CAME, "runc": CAME, "python3-requests": CAME},
        "groups": {"docker": None},
        "settings": {DAEMON: {"text": None, "before": {}, "after": {"registry-mirrors": ["http://m"]}}},
        "paths": {"/var/lib/docker": "empty", "/etc/docker": "missing", "/etc/apt/keyrings/docker.asc": "missing"},
        "services": {"docker.service": None},
    },
    "vllm_image": {
        "packages": {"git": CAME},
        "images": {"vllm/vllm-openai:v1": None, "vllm/vllm-openai:deploy": None},
        "paths": {"/var/lib/vllm/source": "missing"},
    },
    "model_weights": {"paths": {CACHE: "missing"}},
    "parser_plugins": {"paths": {"/var/lib/vllm/plugins": "missing"}},
}


def plan(
    record: dict[str, Any] | None = None,
    *,
    purge: str = "",
    now: dict[str, Any] | None = None,
    **seen: Any,
) -> dict[str, Any]:
    """The decision for a host as the roles left it; `now` and `seen` say what is otherwise. `purge`: w and d."""
    parts = RECORD if record is None else record
    state: dict[str, Any] = {
        "packages": {name: "1" for part in parts.values() for name in part.get("packages", {})},
        "groups": ["root", "docker"],
        "paths": {path: "kept" for part in parts.values() for path in part.get("paths", {})},
        "settings": {path: "{}" for part in parts.values() for path in part.get("settings", {})},
        "images": {name: "sha256:1" for part in parts.values() for name in part.get("images", {})},
        "services": {name: {"enabled": True, "active": True} for p in parts.values() for name in p.get("services", {})},
    }
    state["paths"]["/etc/apt/keyrings/docker.asc"] = "missing"
    state["ports"] = [port for part in parts.values() for port in part.get("ports", {})]
    state["image_ids"] = [was for part in parts.values() for was in part.get("images", {}).values() if was]
    for kind, values in (now or {}).items():
        state[kind] = values if isinstance(values, list) else {**state[kind], **values}
    at = {
        "servers": [{"name": "a", "unit": "/etc/systemd/system/vllm-a.service", "secret_path": "/etc/vllm/a.env"}],
        "own": ["/var/lib/vllm/proofs"],
        "docker": {"containers": [{"name": "vllm-a", "image": "sha256:1", "gpus": True}], "volumes": [], "images": []},
        "manager": "apt",
        "needed_by": {"runc": ["docker.io"]},
        "sizes": {CACHE: 3 * 2**30},
        "mounts": {},
        **seen,
    }
    found: dict[str, Any] = decide({"parts": parts}, state, at, "w" in purge, "d" in purge)
    return found


def test_what_goes_without_being_asked_for() -> None:
    found = plan()
    assert found["goes"] == [
        "server a: /etc/systemd/system/vllm-a.service, /etc/vllm/a.env",
        "/var/lib/vllm/proofs",
        "image vllm/vllm-openai:v1",
        "image vllm/vllm-openai:deploy",
        "package git",
        "/var/lib/vllm/source",
        "/var/lib/vllm/plugins",
    ]
    assert found["stays"] == [
        f"weights {CACHE} (3.0 GiB): not asked for (--purge-weights)",
        "Docker (docker.io and 2 more packages): not asked for (--purge-docker)",
    ]
    assert found["servers"] == [{"name": "a", "unit": "vllm-a.service", "container": "vllm-a"}]
    assert (found["packages"], found["groups"], found["undone"]) == (["git"], [], [])
    assert found["paths"] == ["/var/lib/vllm/proofs", "/var/lib/vllm/source", "/var/lib/vllm/plugins"]


def test_everything_goes() -> None:
    found = plan(purge="wd")
    assert found["stays"] == []
    assert found["goes"][2] == (
        "Docker with everything in it (its bridge docker0 and its firewall rules are gone after the next reboot)"
    )
    assert f"{CACHE} (3.0 GiB)" in found["goes"]
    assert f"{DAEMON}: registry-mirrors as before us" in found["goes"]
    assert found["packages"] == ["docker.io", "git", "python3-requests", "runc"]
    assert (found["images"], found["late_paths"], found["emptied"]) == ([], ["/etc/docker"], ["/var/lib/docker"])
    assert (found["groups"], found["undone"]) == (["docker"], ["docker_engine"])


def test_ports_that_were_opened_are_closed_again() -> None:
    record = {"vllm_server": {"ports": {"8000": None, "8001": None}}}
    found = plan(record, now={"ports": ["8000"]})
    assert found["ports"] == ["8000"]
    assert found["goes"][-1] == "firewall: port 8000 closed again"


def used(*names: str, gpus: bool = False, image: str = "sha256:9", volumes: tuple[str, ...] = ()) -> dict[str, Any]:
    """A Docker with containers of somebody else, beside ours."""
    theirs = [{"name": name, "image": image, "gpus": gpus} for name in names]
    return {
        "containers": [{"name": "vllm-a", "image": "sha256:1", "gpus": True}, *theirs],
        "volumes": list(volumes),
        "images": [],
    }


@pytest.mark.parametrize(
    ("docker", "words"),
    [
        (used("theirs"), "container theirs"),
        (used(volumes=("data", "b")), "volume b, data"),
        (used("y", "x", volumes=("data",)), "container x, y and volume data"),
    ],
)
def test_a_docker_of_ours_that_somebody_else_uses_stays(docker: dict[str, Any], words: str) -> None:
    found = plan(purge="d", docker=docker)
    assert found["stays"][1] == f"Docker (docker.io and 2 more packages): somebody else's {words} would go with it"
    assert found["packages"] == ["git"]


def test_of_a_docker_that_was_there_before_only_our_changes_go() -> None:
    was = {"enabled": False, "active": False}
    record = {
        "docker_engine": {
            "packages": {"python3-requests": CAME},
            "settings": RECORD["docker_engine"]["settings"],
            "services": {"docker.service": was},
        }
    }
    found = plan(record, docker=used("theirs"))
    assert found["goes"][2:] == [
        "package python3-requests",
        f"{DAEMON}: registry-mirrors as before us",
        "docker.service: disabled as before us",
    ]
    # it runs somebody else's container by now
    assert found["services"] == [{"name": "docker.service", "enabled": False, "active": True}]
    assert plan(record)["services"] == [{"name": "docker.service", "enabled": False, "active": False}]
    assert found["undone"] == ["docker_engine"]


def test_an_image_that_somebody_else_runs_stays() -> None:
    record = {"vllm_image": {"images": {"a:1": None, "b:1": None}}}
    found = plan(record, now={"images": {"b:1": "sha256:2"}}, docker=used("theirs", image="sha256:2"))
    assert found["images"] == ["a:1"]
    assert found["stays"] == ["image b:1: theirs runs it"]


def test_an_image_name_that_was_somebody_elses_is_given_back() -> None:
    old = "sha256:" + "0" * 64
    found = plan({"vllm_image": {"images": {"vllm/vllm-openai:deploy": old, "same:1": "sha256:1"}}})
    assert found["goes"][2:] == [
        "image vllm/vllm-openai:deploy: names again what it named before (sha256:000000000000)"
    ]
    assert found["moved_images"] == [{"reference": "vllm/vllm-openai:deploy", "id": old}]
    assert found["images"] == []


def test_a_package_that_another_one_needs_stays_with_what_it_needs() -> None:
    record = {"docker_engine": {"packages": {"runc": CAME, "libseccomp2": CAME, "docker.io": CAME}}}
    found = plan(
        record, purge="d", needed_by={"runc": ["docker.io", "podman"], "libseccomp2": ["runc"], "docker.io": []}
    )
    assert found["packages"] == ["docker.io"]
    assert found["stays"] == ["package libseccomp2: runc needs it", "package runc: podman needs it"]


def test_versions_are_not_put_back() -> None:
    record = {"tools": {"packages": {"libc6": {"before": "1", "after": "2"}, "gone": {"before": "1", "after": None}}}}
    found = plan(record, now={"packages": {"libc6": "2"}, **{}})
    assert found["stays"] == ["package libc6: 2, 1 before us; versions are not put back"]
    state = plan({"tools": {"packages": {"libc6": {"before": "1", "after": "2"}}}}, now={"packages": {"libc6": "1"}})
    assert state["stays"] == []


def test_the_toolkit_stays_where_a_container_uses_gpus_through_it() -> None:
    record = {"nvidia_container_toolkit": {"packages": {"nvidia-container-toolkit": CAME}}}
    name = "container toolkit (nvidia-container-toolkit)"
    assert plan(record)["stays"] == [f"{name}: not asked for (--purge-docker)"]
    assert plan(record, purge="d", docker=used("x", gpus=True))["stays"] == [f"{name}: x uses it"]
    assert plan(record, purge="d", docker=used("x"))["packages"] == ["nvidia-container-toolkit"]
    both = {**record, "docker_engine": {"packages": {"docker.io": CAME}}}
    assert plan(both, purge="d", docker=used("x"))["stays"] == [
        "Docker (docker.io): somebody else's container x would go with it",
        f"{name}: Docker uses it",
    ]


def test_weights_in_a_folder_that_was_there_go_one_by_one() -> None:
    model = "/data/hf/hub/models--a--b"
    record = {"model_weights": {"paths": {"/data/hf": "kept", model: "missing"}}}
    assert plan(record)["stays"] == [f"weights {model}: not asked for (--purge-weights)"]
    assert plan(record, purge="w")["paths"][1:] == [model]
    assert plan(record, now={"paths": {model: "missing"}})["stays"] == []


def test_of_folders_inside_others_the_outer_one_is_told() -> None:
    record = {"model_weights": {"paths": dict.fromkeys((CACHE, f"{CACHE}/hub/m", f"{CACHE}-2"), "missing")}}
    assert plan(record)["stays"] == [f"weights {CACHE} (3.0 GiB), {CACHE}-2: not asked for (--purge-weights)"]


def test_images_of_others_that_go_with_docker_are_named() -> None:
    docker = {**used(), "images": ["theirs:1", "vllm/vllm-openai:v1"]}
    assert plan(purge="wd", docker=docker)["goes"][2].startswith(
        "Docker with everything in it, images of others too: theirs:1 (its bridge"
    )


def test_an_image_name_goes_where_what_it_named_is_gone() -> None:
    record = {"vllm_image": {"images": {"vllm/vllm-openai:deploy": "sha256:0"}}}
    found = plan(record, now={"image_ids": []})
    assert (found["images"], found["moved_images"]) == (["vllm/vllm-openai:deploy"], [])


def test_what_is_mounted_in_a_folder_of_ours_is_somebody_elses() -> None:
    """Such as a share that was not mounted when the host was provisioned."""
    record = {"model_weights": {"paths": {"/mnt/hf": "empty", CACHE: "missing"}}}
    found = plan(record, purge="w", mounts={"/mnt/hf": ["/mnt/hf"], CACHE: [f"{CACHE}/share"]})
    assert (found["emptied"], found["paths"]) == ([], ["/var/lib/vllm/proofs"])
    assert found["stays"] == [f"{CACHE}: mounted there: {CACHE}/share", "/mnt/hf: mounted there: /mnt/hf"]


def test_mount_points_at_a_path_and_below_it() -> None:
    text = "/dev/sda /mnt/hf ext4 rw 0 0\nnas:/m /mnt/hf/my\\040models nfs rw 0 0\n/dev/sdb /mnt/hf2 ext4 rw 0 0\n"
    assert look.mounted("/mnt/hf", text) == ["/mnt/hf", "/mnt/hf/my models"]
    assert look.mounted("/mnt", text) == ["/mnt/hf", "/mnt/hf/my models", "/mnt/hf2"]
    assert look.mounted("/mnt/hf/x", text) == []


def test_a_file_that_was_replaced_comes_back() -> None:
    was = {"text": "theirs", "mode": "0640"}
    found = plan({"tools": {"paths": {"/etc/x": was}}}, now={"paths": {"/etc/x": {"text": "ours", "mode": "0644"}}})
    assert found["files"] == [{"path": "/etc/x", **was}]
    assert plan({"tools": {"paths": {"/etc/x": was}}}, now={"paths": {"/etc/x": was}})["files"] == []


def test_a_docker_that_does_not_answer_keeps_its_images() -> None:
    silent = {"images": {"vllm/vllm-openai:v1": None, "vllm/vllm-openai:deploy": None}}
    assert plan(now=silent, docker=None)["images"] == []


def test_a_docker_that_does_not_answer_does_not_go() -> None:
    assert plan(docker=None, purge="d")["stays"][1] == (
        "Docker (docker.io and 2 more packages): it does not answer, so nobody can tell whose containers it has "
        "(systemctl start docker)"
    )


def test_nothing_of_ours() -> None:
    found = plan({}, servers=[], own=[], docker=None)
    assert (found["goes"], found["stays"]) == ([], [])


def test_servers_are_known_by_the_mark_in_their_files(tmp_path: Path) -> None:
    units, secrets = tmp_path / "units", tmp_path / "secrets"
    for folder in (units, secrets):
        folder.mkdir()
    for name in ("vllm-a.service", "vllm-b.service", "other.service"):
        (units / name).write_text(f"{look.MARK}: changes by hand\n[Unit]\n")
    (units / "vllm-theirs.service").write_text("[Unit]\n")
    (secrets / "a.env").write_text(f"{look.MARK}\nA=1\n")
    (secrets / "gone.env").write_text(f"{look.MARK}\nA=1\n")
    (secrets / "theirs.env").write_text("A=1\n")
    assert look.servers(units, secrets) == [
        {"name": "a", "unit": f"{units}/vllm-a.service", "secret_path": f"{secrets}/a.env"},
        {"name": "b", "unit": f"{units}/vllm-b.service", "secret_path": ""},
        {"name": "gone", "unit": "", "secret_path": f"{secrets}/gone.env"},
    ]
    assert look.servers(units, tmp_path / "none") != []


@pytest.mark.parametrize("template", ["vllm.service.j2", "secrets.env.j2"])
def test_the_mark_is_how_the_templates_begin(template: str) -> None:
    text = (ROLES / "vllm_server" / "templates" / template).read_text()
    assert text.startswith(f"{look.MARK}: ")
    jinja2.Environment().parse(text)  # noqa: S701 - no HTML


def test_what_dpkg_says_of_dependents() -> None:
    text = """dpkg: dependency problems prevent removal of zlib1g:amd64:
 zstd depends on zlib1g (>= 1:1.1.4).
 zlib1g-dev:amd64 depends on zlib1g (= 1:1.2.13.dfsg-1).
 dpkg pre-depends on zlib1g (>= 1:1.1.4).

dpkg: error processing package zlib1g:amd64 (--purge):
 dependency problems - not removing
Errors were encountered while processing:
 zlib1g:amd64
"""
    assert look.dependents_of_dpkg(text) == ["dpkg", "zlib1g-dev", "zstd"]
    assert look.dependents_of_dpkg("Purging configuration files for git ...") == []


def test_what_rpm_says_of_dependents() -> None:
    text = """error: Failed dependencies:
\tlibz.so.1()(64bit) is needed by (installed) rpm-libs-4.16.1.3-29.el9.x86_64
\tzlib is needed by (installed) python3-libs-3.9.18-3.el9.x86_64
"""
    assert look.dependents_of_rpm(text) == ["python3-libs", "rpm-libs"]
