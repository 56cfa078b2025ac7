"""The systemd units of a schedule. Builders; writing and starting them is `systemd.py`'s."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from jinja2 import Environment, StrictUndefined, Template

from provisioner.errors import UsageError
from provisioner.fleet.durations import parse_duration
from provisioner.fleet.models import Fleet
from provisioner.plan.systemd import exec_line

Scope = Literal["user", "system"]
StartedBy = Literal["timer", "hand"]
MARK = "# X-Provision-Fleet="
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SPOOL = Path("/var/spool")
"""where a mail system's sendmail leaves mails"""


@dataclass(frozen=True)
class Place:
    """This machine, as far as units name it."""

    scope: Scope
    program: tuple[str, ...]
    """argv that is `provision`"""
    home: Path
    state: Path
    """XDG_STATE_HOME of the runs"""
    user: str | None = None
    """whose runs they are; None in a user's own units"""


def timer_name(fleet: str) -> str:
    """The unit that starts it at its time."""
    return f"provision-{fleet}.timer"


def service_name(fleet: str, by: StartedBy | None) -> str:
    """The unit that runs it; None: its template, as files are named."""
    return f"provision-{fleet}@{by or ''}.service"


def state(place: Place) -> Path:
    """Where runs are kept; the service writes there and, besides, only beside the fleet file."""
    return place.state / "provision"


def environment_file(fleet: str, place: Place) -> Path:
    """Where the service finds secrets that the fleet file refers to as `env:NAME`."""
    return place.home / ".config" / "provision" / f"{fleet}.env"


def units(fleet: Fleet, place: Place) -> dict[str, str]:
    """File name → text. UsageError where the fleet file has no `schedule: {calendar: …}`."""
    schedule = fleet.schedule
    if schedule.calendar is None:
        raise UsageError(
            f"{fleet.path}: it has no schedule.calendar", hint="for example: schedule: {calendar: Sat 02:00}"
        )
    file = fleet.path.absolute()
    mails = any(rule.email for rule in fleet.notify)
    writable = [state(place), file.parent, *([_SPOOL] if mails else [])]
    bin_path = f"{Path(place.program[0]).parent}:{_SYSTEM_PATH}"
    service = _template("schedule.service.j2").render(
        fleet=file,
        name=fleet.name,
        system=place.scope == "system",
        user=place.user,
        exec=exec_line([*place.program, "schedule", "run", str(file)]),
        folder=_path(file.parent),
        environment=[
            _quoted(f"PATH={bin_path}"),
            _quoted(f"XDG_STATE_HOME={place.state}"),
            _quoted(f"ANSIBLE_HOME={state(place) / 'ansible'}"),
        ],
        environment_file=_path(environment_file(fleet.name, place)),
        mails=mails,
        writable=[_quoted(f"-{path}") for path in writable],
    )
    timer = _template("schedule.timer.j2").render(
        fleet=file,
        name=fleet.name,
        calendar=" ".join(filter(None, [schedule.calendar, schedule.time_zone])),
        jitter_s=parse_duration(schedule.jitter),
        service=service_name(fleet.name, "timer"),
    )
    return {service_name(fleet.name, None): service, timer_name(fleet.name): timer}


def fleet_of(text: str) -> Path | None:
    """The fleet file that a unit was written from; None for one that is not ours."""
    found = next((line for line in text.splitlines() if line.startswith(MARK)), None)
    return Path(found.removeprefix(MARK)) if found else None


def _path(path: Path) -> str:
    """A path as a whole value: systemd expands specifiers in it, and nothing else."""
    return str(path).replace("%", "%%")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


@cache
def _template(name: str) -> Template:
    environment = Environment(  # noqa: S701 - the output is a unit file, not HTML
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    text = resources.files("provisioner.rollout").joinpath("templates", name).read_text(encoding="utf-8")
    return environment.from_string(text)
