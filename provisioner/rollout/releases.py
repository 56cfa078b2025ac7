"""Releases of a host: every host plan that passed its gate here, kept on the host so that it can come back.

`/var/lib/vllm/release` names the one that serves; `/var/lib/vllm/releases/<id>.json` holds each as a whole. A release
holds references to secrets, never secrets.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from datetime import UTC, datetime

from pydantic import ValidationError

from provisioner.errors import HostError
from provisioner.fleet.base import Frozen
from provisioner.hosts.transport import Result, Transport
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan

CURRENT = "/var/lib/vllm/release"
FOLDER = "/var/lib/vllm/releases"
KEPT = 5
"""releases that stay on a host, the newest ones"""
_TIMEOUT_S = 30.0


class Release(Frozen):
    """One host plan that passed its gate."""

    id: str
    accepted_at: datetime
    run: str
    """the run that brought it"""
    plan: HostPlan


def release_id(plan: HostPlan) -> str:
    """The same for plans that make a host the same; what is merely said about it does not count."""
    text = plan.model_dump_json(exclude={"warnings"})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def current(facts: Facts) -> str | None:
    """Id of the release that the host serves, as the probe saw it; None before the first."""
    content = next((file.content for file in facts.files if file.path == CURRENT), None)
    return (content or "").strip() or None


def accept(transport: Transport, plan: HostPlan, run: str) -> Release:
    """Makes the plan the release of its host. Raises HostError when the host cannot keep it."""
    made = Release(id=release_id(plan), accepted_at=datetime.now(UTC), run=run, plan=plan)
    path = f"{FOLDER}/{made.id}.json"
    script = (
        f"umask 022; mkdir -p {FOLDER} && cat > {path}.new && mv {path}.new {path}"
        f" && echo {made.id} > {CURRENT}.new && mv {CURRENT}.new {CURRENT}"
        # the newest stay; touched above, the current one is among them
        f" && ls -t {FOLDER}/*.json | tail -n +{KEPT + 1} | xargs -r rm --"
    )
    _must(_root(transport, script, stdin=made.model_dump_json(indent=1)), transport.host, "keep its release")
    return made


def read(transport: Transport, release: str) -> Release:
    """A release that the host keeps. Raises HostError when it does not, or when another version wrote it."""
    result = _root(transport, f"cat {FOLDER}/{shlex.quote(release)}.json")
    if result.rc != 0:
        kept = ", ".join(one.id for one in kept_releases(transport)) or "none"
        raise HostError(f"{transport.host}: has no release {release}; it keeps: {kept}")
    return _parsed(result.stdout, transport.host, release)


def kept_releases(transport: Transport) -> tuple[Release, ...]:
    """All that the host keeps, newest first."""
    script = f"for file in {FOLDER}/*.json; do test -e $file || continue; tr -d '\\n' < $file; echo; done"
    result = _must(_root(transport, script), transport.host, "list its releases")
    found = [_parsed(line, transport.host, "") for line in result.stdout.splitlines() if line.strip()]
    return tuple(sorted(found, key=lambda release: release.accepted_at, reverse=True))


def _parsed(text: str, host: str, release: str) -> Release:
    try:
        return Release.model_validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        what = f"release {release}" if release else "a release"
        raise HostError(
            f"{host}: {what} cannot be read: another version of this program wrote it, or it was changed by hand",
            hint=f"it is in {FOLDER} on the host",
        ) from error


def _root(transport: Transport, script: str, stdin: str | None = None) -> Result:
    return transport.run(f"sudo -n sh -c {shlex.quote(script)}", stdin=stdin, timeout_s=_TIMEOUT_S)


def _must(result: Result, host: str, what: str) -> Result:
    if result.rc != 0:
        raise HostError(f"{host}: cannot {what}", log=result.stderr)
    return result
