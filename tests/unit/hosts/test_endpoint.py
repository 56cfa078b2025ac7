from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.fleet.models import Host, Ssh
from provisioner.hosts.endpoint import Endpoint, jump_host, parse_endpoint, proxy_argv, resolve, resolve_argv

PLAIN = """\
host gpu-01
user alice
hostname 10.0.0.1
port 22
identityfile ~/.ssh/id_rsa
identityfile ~/.ssh/id_ed25519
identitiesonly no
hashknownhosts no
stricthostkeychecking ask
connecttimeout none
globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2
userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2
"""
"""what `ssh -G` of OpenSSH 9.2 prints, less the lines that we do not read"""


def parsed(extra: str = "", host: Host | None = None, ssh: Ssh | None = None, agent: str | None = None) -> Endpoint:
    return parse_endpoint(host or Host(name="gpu-01"), ssh or Ssh(), extra + PLAIN, environment=agent)


def test_defaults_of_openssh() -> None:
    home = Path.home() / ".ssh"
    assert parsed(agent="/run/agent") == Endpoint(
        name="gpu-01",
        hostname="10.0.0.1",
        port=22,
        user="alice",
        identity_files=(home / "id_rsa", home / "id_ed25519"),
        agent="/run/agent",
        known_hosts=(
            home / "known_hosts",
            home / "known_hosts2",
            Path("/etc/ssh/ssh_known_hosts"),
            Path("/etc/ssh/ssh_known_hosts2"),
        ),
        strict="yes",
        timeout_s=10.0,
    )


def test_how_soon_a_silent_connection_is_lost() -> None:
    silent = "serveraliveinterval {}\nserveralivecountmax {}\n"
    for interval, count, expected in ((0, 3, (10, 30)), (2, 3, (2, 6)), (60, 1, (60, 60))):
        made = parsed(silent.format(interval, count))
        assert (made.alive_every_s, made.dead_after_s) == expected


def test_identity_file_of_the_fleet_is_tried_first() -> None:
    host = Host(name="gpu-01", identity_file=Path("/keys/lab"))
    assert parsed(host=host).identity_files[0] == Path("/keys/lab")


def test_fleet_wins_over_configuration() -> None:
    host = Host(name="gpu-01", address="10.0.0.9", port=2222, user="ops")
    assert resolve_argv(host, Ssh(config=Path("/fleet/ssh_config"))) == [
        *("ssh", "-G", "-F", "/fleet/ssh_config", "-o", "HostName=10.0.0.9", "-p", "2222", "-l", "ops"),
        *("--", "gpu-01"),
    ]


@pytest.mark.parametrize(
    ("value", "strict"), [("true", "yes"), ("ask", "yes"), ("accept-new", "accept-new"), ("false", "no"), ("off", "no")]
)
def test_strictness(value: str, strict: str) -> None:
    assert parsed(f"stricthostkeychecking {value}\n").strict == strict


def test_known_hosts_nowhere() -> None:
    assert parsed("userknownhostsfile /dev/null\nglobalknownhostsfile none\n").known_hosts == ()


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        ("", "/run/agent"),
        ("identityagent SSH_AUTH_SOCK", "/run/agent"),
        ("identityagent none", None),
        ("identityagent /x/y", "/x/y"),
    ],
)
def test_agent(line: str, agent: str | None) -> None:
    assert parsed(f"{line}\n", agent="/run/agent").agent == agent


def test_connect_timeout() -> None:
    assert parsed("connecttimeout 3\n").timeout_s == 3
    assert parsed("connecttimeout 3\n", ssh=Ssh(connect_timeout_s=7)).timeout_s == 7


def test_jumps() -> None:
    assert parsed("proxyjump me@gate:2222,inner\n").jumps == ("me@gate:2222", "inner")
    gate, inner = jump_host("me@gate:2222"), jump_host("inner")
    assert (gate.name, gate.user, gate.port) == ("gate", "me", 2222)
    assert (inner.name, inner.user, inner.port) == ("inner", None, None)
    assert jump_host("ssh://me@gate:2222") == gate


def test_tokens_of_a_proxy_command() -> None:
    endpoint = parsed("proxycommand nc -X 5 %h %p # %r@%n 100%%d %q\n")
    assert proxy_argv(endpoint) == ["/bin/sh", "-c", "exec nc -X 5 10.0.0.1 22 # alice@gpu-01 100%d %q"]


def test_address_for_people() -> None:
    assert Endpoint("a", "10.0.0.1", 22, "u").address == "10.0.0.1:22"
    assert Endpoint("a", "2001:db8::1", 22, "u").address == "[2001:db8::1]:22"


def test_identity_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"^gpu-01: its identity_file /no/key is not there$"):
        resolve(Host(name="gpu-01", identity_file=Path("/no/key")), Ssh())
