"""Small questions that validation asks a host: commands as text, and the parsers of what they print."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence

from provisioner.errors import HostError
from provisioner.fleet.base import Frozen
from provisioner.history.redact import redact
from provisioner.history.verdict import ImageSeen
from provisioner.hosts.transport import Transport

LOG_LINES = 40
SEARCHED_LINES = 400
ERROR_LINES = 5
_ERROR = re.compile(r"(^|[\s.])\w*(Error|Exception): |\bERROR\b.*(Error|Exception)\b|CUDA out of memory")
COMMAND_TIMEOUT_S = 60.0
ENGINE_LABEL = "provision.engine"
BUILD_LABEL = "provision.build"
"""labels that say what an image really holds; the rehearsal fleet's images have them"""


class UnitState(Frozen):
    """What `systemctl show` says of a unit at one moment, and the last line it logged."""

    load: str
    active: str
    sub: str
    result: str
    restarts: int
    queued: bool = False
    """systemd is about to start or stop it, as while the machine boots"""
    last_line: str = ""


def as_root(argv: Sequence[str]) -> str:
    """The command line that runs `argv` as root without asking for a password."""
    return "sudo -n " + shlex.join(argv)


def unit_state_command(unit: str) -> str:
    """One round trip: the state of the unit, an empty line, its last log line."""
    show = ["systemctl", "show", unit, "--property=LoadState,ActiveState,SubState,Result,NRestarts,Job"]
    return f"{as_root(show)} && echo && {as_root(_journal(unit, 1))}"


def parse_unit_state(text: str) -> UnitState:
    """What `unit_state_command` printed."""
    properties, _, log = text.partition("\n\n")
    values = dict(line.split("=", 1) for line in properties.splitlines() if "=" in line)
    return UnitState(
        load=values.get("LoadState", ""),
        active=values.get("ActiveState", ""),
        sub=values.get("SubState", ""),
        result=values.get("Result", ""),
        restarts=int(values.get("NRestarts") or 0),
        queued=bool(values.get("Job")),
        last_line=log.strip(),
    )


def unit_state(transport: Transport, unit: str) -> UnitState:
    """The unit's state now; HostError when systemd cannot be asked."""
    result = transport.run(unit_state_command(unit), timeout_s=COMMAND_TIMEOUT_S)
    if result.rc != 0:
        raise HostError(f"systemctl show {unit} failed (rc {result.rc})", log=result.stderr.strip())
    return parse_unit_state(result.stdout)


def last_log(transport: Transport, unit: str, secrets: Iterable[str]) -> str:
    """The last lines of the unit's journal and the errors a little further up, secrets redacted. `docker run` is in
    the foreground of the unit, so the container's own output is in it."""
    result = transport.run(as_root(_journal(unit, SEARCHED_LINES)), timeout_s=COMMAND_TIMEOUT_S)
    if result.rc != 0:
        return redact(f"journalctl failed (rc {result.rc}): {result.stderr.strip()}", secrets)
    return redact(shorten(result.stdout), secrets)


def shorten(log: str) -> str:
    """The last LOG_LINES lines. vLLM tells the cause of a failure ("See root cause above") before a long traceback of
    its consequences: the error lines of what is cut off come first."""
    lines = log.strip().splitlines()
    head, tail = lines[:-LOG_LINES], lines[-LOG_LINES:]
    errors = list(dict.fromkeys(line for line in head if _ERROR.search(line)))[-ERROR_LINES:]
    return "\n".join(["errors further up:", *errors, "last lines:", *tail] if errors else tail)


def image_seen(transport: Transport, container: str, reference: str) -> ImageSeen:
    """The image that a running container really has, whatever the plan says; HostError when it cannot be told."""
    found = transport.run(
        as_root(["docker", "container", "inspect", "--format", "{{.Image}}", container]), timeout_s=COMMAND_TIMEOUT_S
    )
    if found.rc != 0:
        raise HostError(f"container {container} is not on the host", log=found.stderr.strip())
    image = transport.run(as_root(["docker", "image", "inspect", found.stdout.strip()]), timeout_s=COMMAND_TIMEOUT_S)
    if image.rc != 0:
        raise HostError(f"the image of container {container} cannot be inspected", log=image.stderr.strip())
    return parse_image(reference, image.stdout)


def parse_image(reference: str, text: str) -> ImageSeen:
    """What `docker image inspect` printed. The digest is the one of the registry that `reference` names."""
    image = json.loads(text)[0]
    digests = dict(digest.split("@", 1) for digest in image.get("RepoDigests") or ())
    labels = (image.get("Config") or {}).get("Labels") or {}
    return ImageSeen(
        reference=reference,
        id=image["Id"],
        digest=digests.get(_repository(reference)),
        engine=labels.get(ENGINE_LABEL),
        build=labels.get(BUILD_LABEL),
    )


def _repository(reference: str) -> str:
    """A reference without its tag or digest; a colon before a slash belongs to a registry's port."""
    name = reference.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name


def _journal(unit: str, lines: int) -> list[str]:
    return ["journalctl", "--unit", unit, "--lines", str(lines), "--output", "cat", "--no-pager", "--quiet"]
