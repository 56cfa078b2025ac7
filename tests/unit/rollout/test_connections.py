from __future__ import annotations

import pytest

from provisioner.errors import UnreachableError
from provisioner.fleet.models import Host
from provisioner.hosts.fake import FakeTransport
from provisioner.rollout.connections import Connections

A, B = Host(name="a"), Host(name="b")


def test_one_connection_a_host_closed_in_the_end() -> None:
    opened: list[FakeTransport] = []

    def open_one(host: Host) -> FakeTransport:
        opened.append(FakeTransport(host.name))
        return opened[-1]

    with Connections(open_one) as connections:
        first = connections.connect(A)
        assert connections.connect(A) is first
        assert connections.connect(B) is not first
        connections.drop(A)
        assert opened[0].closed
        assert connections.connect(A) is opened[2]
        connections.drop(Host(name="never-opened"))
    assert [one.host for one in opened] == ["a", "b", "a"]
    assert all(one.closed for one in opened)


def test_a_host_that_cannot_be_reached_can_be_tried_again() -> None:
    attempts = []

    def open_one(host: Host) -> FakeTransport:
        attempts.append(host.name)
        if len(attempts) == 1:
            raise UnreachableError("a: refused")
        return FakeTransport(host.name)

    with Connections(open_one) as connections:
        with pytest.raises(UnreachableError):
            connections.connect(A)
        assert connections.connect(A).host == "a"


def test_so_many_stay_open_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.rollout.connections.KEPT", 2)
    opened = {}

    def open_one(host: Host) -> FakeTransport:
        opened[host.name] = FakeTransport(host.name)
        return opened[host.name]

    hosts = [Host(name=name) for name in "abcd"]
    with Connections(open_one) as connections:
        for host in hosts:
            connections.connect(host)
            connections.release(host)
        assert [one.closed for one in opened.values()] == [False, False, True, True]
        assert connections.connect(hosts[0]) is opened["a"]
        assert connections.connect(hosts[3]) is not None
        assert not opened["d"].closed
