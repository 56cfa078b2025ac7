"""Values that look like templates, commands, quotes or specifiers reach the server as that very text.

One run with all of them in every place that takes free text: Ansible, Jinja, systemd, Docker, shells and SSH are all on
the way, and none of them may take a value for anything but data. What commands in them would create is looked for.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import FP8, QUICK_BENCHMARK, Done, Lab, chat, read_json, shell

from provisioner.lab.paths import state_dir
from provisioner.lab.supply import token_file

CANARY = "provision-evaluated"
"""what the commands below would leave in /tmp, with something after it"""
NAME = "hostile"


def touch(place: str) -> str:
    return f"touch /tmp/{CANARY}-{place}"


TEXTS = {
    "template": "{{ 7 * 7 }} {% raw %} {# x #} #jinja2: trim_blocks:True",
    "lookup": "{{ lookup('ansible.builtin.pipe', '" + touch("lookup") + "') }}",
    "substitution": f"$({touch('substitution')})",
    "backticks": f"`{touch('backticks')}`",
    "commands": f"; {touch('semicolon')} & {touch('ampersand')} | {touch('pipe')} && true > /dev/null",
    "single": "it's 'one'",
    "double": 'say "hi" "',
    "backslashes": "a\\b \\n \\x41 \\\\ \\",
    "percent": "%n %% %i %h %%n 100%",
    "variables": "$HOME ${HOME} $$HOME ${X:-x} $0 !!",
    "hash": "# no comment",
    "unicode": "größe € 日本 \u2028 e\u0301 🚀",
    "spaces": "  two  spaces\u00a0 ",
    "yaml": "!unsafe {a: [1, *x]}: ~",
    "empty": "",
}
ODD = "{{ 3 * 3 }} $(" + touch("path") + ") `id` 'q\" \\ %n ${HOME} # é"
"""for paths, which have no colons"""
TARGET = f"/data {ODD}"
BASE = {"CUDA_VERSION": "13.0.1", "BUILD_BASE_IMAGE": "nvidia/cuda:13.0.1-devel-ubuntu22.04"}
KEY = "key-{{ 7 * 7 }}$(" + touch("key") + ")`id`'q\"\\%n${HOME}#x"


@dataclass(frozen=True)
class Ran:
    host: str
    done: Done
    plan: dict[str, Any]
    """of its one server"""
    container: dict[str, Any]
    """`docker inspect`"""
    cache_dir: str


@pytest.fixture(scope="module")
def ran(lab: Lab, free_host: str) -> Ran:
    folder = lab.folder / "hostile references"
    folder.mkdir()
    key_file, hub_token_file = folder / "{{ 1 }} $(touch x) 'k' \\", folder / "hub {{ 2 }}"
    token = "hf_{{7*7}}$(touch${IFS}/tmp/" + CANARY + "-token)`id`"
    for path, text in ((key_file, KEY), (hub_token_file, token)):
        path.touch(mode=0o600)
        path.write_text(f"{text}\n")
    cache_dir = f"/var/lib/vllm/cache {ODD}"
    fleet = lab.write_fleet(
        NAME,
        [free_host],
        image={"default": {"build": {**source(lab), "args": {**BASE, "max_jobs": "|".join(TEXTS.values())}}}},
        env={f"ODD_{name}": text for name, text in TEXTS.items()} | {"ODD_dash": "--privileged"},
        # both ways to write a value, and a flag that takes many
        extra_args=["--response-role=" + TEXTS["lookup"], "--chat-template", ODD, "--ignore-patterns", *TEXTS.values()],
        mounts=[f"/srv/{ODD}:{TARGET}:ro"],
        api_key=f"file:{key_file}",
        served_model_name="odd/name:1@x+y",
        benchmark={
            **QUICK_BENCHMARK,
            "extra_args": ["--metadata", *(f"odd_{name}={text}" for name, text in TEXTS.items())],
        },
        top_hub={"endpoint": f"http://{lab.gateway}:8800", "token": f"file:{hub_token_file}"},
        top_weights={"cache_dir": cache_dir},
    )
    accepted = token_file(state_dir())
    before = accepted.read_text()
    accepted.write_text(f"{before}{token}\n")
    try:
        done = lab.run(fleet, "--yes")
    finally:
        accepted.write_text(before)
    assert done.rc == 0, str(done)
    (plan,) = read_json(lab.latest_run(NAME) / "plans" / f"{free_host}.json")["servers"]
    return Ran(free_host, done, plan, json.loads(shell(free_host, "docker inspect vllm-sim"))[0], cache_dir)


def source(lab: Lab) -> dict[str, str]:
    """The lab's source of vLLM, built on the host."""
    guide = {"ref": "v0.12.0", "dockerfile": "docker/Dockerfile", "target": "vllm-openai"}
    return {"git": f"git://{lab.gateway}/vllm", **guide}


