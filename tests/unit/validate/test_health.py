from __future__ import annotations

import pytest

from provisioner.errors import HostError
from provisioner.hosts.transport import Result
from provisioner.validate.health import wait_healthy
from provisioner.validate.interrupt import RunInterrupted

from .fakes import FakeHost, Handler, http, server, state, well

LOG = "loading weights\nValueError: no kernel image, token hf_secret\n"


class Clock:
    """Time that passes only while somebody pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.pauses.append(seconds)
        self.now += seconds


def wait(host: FakeHost, clock: Clock, said: list[str] | None = None) -> float:
    told = said if said is not None else []
    healthy = wait_healthy(
        host, server(), on_progress=told.append, secrets=["hf_secret"], pause=clock.pause, clock=clock
    )
    return healthy.seconds


def after(count: int, handler: Handler, first: bytes | Exception) -> Handler:
    calls = iter(range(1000))

    def handle(path: str, headers: dict[str, str], body: bytes) -> bytes:
        if next(calls) >= count:
            return handler(path, headers, body)
        if isinstance(first, Exception):
            raise first
        return first

    return handle


def test_a_healthy_server_is_not_waited_for() -> None:
    host, clock = FakeHost({"systemctl show": state()}, well), Clock()
    assert wait(host, clock) == 0.0
    assert clock.pauses == []
    assert host.targets == [("127.0.0.1", 8000)]
    assert all(channel.closed for channel in host.channels)


def test_pauses_grow_to_two_seconds() -> None:
    host, clock = (
        FakeHost(
            {"systemctl show": state(log="(APIServer pid=1) INFO 11-24 09:29:26 [loader.py:317] Loading shards: 40%")},
            after(9, well, http(503, "")),
        ),
        Clock(),
    )
    said: list[str] = []
    assert wait(host, clock, said) == pytest.approx(sum(clock.pauses), abs=0.01)
    assert clock.pauses[:3] == [0.25, 0.375, 0.5625]
    assert clock.pauses[-1] == 2.0
    assert said == ["Loading shards: 40%"]


@pytest.mark.parametrize("first", [b"", ConnectionResetError("reset by peer"), TimeoutError()])
def test_a_connection_that_breaks_is_a_server_that_loads(first: bytes | Exception) -> None:
    host, clock = FakeHost({"systemctl show": state()}, after(2, well, first)), Clock()
    assert wait(host, clock) > 0


def test_another_server_on_the_port_does_not_count() -> None:
    host = FakeHost({"systemctl show": state("activating", "auto-restart"), "journalctl": LOG}, well)
    with pytest.raises(HostError, match=r"\(last: 200, unit activating\); waited 30 s of at most 30 s"):
        wait(host, Clock())


def test_the_wait_is_bounded_and_says_what_it_waited_for() -> None:
    host = FakeHost({"systemctl show": state(), "journalctl": LOG})
    clock = Clock()
    with pytest.raises(HostError) as caught:
        wait(host, clock)
    assert caught.value.message == (
        "vllm-nemotron.service is not healthy: GET http://127.0.0.1:8000/health did not answer 200 (last: connection"
        " refused); waited 30 s of at most 30 s for GET http://127.0.0.1:8000/health"
    )
    assert caught.value.log == "loading weights\nValueError: no kernel image, token [redacted]"
    assert clock.now == 30


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([state("failed", "failed", restarts=5)], "the unit failed (Result=success, restarts 5)"),
        ([state("inactive", "dead", load="not-found")], "the unit is not there (LoadState=not-found)"),
        ([state(), state("inactive", "dead")], "the unit is stopped (Result=success)"),
        (
            [state(restarts=7), state(restarts=9), state(restarts=10)],
            "the server died and was started again 3 times",
        ),
    ],
)
def test_no_waiting_without_hope(states: list[str], reason: str) -> None:
    host, clock = (
        FakeHost({"systemctl show": states, "journalctl --unit vllm-nemotron.service --lines 400": LOG}),
        Clock(),
    )
    with pytest.raises(HostError) as caught:
        wait(host, clock)
    assert f"is not healthy: {reason}; waited" in caught.value.message
    assert len(clock.pauses) == len(states) - 1


def test_an_interrupted_run_stops_waiting() -> None:
    host = FakeHost({"systemctl show": state()})
    with pytest.raises(RunInterrupted) as caught:
        wait_healthy(host, server(), on_progress=lambda _text: None, interrupted=lambda: True)
    assert caught.value.exit_code == 130


def test_systemd_that_cannot_be_asked_is_an_error() -> None:
    host = FakeHost({"systemctl show": Result(1, "", "sudo: a password is required")})
    with pytest.raises(HostError, match=r"systemctl show vllm-nemotron.service failed \(rc 1\)") as caught:
        wait(host, Clock())
    assert caught.value.log == "sudo: a password is required"


def test_a_unit_that_systemd_has_yet_to_start_is_waited_for() -> None:
    host, clock = FakeHost({"systemctl show": [state("inactive", "dead", job="17"), state()]}, well), Clock()
    said: list[str] = []
    assert wait(host, clock, said) == 0.25
    assert said == ["unit inactive (dead)"]
