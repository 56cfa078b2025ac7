"""A host's lease: who is changing it, seen by every control machine. One round trip a question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from pydantic import ConfigDict, ValidationError

from provisioner.errors import HostError
from provisioner.fleet.base import Frozen
from provisioner.hosts.lease_script import BEGIN, END
from provisioner.hosts.probe import LAUNCH
from provisioner.hosts.transport import Transport

FOLDER = "/run/provision"
"""gone with a boot, as is whatever a run was doing; nothing of it is left on a disk"""
FILE = f"{FOLDER}/lease.json"
TIMEOUT_S = 45.0


class Who(Frozen):
    """Whose lease it is."""

    user: str
    machine: str
    """name of the control machine"""
    control: str
    """a word of its own for each user's state directory on each control machine"""
    fleet: str
    run: str


class Holder(Who):
    """A lease as the host has it; another version of this program may have written more of it."""

    model_config = ConfigDict(extra="ignore")
    token: str
    since: str
    """when it was taken, by the host's clock: 2026-11-24T15:02:11Z"""
    left_s: float
    """seconds until it expires, unless it is renewed"""

    def __str__(self) -> str:
        return f"{self.user} on {self.machine}, run {self.run} of fleet {self.fleet}, since {self.since}"


class Answer(Frozen):
    """What the host said."""

    done: bool
    holder: Holder | None
    """who has it; of one that was just released or unlocked: who had it"""
    last: str
    """token of the lease before; "" where none is known"""
    unlocked: str
    """who ended the last lease by hand, and why; "" where nobody did"""
    boot: str
    """id of the host's boot"""


def take(transport: Transport, token: str, who: Who, for_s: float, over: str = "") -> Answer:
    """Takes the lease where it is free, expired, or of a run of the same fleet and control machine. `over`: token of a
    lease whose run is known to be dead."""
    return _ask(transport, act="take", token=token, who=who.model_dump(), for_s=for_s, over=over)


def renew(transport: Transport, token: str, who: Who, for_s: float, boot: str = "") -> Answer:
    """Keeps the lease for `for_s` more seconds; not done when it is somebody else's by now, or was ended by hand.
    `boot`: in which of the host's it was taken; in that one, a lease of which nothing is left has been another's."""
    return _ask(transport, act="renew", token=token, who=who.model_dump(), for_s=for_s, boot=boot)


def release(transport: Transport, token: str, *, clear: bool = False) -> Answer:
    """Gives it back; harmless where it is not ours. `clear`: nothing that tells of it stays on the host."""
    return _ask(transport, act="release", token=token, clear=clear)


def unlock(transport: Transport, why: str) -> Answer:
    """Ends whoever's lease; that run stops when it next renews it."""
    return _ask(transport, act="unlock", unlocked=why)


def mark(content: str | None) -> str | None:
    """What of the lease's file, as a probe read it, tells whether the host was leased since: the last lease. None when
    it is leased at that moment, or the file says nothing."""
    try:
        file = json.loads(content or "{}")
        return None if file.get("holder") else str(file.get("last", ""))
    except (ValueError, AttributeError):
        return None


def seen(content: str | None, uptime_s: float | None) -> Holder | None:
    """Whose lease the file tells of, as a probe read it when the host was up for so long. None when it is nobody's, or
    has expired; of a host that does not tell its time, none has."""
    try:
        holder = json.loads(content or "{}").get("holder")
        if not holder:
            return None
        left_s = float(holder["until"]) - uptime_s if uptime_s is not None else 0.0
        return None if left_s < 0 else Holder.model_validate({**holder, "left_s": left_s})
    except (ValueError, AttributeError, KeyError, TypeError):
        return None  # nothing that we wrote


def by_holder(words: Mapping[str, str]) -> list[str]:
    """Hosts and who has them, a line for each of these."""
    hosts: dict[str, list[str]] = {}
    for host, who in sorted(words.items()):
        hosts.setdefault(who, []).append(host)
    return [f"{_named(names)}: {who}" for who, names in hosts.items()]


def _named(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:5]) + (f" and {len(hosts) - 5} more" if len(hosts) > 5 else "")


def script(**request: Any) -> str:
    """What the host's python3 is given."""
    text = resources.files("provisioner.hosts").joinpath("lease_script.py").read_text(encoding="utf-8")
    return f"{text}\nmain(json.loads({json.dumps({'folder': FOLDER, **request})!r}))\n"


def _ask(transport: Transport, **request: Any) -> Answer:
    result = transport.run(LAUNCH, stdin=script(**request), timeout_s=TIMEOUT_S)
    _, begin, rest = result.stdout.partition(BEGIN + "\n")
    text, end, _ = rest.partition("\n" + END)
    try:
        if not begin or not end:
            raise ValueError
        return Answer.model_validate_json(text)
    except (ValueError, ValidationError) as error:
        words = result.stderr.strip().splitlines() or ["it printed nothing"]
        raise HostError(f"{transport.host}: its lease cannot be had: {words[-1]}", log=result.stderr) from error
