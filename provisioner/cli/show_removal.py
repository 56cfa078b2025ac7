"""What `destroy` would do and has done, as text and JSON. Builders; nothing is printed here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from provisioner.apply.runner import HostResult
from provisioner.cli.show import some
from provisioner.errors import Exit
from provisioner.rollout.removal import HostLook


def listing(seen: Sequence[HostLook]) -> str:
    """Host by host what goes and what stays, and why."""
    lines = [""]
    for one in seen:
        if one.removal is None:
            continue
        lines.append(one.host.name)
        lines += [f"  - {what}" for what in one.removal.goes]
        lines += [f"  = stays: {what}" for what in one.removal.stays]
        if not one.removal.goes and not one.removal.stays:
            lines.append("  nothing of ours is here")
    return "\n".join(lines)


def problems(seen: Sequence[HostLook]) -> str:
    """Hosts that nobody can tell anything about."""
    return "\n".join(str(one.error) for one in seen if one.error)


def started(seen: Sequence[HostLook]) -> str:
    """One line about a removal that begins."""
    names = [one.host.name for one in seen if one.work]
    return f"a removal begins on {len(names)} of {_hosts(len(seen))}: {some(names)}"


def ended(code: Exit, results: Sequence[HostResult]) -> str:
    """One line about a removal that is over, and one for each host that failed."""
    failed = [result for result in results if result.state != "ok"]
    done = f"{len(results) - len(failed)} of {_hosts(len(results))} cleared"
    if code == Exit.OK:
        return f"a removal has ended well: {done}"
    word = "was interrupted" if code == Exit.INTERRUPTED else f"has failed (exit code {int(code)})"
    first = [f"{one.host}: {one.state}: {(one.message.splitlines() or [''])[0]}" for one in failed[:10]]
    more = [f"and {len(failed) - 10} more"] if len(failed) > 10 else []
    return "\n".join([f"a removal {word}" + (f": {done}" if results else ""), *first, *more])


def outcome(seen: Sequence[HostLook], results: Sequence[HostResult], run_dir: Path | None) -> str:
    """What became of every host."""
    failed = [result for result in results if result.state != "ok"]
    lines = [""]
    for result in failed:
        first, *rest = result.message.splitlines() or [""]
        lines += [f"{result.host}: {result.state}: {first}", *(f"    {line}" for line in rest)]
    done = len(results) - len(failed)
    lines.append(f"{done} of {_hosts(len(seen))} cleared ({len(seen) - len(results)} had nothing of ours to take away)")
    if run_dir:
        lines.append(f"record: {run_dir}")
    return "\n".join(lines)


def as_json(seen: Sequence[HostLook], results: Sequence[HostResult], run_dir: Path | None) -> str:
    """The same for programs; `state` is null where nothing was done."""
    states = {result.host: result for result in results}
    hosts = {
        one.host.name: {
            "goes": list(one.removal.goes) if one.removal else [],
            "stays": list(one.removal.stays) if one.removal else [],
            "problem": str(one.error) if one.error else None,
            "state": states[one.host.name].state if one.host.name in states else None,
            "message": states[one.host.name].message if one.host.name in states else "",
        }
        for one in seen
    }
    return json.dumps({"run": str(run_dir) if run_dir else None, "hosts": hosts}, indent=1)


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"
