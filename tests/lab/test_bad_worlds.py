"""What goes wrong on real hosts: each with its exit code, words that say what it is, and nothing touched in vain."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import FP8, Done, Lab, chat, container, fingerprint, shell

from provisioner.lab import faults, keys
from provisioner.lab.paths import state_dir

NOBODY = "172.30.77.250"
"""an address of the lab's network that no host has"""


# What the survey finds: nothing on any host may change.


@dataclass(frozen=True)
class Unfit:
    """One host that cannot be provisioned as it is. `host`: its keys in the fleet file; `changes`: of the fleet."""

    code: int
    said: tuple[str, ...]
    host: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


UNFIT = {
    "host down": Unfit(4, (NOBODY, "is the host up"), host={"address": NOBODY}),
    "nothing listens": Unfit(4, ("refuses the connection",), host={"port": 2222}),
    "wrong key": Unfit(4, ("does not let ops in", "authorized_keys"), host={"identity_file": "WRONG_KEY"}),
    "unknown host key": Unfit(
        4, ("host key", "is not known", "connecting once with ssh"), changes={"top_ssh": {"config": "UNKNOWN_KEY"}}
    ),
    "changed host key": Unfit(4, ("host key", "changed"), changes={"top_ssh": {"config": "CHANGED_KEY"}}),
    "no sudo": Unfit(1, ("no sudo", "NOPASSWD"), host={"user": "nosudo"}),
    "another machine": Unfit(1, ("linux/amd64", "linux/arm64"), host={"platform": "linux/arm64"}),
    "driver gone": Unfit(1, ("nvidia-smi",), fault="gpus"),
    "port in use": Unfit(1, ("port 8123", "in use", "python3"), changes={"port": 8123}, fault="port"),
    "disk full": Unfit(
        1,
        ("disk full", "GiB free", "docker.min_free_gib"),
        changes={"image": {"default": "vllm/vllm-openai:v0.12.1"}, "top_docker": {"min_free_gib": 90000}},
    ),
}


@pytest.fixture(scope="module")
def places(lab: Lab, served: str) -> dict[str, str]:
    """Stand-ins in the table above → files."""
    folder = lab.folder / "bad"
    folder.mkdir()
    config = keys.ssh_config_file(state_dir()).read_text()
    known = str(keys.known_hosts_file(state_dir()))
    wrong, other = folder / "wrong_key", folder / "other_host_key"
    for key in (wrong, other):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    files = {"UNKNOWN_KEY": "", "CHANGED_KEY": ""}
    address = next(line.split(" ")[0] for line in Path(known).read_text().splitlines() if line.startswith(served))
    files["CHANGED_KEY"] = f"{address} {' '.join(other.with_suffix('.pub').read_text().split()[:2])}\n"
    told = {"WRONG_KEY": str(wrong)}
    for name, text in files.items():
        (folder / f"{name}.known").write_text(text)
        # without its own key file the lab's configuration would still name the right one
        (folder / name).write_text(config.replace(known, str(folder / f"{name}.known")))
        told[name] = str(folder / name)
    without_keys = [line for line in config.splitlines() if "IdentityFile" not in line]
    (folder / "NO_IDENTITY").write_text("\n".join(without_keys) + "\n")
    told["NO_IDENTITY"] = str(folder / "NO_IDENTITY")
    return told


@pytest.mark.parametrize("name", list(UNFIT))
def test_an_unfit_host_is_left_alone(lab: Lab, served: str, places: dict[str, str], name: str) -> None:
    case = UNFIT[name]
    host = {key: places.get(value, value) for key, value in case.host.items()}
    changes = dict(case.changes)
    if "top_ssh" in changes:
        changes["top_ssh"] = {"config": places[changes["top_ssh"]["config"]]}
    if "identity_file" in host:
        changes["top_ssh"] = {"config": places["NO_IDENTITY"]}
    fleet = lab.write_fleet("unfit", {served: host}, **changes)
    before = fingerprint(served)
    with _fault(case.fault, served):
        done = lab.run(fleet, "--yes")
    _refused(done, case.code, (served, *case.said))
    assert fingerprint(served) == before
    assert lab.runs("unfit") == []


def test_all_unfit_hosts_are_told_at_once(lab: Lab, served: str) -> None:
    """One table; the host that is fit is left alone too, and how to go on without the others is said."""
    fleet = lab.write_fleet(
        "mixed", {served: {"user": "nosudo"}, "gone": {"address": NOBODY}, "lab-h100-2": {}}, env={"X": "1"}
    )
    before = fingerprint("lab-h100-2")
    done = lab.run(fleet, "--yes")
    _refused(done, 1, ("2 of 3 hosts", "no sudo", NOBODY, "nothing was changed", "--keep-going"))
    assert fingerprint("lab-h100-2") == before


def test_nobody_to_ask(lab: Lab, served: str) -> None:
    fleet = lab.write_fleet("unasked", [served], env={"X": "1"})
    before = fingerprint(served)
    _refused(lab.run(fleet), 2, ("no terminal", "--yes"))
    assert fingerprint(served) == before
    assert lab.runs("unasked") == []


def _fault(name: str, host: str) -> AbstractContextManager[None]:
    if name == "gpus":
        return faults.without_gpus(host)
    return faults.port_taken(host, 8123) if name == "port" else nullcontext()


# What shows only when it is tried: two hosts, each goes through half of the cases.


