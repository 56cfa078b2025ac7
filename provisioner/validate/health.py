"""Waiting until a server answers /health: bounded, and no longer than there is hope."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable, Iterable

from provisioner.errors import HostError
from provisioner.fleet.base import Frozen
from provisioner.history.redact import redact
from provisioner.hosts.transport import Transport
from provisioner.plan.model import Server
from provisioner.validate.api import describe, request
from provisioner.validate.interrupt import Interrupted, stop_if
from provisioner.validate.remote import UnitState, last_log, unit_state

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 2.0
REQUEST_TIMEOUT_S = 5.0
RESTARTS_ALLOWED = 2
"""how often systemd may start the server again while we wait; one that dies more often will not come up"""
_PREFIX = re.compile(r"^\(\w+ pid=\d+\)\s*([A-Z]+ [\d-]+ [\d:]+ \[[^]]+\]\s*)?")
"""what vLLM puts before its words: process, level, time, file"""

Progress = Callable[[str], None]


class Healthy(Frozen):
    """A server that answers. `seconds` is how long it was waited for."""

    seconds: float


def wait_healthy(
    transport: Transport,
    server: Server,
    *,
    on_progress: Progress,
    secrets: Iterable[str] = (),
    interrupted: Interrupted = lambda: False,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Healthy:
    """Poll the unit and /health until both are well, at most `server.health_timeout_s` seconds.

    `on_progress` hears what is being waited for, whenever that changes. HostError, with the last lines of the server's
    log, when the time is over or the unit gave up. `pause` and `clock` are replaced by tests.
    """
    secrets = tuple(secrets)
    start = clock()
    wait = FIRST_PAUSE_S
    first_restarts: int | None = None
    said = ""
    while True:
        stop_if(interrupted)
        state = unit_state(transport, server.unit)
        if first_restarts is None:
            first_restarts = state.restarts
        if reason := hopeless(state, first_restarts):
            raise _failure(transport, server, reason, clock() - start, secrets)
        seen = _health(transport, server)
        if seen == "" and state.active == "active":
            return Healthy(seconds=round(clock() - start, 2))
        seconds = clock() - start
        if seconds >= server.health_timeout_s:
            reason = f"{describe(server, '/health')} did not answer 200 (last: {seen or f'200, unit {state.active}'})"
            raise _failure(transport, server, reason, seconds, secrets)
        text = redact(_progress(state, seen), secrets)
        if text != said:
            on_progress(text)
            said = text
        pause(min(wait, server.health_timeout_s - seconds))
        wait = min(wait * 1.5, LONGEST_PAUSE_S)


def hopeless(state: UnitState, first_restarts: int) -> str:
    """Why waiting longer makes no sense; "" while it does."""
    if state.load != "loaded":
        return f"the unit is not there (LoadState={state.load or 'unknown'})"
    if state.active == "failed":
        return f"the unit failed (Result={state.result}, restarts {state.restarts})"
    if state.active == "inactive" and not state.queued:
        return f"the unit is stopped (Result={state.result})"
    restarted = state.restarts - first_restarts
    if restarted > RESTARTS_ALLOWED:
        return f"the server died and was started again {restarted} times"
    return ""


def _health(transport: Transport, server: Server) -> str:
    """What /health said other than 200; "" when it said that."""
    try:
        answer = request(transport, server, "/health", timeout_s=REQUEST_TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        # Refused, reset or closed: what a server that is still loading looks like.
        return str(error) or type(error).__name__
    return "" if answer.status == 200 else f"HTTP {answer.status}"


def _progress(state: UnitState, seen: str) -> str:
    if state.active != "active":
        return f"unit {state.active} ({state.sub})"
    return _PREFIX.sub("", state.last_line) or seen


def _failure(transport: Transport, server: Server, reason: str, seconds: float, secrets: tuple[str, ...]) -> HostError:
    return HostError(
        f"{server.unit} is not healthy: {reason}; waited {seconds:.0f} s of at most {server.health_timeout_s} s"
        f" for {describe(server, '/health')}",
        hint=f"the last lines of its log are below; all of it: journalctl --unit {server.unit}",
        log=last_log(transport, server.unit, secrets),
    )
