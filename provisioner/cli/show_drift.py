"""Drift as text and JSON. Builders; nothing is printed here."""

from __future__ import annotations

import json

from provisioner.cli.show_history import moment
from provisioner.history.drift import Drift, HostDrift
from provisioner.plan.lock import short

_SIGNS = {"differs": "~", "unproven": "?", "unfit": "!", "unreachable": "!"}


def text(drift: Drift) -> str:
    """Every host that is not as planned, and a line that counts them."""
    lines = [line for host in drift.hosts if host.deviations for line in _host(host)]
    unknown = sum(not host.seen for host in drift.hosts)
    drifted = sum(bool(host.deviations) for host in drift.hosts if host.seen)
    parts = [f"{len(drift.hosts) - unknown - drifted} as planned", f"{drifted} not as planned"]
    parts += [f"{unknown} not looked at"] if unknown else []
    count = f"{len(drift.hosts)} host" + ("" if len(drift.hosts) == 1 else "s")
    return "\n".join([*lines, f"{count}: {', '.join(parts)}"])


def as_json(drift: Drift) -> str:
    """The same for programs."""
    return json.dumps(drift.model_dump(mode="json"), indent=1)


def _host(host: HostDrift) -> list[str]:
    lines = [host.host]
    for one in host.deviations:
        first, *rest = one.reason.splitlines()
        since = f" (since {moment(one.since)})" if one.since else ""
        lines.append(f"  {_SIGNS[one.kind]} {short(one.subject)}: {first}{since}")
        lines += [f"      {line.strip()}" for line in rest]
    return lines