@dataclass(frozen=True)
class Broken:
    """One fleet that fails. `untouched`: the server that ran before still runs, the same container."""

    code: int
    said: tuple[str, ...]
    changes: dict[str, Any]
    untouched: bool = False


def _env(fault: str) -> dict[str, str]:
    return {"SIM_FAULT": fault}


BROKEN = {
    "image missing in the registry": Broken(
        1, ("vllm_image", "v9.9.9", "lab-h100"), {"image": {"default": "REGISTRY/vllm/vllm-openai:v9.9.9"}}, True
    ),
    "wrong token": Broken(
        1, ("model_weights", FP8, "token"), {"top_hub": "WRONG", "top_weights": {"cache_dir": "/var/lib/vllm/t1"}}, True
    ),
    "no token": Broken(
        1, ("model_weights", FP8, "token"), {"top_hub": "NONE", "top_weights": {"cache_dir": "/var/lib/vllm/t2"}}, True
    ),
    "weights disk full": Broken(
        1, ("model_weights", "No space left"), {"top_weights": {"cache_dir": "/var/lib/small/cache"}}, True
    ),
    "never healthy": Broken(
        1,
        ("is not healthy", "waited", "of at most 4 s", "Loading safetensors"),
        {"env": _env("never-healthy"), "health_timeout_s": 4},
    ),
    "exits at start": Broken(1, ("CUDA out of memory", "vllm-sim"), {"env": _env("exit-at-start")}),
    "first request kills it": Broken(
        3, ("healthy but broke on a request", "EngineCore died"), {"env": _env("die-on-first-request")}
    ),
    "wrong answer": Broken(
        3,
        # the reason, what was asked, what came back, the server's last words
        ("plain chat", "one character again and again", "asked POST http://", "answer: HTTP 200", '"POST /v1/chat/'),
        {"env": _env("wrong-answer")},
    ),
}
PLACED = {
    "lab-h100-1": ("image missing in the registry", "no token", "never healthy", "first request kills it"),
    "lab-h100-2": ("wrong token", "weights disk full", "exits at start", "wrong answer"),
}
assert sorted(BROKEN) == sorted(case for cases in PLACED.values() for case in cases)


@pytest.fixture(scope="module")
def broken(lab: Lab, served: str, free_host: str) -> Iterator[dict[str, tuple[Done, bool]]]:
    """Case → how it ended, and whether the server's container was the same afterwards. Then both hosts are mended."""
    good = {host: lab.write_fleet(f"good-{host}", [host]) for host in (served, free_host)}
    wrong_token = lab.folder / "wrong_token"
    wrong_token.write_text("hf_wrong_0123456789\n")
    hub = f"http://{lab.gateway}:8800"
    hubs = {"WRONG": {"endpoint": hub, "token": f"file:{wrong_token}"}, "NONE": {"endpoint": hub}}

    def try_all(host: str) -> dict[str, tuple[Done, bool]]:
        first = lab.run(good[host], "--yes", "--smoke")
        assert first.rc == 0, str(first)
        ended = {}
        for name in PLACED[host]:
            changes = dict(BROKEN[name].changes)
            if "top_hub" in changes:
                changes["top_hub"] = hubs[changes["top_hub"]]
            if "REGISTRY" in str(changes.get("image")):
                changes["image"] = {"default": changes["image"]["default"].replace("REGISTRY", f"{lab.gateway}:5000")}
            # going back is test_rollout's: here each case shall find what the one before it left
            fleet = lab.write_fleet(f"broken-{host}", [host], top_rollout={"rollback": "never"}, **changes)
            before = container(host) if BROKEN[name].untouched else None
            small = name == "weights disk full"
            with faults.small_disk(host, "/var/lib/small", 1) if small else nullcontext():
                done = lab.run(fleet, "--yes")
            ended[name] = (done, before is not None and container(host) == before)
        return ended

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(try_all, host) for host in good]
        yield {name: told for one in done for name, told in one.result().items()}
        mended = list(pool.map(lambda host: lab.run(good[host], "--yes", "--smoke"), good))
    for one in mended:
        assert one.rc == 0, str(one)
    for host in good:
        assert chat(host, FP8)[0] == 200


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_world(broken: dict[str, tuple[Done, bool]], name: str) -> None:
    done, same_container = broken[name]
    case = BROKEN[name]
    _refused(done, case.code, case.said)
    assert same_container == case.untouched
    assert "hf_wrong" not in done.text


def test_a_host_that_does_not_answer_holds_up_no_other(lab: Lab, served: str, free_host: str) -> None:
    """--keep-going provisions the fit ones; the exit code still tells of the other."""
    fleet = lab.write_fleet("keep-going", {free_host: {}, "gone": {"address": NOBODY}}, env={"KEEP": "1"})
    done = lab.run(fleet, "--yes", "--keep-going", "--smoke")
    assert done.rc == 4, str(done)
    assert "gone: unreachable" in done.stdout, str(done)
    assert "1 of 2 hosts served and validated" in done.stdout, str(done)
    told = shell(free_host, "docker inspect vllm-sim --format '{{.Config.Env}}'")
    assert "KEEP=1" in told


def _refused(done: Done, code: int, words: tuple[str, ...]) -> None:
    assert done.rc == code, str(done)
    for word in words:
        assert word in done.text, f"{word!r} is not in:\n{done}"
    assert "Traceback" not in done.text, str(done)
