"""Who holds a port, and what a container is: parsed from recorded texts."""

from __future__ import annotations

import json

import pytest
from load import module

facts = module("vllm_server", "library/vllm_server_facts.py")
PROXY = 'LISTEN 0 4096 0.0.0.0:8000 0.0.0.0:* users:(("docker-proxy",pid=812,fd=7))\n'
NGINX = 'LISTEN 0 511 0.0.0.0:8000 0.0.0.0:* users:(("nginx",pid=9,fd=6),("nginx",pid=8,fd=6))\n'


def hold(text: str, publishers: list[str], container_id: str = "c0ffee", cgroups: dict[int, str] | None = None) -> str:
    return facts.holder(
        facts.parse_listeners(text), publishers, "vllm-a", container_id, lambda pid: (cgroups or {}).get(pid, "")
    )


def test_free_port() -> None:
    assert hold("", []) == ""


def test_published_by_our_container() -> None:
    assert hold(PROXY, ["vllm-a"]) == ""


def test_published_by_another_container() -> None:
    assert hold(PROXY, ["other"]) == "container other"


def test_held_by_a_process() -> None:
    assert hold(NGINX, []) == "nginx (pid 9)"


def test_our_container_on_the_hosts_network() -> None:
    text = 'LISTEN 0 5 0.0.0.0:8000 0.0.0.0:* users:(("vllm",pid=5,fd=3))\n'
    assert hold(text, [], cgroups={5: "0::/system.slice/docker-c0ffee.scope"}) == ""
    assert hold(text, [], cgroups={5: "0::/system.slice/docker-bad.scope"}) == "vllm (pid 5)"
    assert hold(text, [], container_id="", cgroups={5: "0::/x"}) == "vllm (pid 5)"


def test_listener_without_a_name() -> None:
    assert hold("LISTEN 0 5 0.0.0.0:8000 0.0.0.0:*\n", []) == "unknown process"


def test_container() -> None:
    text = json.dumps([{"Id": "x", "State": {"Running": True}, "Image": "sha256:1", "Args": ["serve", "m"]}])
    assert facts.parse_container(text) == {"id": "x", "running": True, "image_id": "sha256:1", "argv": ["serve", "m"]}
    assert facts.parse_container(text.replace('["serve", "m"]', "null"))["argv"] == []
    assert facts.parse_container("") == {"id": "", "running": False, "image_id": "", "argv": []}
    assert facts.parse_container("[]") == {"id": "", "running": False, "image_id": "", "argv": []}


@pytest.mark.parametrize(
    ("argv", "place"),
    [
        ([], "127.0.0.1:8000"),
        (["--host=0.0.0.0", "--port=1"], "127.0.0.1:1"),
        (["--host", "::", "--port", "1", "--port", "2"], "127.0.0.1:2"),
        (["--host", "fd00::1"], "[fd00::1]:8000"),
        (["--host", "10.0.0.1", "--port"], "10.0.0.1:8000"),
    ],
)
def test_where_a_server_is_reached(argv: list[str], place: str) -> None:
    assert facts.address(argv) == place


def test_unit() -> None:
    assert facts.parse_unit("LoadState=loaded\nActiveState=active\n") == {
        "LoadState": "loaded",
        "ActiveState": "active",
    }