def test_arguments_arrive_as_written(ran: Ran) -> None:
    assert ran.container["Args"] == ["serve", *ran.plan["argv"]]
    assert ran.plan["argv"][-len(TEXTS) :] == list(TEXTS.values())
    # as the server itself sees them; what stands before is Python and its script
    seen = in_container(ran.host, of_server("cmdline")).split("\0")[:-1]
    assert seen[seen.index("serve") :] == ran.container["Args"]


def test_the_environment_arrives_as_written(ran: Ran) -> None:
    wanted = {f"ODD_{name}": text for name, text in TEXTS.items()} | {"ODD_dash": "--privileged"}
    wanted |= {"VLLM_API_KEY": KEY, "HF_HOME": "/root/.cache/huggingface"}
    for told in (ran.container["Config"]["Env"], in_container(ran.host, of_server("environ")).split("\0")[:-1]):
        seen = dict(line.split("=", 1) for line in told)
        assert {name: seen.get(name) for name in wanted} == wanted


def test_paths_are_those_that_were_written(ran: Ran) -> None:
    mounts = {one["Destination"]: one for one in ran.container["Mounts"]}
    assert (mounts[TARGET]["Source"], mounts[TARGET]["RW"]) == (f"/srv/{ODD}", False)
    assert mounts["/root/.cache/huggingface"]["Source"] == ran.cache_dir
    seen = json.loads(shell(ran.host, f"python3 -c '{LIST}' {quoted(ran.cache_dir)}"))
    assert {"hub", ".provision"} <= set(seen), seen


def test_the_build_got_its_argument(ran: Ran) -> None:
    arrived = json.loads(in_container(ran.host, "cat /vllm-workspace/build-args.json"))
    assert arrived["max_jobs"] == "|".join(TEXTS.values())


def test_the_benchmark_got_its_arguments(lab: Lab, ran: Ran) -> None:
    (file,) = (lab.latest_run(NAME) / "benchmarks").rglob("*.json")
    result = read_json(file)
    assert {name: result.get(f"odd_{name}") for name in TEXTS} == TEXTS


def test_the_key_is_asked_for(ran: Ran) -> None:
    assert chat(ran.host, "odd/name:1@x+y")[0] == 401
    assert FP8 in ran.plan["argv"]


def test_everything_is_as_planned(lab: Lab, ran: Ran) -> None:
    plan = lab.run("plan", lab.folder / f"{NAME}.yaml", "--diff")
    assert plan.rc == 0, str(plan)


def test_nothing_was_evaluated_anywhere(ran: Ran) -> None:
    (Path("/tmp") / f"{CANARY}-control").touch()
    shell(ran.host, touch("control"))
    here = [path.name for path in Path("/tmp").glob(f"{CANARY}*")]
    there = shell(ran.host, f"ls /tmp | grep {CANARY}; rm /tmp/{CANARY}*").split()
    for path in Path("/tmp").glob(f"{CANARY}*"):
        path.unlink()
    assert here == there == [f"{CANARY}-control"], "the control alone"
    assert CANARY not in in_container(ran.host, "ls -a /tmp")


LIST = "import json, os, sys; print(json.dumps(os.listdir(sys.argv[1])))"


def in_container(host: str, command: str) -> str:
    """What a command in the server's container prints, byte for byte."""
    told = shell(host, f"docker exec vllm-sim {command} | base64 --wrap=0")
    return base64.b64decode(told).decode()


def of_server(name: str) -> str:
    """A command that prints a file of the server's process: the child of Docker's init, which is the first one."""
    return f"sh -c 'cat /proc/$(cut -d \" \" -f 1 /proc/1/task/1/children)/{name}'"


def quoted(text: str) -> str:
    """A word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"
