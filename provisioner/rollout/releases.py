"""Releases on a host: keeping them, reading them, naming the one that serves.

`/var/lib/vllm/release` names the one that serves; `/var/lib/vllm/releases/<id>.json` holds each as a whole.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from provisioner.errors import HostError
from provisioner.hosts.transport import Result, Transport
from provisioner.plan.model import HostPlan
from provisioner.plan.release import CURRENT, Current, Release, parsed_current, release_id

FOLDER = "/var/lib/vllm/releases"
KEPT = 5
"""releases that stay on a host, those that served last"""
_TIMEOUT_S = 30.0


def accept(transport: Transport, plan: HostPlan, run: str) -> Release:
    """Makes the plan the release of its host. Raises HostError when the host cannot keep it."""
    made = Release(id=release_id(plan), accepted_at=datetime.now(UTC), run=run, plan=plan)
    path = f"{FOLDER}/{made.id}.json"
    script = f"umask 022; mkdir -p {FOLDER} && cat > {path}.new && mv {path}.new {path} && {_named(made)}"
    _must(_root(transport, script, stdin=made.model_dump_json()), transport.host, "keep its release")
    return made


def name(transport: Transport, release: Release) -> None:
    """Makes a release that the host keeps the one that serves."""
    _must(_root(transport, _named(release)), transport.host, "name its release")


def read(transport: Transport, release: str) -> Release:
    """A release that the host keeps. Raises HostError when it does not, or when another version wrote it."""
    result = _root(transport, f"cat {FOLDER}/{shlex.quote(release)}.json")
    if result.rc != 0:
        names = ", ".join(one.id for one in kept(transport).releases) or "none"
        raise HostError(f"{transport.host}: has no release {release}; it keeps: {names}")
    return _parsed(result.stdout, transport.host, release)


@dataclass(frozen=True)
class Kept:
    """The releases of a host."""

    serving: str | None
    """id of the one that it serves; None before the first"""
    releases: tuple[Release, ...]
    """the one accepted last first"""

    @property
    def before(self) -> Release | None:
        """The one before that which it serves."""
        ids = [one.id for one in self.releases]
        at = ids.index(self.serving) + 1 if self.serving in ids else len(ids)
        return self.releases[at] if at < len(ids) else None


def kept(transport: Transport) -> Kept:
    """All that the host keeps. Raises HostError for one that cannot be read."""
    script = (
        f"cat {CURRENT} 2> /dev/null || echo; "
        f"for file in {FOLDER}/*.json; do test -e $file || continue; tr -d '\\n' < $file; echo; done"
    )
    result = _must(_root(transport, script), transport.host, "list its releases")
    first, _, rest = result.stdout.partition("\n")
    found = [
        _parsed(line, transport.host, "") for line in rest.split("\n") if line.strip()
    ]  # texts hold other separators of lines
    serving = parsed_current(first)
    ordered = sorted(found, key=lambda release: release.accepted_at, reverse=True)
    return Kept(serving.id if serving else None, tuple(ordered))


def _named(release: Release) -> str:
    text = Current(id=release.id, images=tuple(image.reference for image in release.plan.images)).model_dump_json()
    return (
        f"printf '%s\\n' {shlex.quote(text)} > {CURRENT}.new && mv {CURRENT}.new {CURRENT}"
        # Those that served last stay; touched here, this one is among them.
        f" && touch {FOLDER}/{release.id}.json && ls -t {FOLDER}/*.json | tail -n +{KEPT + 1} | xargs -r rm --"
    )


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
