"""This machine's systemd: putting units in place, asking it about them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import HostError, UsageError
from provisioner.rollout.timer import Scope, fleet_of, service_name, timer_name

TIMEOUT_S = 60


@dataclass(frozen=True)
class Installed:
    """A schedule that systemd knows."""

    name: str
    """of its fleet"""
    scope: Scope
    fleet: Path
    """the file"""
    next: str
    """when it begins next, as systemd says it; "" where it does not"""
    last: str
    """when it began last; "" where it never did"""
    result: str
    """how that ended: success, exit-code …; running"""


class Manager:
    """systemd of the machine or of this user."""

    def __init__(self, scope: Scope, folder: Path | None = None) -> None:
        self.scope = scope
        self.folder = folder or (_user_folder() if scope == "user" else Path("/etc/systemd/system"))

    def install(self, name: str, files: Mapping[str, str]) -> bool:
        """Puts the units there and starts the timer; whether anything was new. UsageError where they are another
        fleet file's."""
        fleet = fleet_of(next(iter(files.values())))
        for file in files:
            path = self.folder / file
            there = fleet_of(path.read_text(encoding="utf-8")) if path.exists() else fleet
            if there != fleet:
                raise UsageError(
                    f"{path} is there already, of {there or 'somebody else'}",
                    hint="two fleets have the same name: give this one another with `name:`",
                )
        new = [file for file, text in files.items() if not _says(self.folder / file, text)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for file in new:
                _write(self.folder / file, files[file])
        except OSError as error:
            hint = "as root, or for yourself with --user" if self.scope == "system" else None
            raise UsageError(
                f"{error.filename or self.folder}: cannot be written: {error.strerror}", hint=hint
            ) from error
        if new:
            self._ctl("daemon-reload")
        self._ctl("enable", "--now", timer_name(name))
        if new:
            self._ctl("restart", timer_name(name))  # a timer that runs goes by its old time
        return bool(new)

    def remove(self, name: str) -> bool:
        """Whether there was anything to remove. A run that is under way goes on."""
        files = [
            path for path in (self.folder / timer_name(name), self.folder / service_name(name, None)) if path.exists()
        ]
        if not files:
            return False
        self._ctl("disable", "--now", timer_name(name))
        for path in files:
            path.unlink()
        self._ctl("daemon-reload")
        return True

    def start(self, name: str) -> str:
        """Starts the run now, and does not wait for it; gives the unit's name."""
        if not (self.folder / service_name(name, None)).exists():
            raise UsageError(f"fleet {name} has no schedule here", hint="provision schedule install FLEET")
        unit = service_name(name, "hand")
        self._ctl("start", "--no-block", unit)
        return unit

    def installed(self) -> tuple[Installed, ...]:
        """Every schedule, by name."""
        found = []
        for path in sorted(self.folder.glob("provision-*.timer")):
            fleet = fleet_of(path.read_text(encoding="utf-8"))
            if fleet is not None:
                name = path.name.removeprefix("provision-").removesuffix(".timer")
                found.append(self._about(name, fleet))
        return tuple(found)

    def journal(self, unit: str) -> str:
        """The command that shows what a unit said."""
        return f"journalctl {'--user ' if self.scope == 'user' else ''}-u {unit} -f"

    def _about(self, name: str, fleet: Path) -> Installed:
        timer = self._show(timer_name(name), "NextElapseUSecRealtime", "LastTriggerUSec")
        service = self._show(service_name(name, "timer"), "ActiveState", "Result", "ExecMainStatus")
        last, result = timer.get("LastTriggerUSec", ""), service.get("Result", "")
        if service.get("ActiveState") in ("activating", "active"):
            result = "running"
        elif result == "exit-code":
            result = f"exit code {service.get('ExecMainStatus', '?')}"
        return Installed(
            name, self.scope, fleet, timer.get("NextElapseUSecRealtime", ""), last, result if last else "never ran"
        )

    def _show(self, unit: str, *properties: str) -> dict[str, str]:
        told = self._ctl("show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)

    def _ctl(self, *words: str) -> str:
        return _run(["systemctl", *(["--user"] if self.scope == "user" else []), "--no-ask-password", *words])


def check_calendar(calendar: str) -> None:
    """UsageError where this machine's systemd does not take it; nothing where it cannot be asked."""
    if shutil.which("systemd-analyze") is None:
        return
    done = subprocess.run(
        ["systemd-analyze", "calendar", calendar], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        raise UsageError(f"this machine's systemd does not take the calendar: {words[0]}")


def lingers(user: str) -> bool | None:
    """Whether a user's units run while nobody is logged in; None where it cannot be told."""
    try:
        return _run(["loginctl", "show-user", user, "--property=Linger"]).strip() == "Linger=yes"
    except (HostError, UsageError):
        return None


def _run(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(list(argv), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise UsageError(
            f"this machine has no {argv[0]}", hint="without systemd, cron does it: see docs/schedule.md"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"`{' '.join(argv)}` did not end within {TIMEOUT_S} s") from error
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or ["it says nothing"]
        raise HostError(f"`{' '.join(argv)}` failed (rc {done.returncode}): {words[-1]}", log=done.stderr)
    return done.stdout


def _user_folder() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "systemd" / "user"


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(path)
