"""What `provision schedule` does."""

from __future__ import annotations

import getpass
import json as jsonlib
import os
import pwd
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from platformdirs import user_state_path

from provisioner.cli import show_drift
from provisioner.cli.apply import ApplyFlags, apply
from provisioner.cli.columns import columns
from provisioner.cli.console import out, say
from provisioner.errors import Exit, HostError, ProvisionError, UsageError
from provisioner.fleet.durations import parse_duration
from provisioner.fleet.load import load_fleet
from provisioner.fleet.models import Fleet
from provisioner.fleet.schedule import opening
from provisioner.history.store import open_store
from provisioner.inventory.read import read_inventory
from provisioner.rollout.deadline import Deadline
from provisioner.rollout.drift import drift_of, remembered
from provisioner.rollout.notify import Notifier
from provisioner.rollout.survey import Survey
from provisioner.rollout.systemd import Installed, Manager, check_calendar, lingers
from provisioner.rollout.timer import Place, Scope, environment_file, state, timer_name, units

_NONE = "–"


def install(path: Path, *, system: bool, run_as: str | None, print_only: bool) -> None:
    """Writes the units and starts the timer."""
    fleet = load_fleet(path, read_inventory)
    place = _place(system=system, run_as=run_as)
    files = units(fleet, place)
    if print_only:
        out("\n".join(f"# {name}\n{text}" for name, text in files.items()))
        return
    check_calendar(" ".join(filter(None, [fleet.schedule.calendar, fleet.schedule.time_zone])))
    _own_folder(state(place), place.user)
    manager = Manager(place.scope)
    new = manager.install(fleet.name, files)
    say(f"{manager.folder / timer_name(fleet.name)}: {'installed' if new else 'nothing to change'}")
    out(_table([one for one in manager.installed() if one.name == fleet.name]))
    if _refers_to_environment(fleet):
        say(f"secrets that are env:NAME in the fleet file come from {environment_file(fleet.name, place)}")
    user = getpass.getuser()
    if place.scope == "user" and lingers(user) is False:
        say(f"warning: it runs only while you are logged in; `sudo loginctl enable-linger {user}` changes that")


def list_all(*, json: bool) -> None:
    """Those of the machine, then those of this user."""
    found: list[Installed] = []
    for scope in get_args(Scope):
        manager = Manager(scope)
        try:
            found += manager.installed()
        except HostError as error:  # a user without a systemd of his own, as in a container
            say(f"warning: {scope} units: {error.message}")
    if json:
        out(jsonlib.dumps([{**asdict(one), "fleet": str(one.fleet)} for one in found], indent=1))
    else:
        out(_table(found) if found else "nothing is scheduled here")


def remove(path: Path, *, system: bool) -> None:
    """Takes the timer away."""
    name = load_fleet(path, read_inventory).name
    gone = Manager("system" if system else "user").remove(name)
    out(f"fleet {name}: {'no longer scheduled' if gone else 'was not scheduled'}")


def run_now(path: Path, *, system: bool) -> None:
    """Starts the service and says where it can be watched."""
    name = load_fleet(path, read_inventory).name
    manager = Manager("system" if system else "user")
    unit = manager.start(name)
    out(f"{unit} is started; watch it with: {manager.journal(unit)}")


def run(path: Path, started_by: str) -> Exit:
    """Within the window, brings the fleet to its plan where it is not; says what is not as planned in any case.

    Hosts that cannot be reached or are unfit do not hold up the others: nobody is there to mend them.
    """
    if started_by not in ("timer", "hand"):
        raise UsageError(f"--started-by {started_by}: expected timer or hand")
    environment = dict(os.environ)
    fleet = load_fleet(path, read_inventory)
    deadline = None
    if started_by == "timer":
        window = opening(fleet.schedule, datetime.now(UTC))
        if window and window.latest_start and datetime.now(UTC) > window.latest_start:
            say(
                f"too late: planned for {window.planned:%a %Y-%m-%d %H:%M}, not to begin after "
                f"{window.latest_start:%H:%M} ({window.latest_start.tzname()}); nothing was done"
            )
            return Exit.OK
        if window and window.latest_end:
            deadline = Deadline(window.latest_end, parse_duration(fleet.schedule.wave_time))
    flags = ApplyFlags(
        yes=True,
        hosts=(),
        keep_going=True,
        smoke=False,
        strategy="mitogen_free",
        diff=False,
        update_lock=fleet.schedule.lock == "update",
        bundle=None,
        json=False,
        deadline=deadline,
        on_survey=_report_drift,
    )
    before = _last_run(fleet)
    try:
        code, why = apply(path, flags), "hosts cannot be provisioned as they are"
    except ProvisionError as error:
        _tell_failure(fleet, before, environment, str(error), error.exit_code)
        raise
    if code not in (Exit.OK, Exit.INTERRUPTED):
        _tell_failure(fleet, before, environment, why, code)
    return code


def _report_drift(seen: Survey) -> None:
    with open_store() as store:
        found = remembered(drift_of(seen), store)
    say(show_drift.text(found))


def _tell_failure(fleet: Fleet, before: str | None, environment: dict[str, str], why: str, code: int) -> None:
    """A run tells by itself how it ended; of one that never began, this does."""
    if _last_run(fleet) != before:
        return
    notifier = Notifier(fleet.notify, fleet=fleet.name, run="", warn=say, environment=environment)
    notifier.tell("failed", f"the scheduled run did nothing: {why}", exit_code=int(code))


def _last_run(fleet: Fleet) -> str | None:
    with open_store(read_only=True) as store:
        return next((run.id for run in store.runs(fleet.name, limit=1)), None)


def _place(*, system: bool, run_as: str | None) -> Place:
    beside = Path(sys.executable).parent / "provision"
    program = (str(beside),) if beside.exists() else (sys.executable, "-m", "provisioner.cli.main")
    if not system:
        if run_as:
            raise UsageError("--run-as is for --system: a user's own units are run as that user")
        return Place("user", program, Path.home(), user_state_path())
    try:
        account = pwd.getpwnam(run_as) if run_as else pwd.getpwuid(os.getuid())
    except KeyError as error:
        raise UsageError(f"--run-as {run_as}: there is no such user") from error
    own = account.pw_uid == os.getuid()
    home = Path(account.pw_dir)
    return Place("system", program, home, user_state_path() if own else home / ".local" / "state", account.pw_name)


def _own_folder(path: Path, user: str | None) -> None:
    """A folder of that user's: the service may write in it, and could not make it."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None and os.getuid() == 0:
            account = pwd.getpwnam(user)
            for one in missing:
                os.chown(one, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise UsageError(f"{path}: cannot be made: {error.strerror or error}") from error


def _refers_to_environment(fleet: Fleet) -> bool:
    text = fleet.model_dump_json(include={"hub", "docker", "servers", "placed", "notify"})
    return '"env:' in text


def _table(found: list[Installed]) -> str:
    head = ("fleet", "next", "last", "result", "units of", "file")
    rows = [(one.name, one.next or _NONE, one.last or _NONE, one.result, one.scope, str(one.fleet)) for one in found]
    return "\n".join(columns([head, *rows]))
