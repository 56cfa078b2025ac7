"""`provision schedule`: what it does with systemd, for which a stand-in keeps what it was told; and what a run does."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from builders import facts

from provisioner.cli import scheduled
from provisioner.cli.main import run
from provisioner.errors import Exit, UnreachableError
from provisioner.history.store import open_store

from .test_commands import FLEET, Stage, stage  # noqa: F401  a fixture

SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$TOLD"
case "$*" in
*show*timer*LastTrigger*) echo "NextElapseUSecRealtime=Sat 2026-11-28 02:00:00 UTC"; echo "LastTriggerUSec=$LAST";;
*show*service*) echo "ActiveState=$STATE"; echo "Result=$RESULT"; echo "ExecMainStatus=3";;
esac
"""
NIGHTS = "name: nights\nschedule: {calendar: 'Sat 02:00', time_zone: UTC, window: {latest_start: '04:00'}}\n"


class Scheduled(Stage):
    """A stage with a stand-in for systemctl, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(monkeypatch, folder)
        tools = folder / "bin"
        tools.mkdir()
        for name, text in (("systemctl", SYSTEMCTL), ("loginctl", "#!/bin/sh\necho Linger=no\n")):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "TOLD": str(folder / "told"),
            "LAST": "",
            "HOME": str(folder),
        }
        for key, value in {**environment, "XDG_CONFIG_HOME": str(folder / "config"), "STATE": "", "RESULT": ""}.items():
            monkeypatch.setenv(key, value)
        self.units = folder / "config" / "systemd" / "user"

    @property
    def told(self) -> list[str]:
        file = self.folder / "told"
        return file.read_text().splitlines() if file.exists() else []

    def at(self, time: str) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.fromisoformat(time).replace(tzinfo=tz)

        self.patch.setattr(scheduled, "datetime", Clock)

    def open_for(self, minutes: int, *, wave_time: str, server: str = "", rollback: str = "wave") -> str:
        """A window that is open now and so long from now on; when it ends."""
        now = datetime.now(UTC)
        end = f"{now + timedelta(minutes=minutes):%H:%M}"
        settings = f"{{recipe: nemotron-3-nano, {server}}}" if server else "{recipe: nemotron-3-nano}"
        self.path.write_text(
            f"hosts: [a, b]\nservers: {{nemotron: {settings}}}\nrollout: {{rollback: {rollback}}}\n"
            f"schedule: {{calendar: '{now:%H:%M}', time_zone: UTC, wave_time: {wave_time},"
            f" window: {{latest_end: '{end}'}}}}\n"
        )
        return end


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scheduled:
    made = Scheduled(monkeypatch, tmp_path)
    made.hosts(FLEET.format(hosts="a, b") + NIGHTS, a=facts("a"), b=facts("b"))
    return made


def test_install(nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schedule", "install", str(nights.path)]) == Exit.OK
    assert sorted(path.name for path in nights.units.iterdir()) == [
        "provision-nights.timer",
        "provision-nights@.service",
    ]
    assert nights.told[:3] == [
        f"--user --no-ask-password {words}"
        for words in ("daemon-reload", "enable --now provision-nights.timer", "restart provision-nights.timer")
    ]
    out, err = capsys.readouterr()
    head, line = out.splitlines()
    assert head.split() == ["fleet", "next", "last", "result", "units", "of", "file"]
    assert line.split() == [
        "nights",
        "Sat",
        "2026-11-28",
        "02:00:00",
        "UTC",
        "–",
        "never",
        "ran",
        "user",
        str(nights.path),
    ]
    assert err.startswith(
        f"{nights.units}/provision-nights.timer: installed\nwarning: it runs only while you are logged in; "
    )


def test_install_again_changes_nothing(nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
    run(["schedule", "install", str(nights.path)])
    before, stood = len(nights.told), {path: path.stat().st_mtime_ns for path in nights.units.iterdir()}
    assert run(["schedule", "install", str(nights.path)]) == Exit.OK
    assert "provision-nights.timer: nothing to change\n" in capsys.readouterr().err
    assert [one for one in nights.told[before:] if "show" not in one] == [
        "--user --no-ask-password enable --now provision-nights.timer"
    ]
    assert {path: path.stat().st_mtime_ns for path in nights.units.iterdir()} == stood


def test_a_name_that_another_fleet_has(nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
    run(["schedule", "install", str(nights.path)])
    other = nights.folder / "other.yaml"
    other.write_text(nights.path.read_text())
    capsys.readouterr()
    assert run(["schedule", "install", str(other)]) == Exit.BAD_INPUT
    assert capsys.readouterr().err == (
        f"error: {nights.units}/provision-nights@.service is there already, of {nights.path}\n"
        "  hint: two fleets have the same name: give this one another with `name:`\n"
    )


def test_without_a_calendar(nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
    nights.path.write_text(FLEET.format(hosts="a"))
    assert run(["schedule", "install", str(nights.path)]) == Exit.BAD_INPUT
    assert capsys.readouterr().err == (
        f"error: {nights.path}: it has no schedule.calendar\n  hint: for example: schedule: {{calendar: Sat 02:00}}\n"
    )
    assert nights.told == []


def test_only_printing(nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schedule", "install", str(nights.path), "--print"]) == Exit.OK
    assert "OnCalendar=Sat 02:00 UTC\n" in capsys.readouterr().out
    assert (nights.told, nights.units.exists()) == ([], False)


def test_without_systemd(nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
    nights.patch.setenv("PATH", str(nights.folder / "nothing"))
    assert run(["schedule", "install", str(nights.path)]) == Exit.BAD_INPUT
    assert capsys.readouterr().err == (
        "error: this machine has no systemctl\n  hint: without systemd, cron does it: see docs/schedule.md\n"
    )


@pytest.mark.parametrize(
    ("state", "result", "expected"),
    [
        ("inactive", "success", "success"),
        ("inactive", "exit-code", "exit code 3"),
        ("activating", "success", "running"),
    ],
)
def test_list(nights: Scheduled, capsys: pytest.CaptureFixture[str], state: str, result: str, expected: str) -> None:
    run(["schedule", "install", str(nights.path)])
    capsys.readouterr()
    for key, value in (("LAST", "Sat 2026-11-21 02:00:00 UTC"), ("STATE", state), ("RESULT", result)):
        nights.patch.setenv(key, value)
    assert run(["schedule", "list", "--json"]) == Exit.OK
    (one,) = [one for one in json.loads(capsys.readouterr().out) if one["scope"] == "user"]
    assert one == {
        "name": "nights",
        "scope": "user",
        "fleet": str(nights.path),
        "next": "Sat 2026-11-28 02:00:00 UTC",
        "last": "Sat 2026-11-21 02:00:00 UTC",
        "result": expected,
    }


def test_remove(nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
    run(["schedule", "install", str(nights.path)])
    capsys.readouterr()
    assert run(["schedule", "remove", str(nights.path)]) == Exit.OK
    assert run(["schedule", "remove", str(nights.path)]) == Exit.OK
    assert capsys.readouterr().out == "fleet nights: no longer scheduled\nfleet nights: was not scheduled\n"
    assert list(nights.units.iterdir()) == []
    assert nights.told[-2:] == [
        f"--user --no-ask-password {words}" for words in ("disable --now provision-nights.timer", "daemon-reload")
    ]


def test_run_now(nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schedule", "run-now", str(nights.path)]) == Exit.BAD_INPUT
    assert "error: fleet nights has no schedule here\n" in capsys.readouterr().err
    run(["schedule", "install", str(nights.path)])
    capsys.readouterr()
    assert run(["schedule", "run-now", str(nights.path)]) == Exit.OK
    assert nights.told[-1] == "--user --no-ask-password start --no-block provision-nights@hand.service"
    unit = "provision-nights@hand.service"
    assert capsys.readouterr().out == f"{unit} is started; watch it with: journalctl --user -u {unit} -f\n"


class TestRun:
    def test_in_its_window(self, nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
        nights.at("2026-11-28T02:07:00")
        assert run(["schedule", "run", str(nights.path)]) == Exit.OK
        assert nights.executed[0]["hosts"] == ["a", "b"]
        assert "2 hosts: 0 as planned, 2 not as planned\n" in capsys.readouterr().err

    def test_too_late(self, nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
        nights.at("2026-11-28T09:30:00")
        assert run(["schedule", "run", str(nights.path)]) == Exit.OK
        assert capsys.readouterr().err == (
            "too late: planned for Sat 2026-11-28 02:00, not to begin after 04:00 (UTC); nothing was done\n"
        )
        assert (nights.executed, nights.world.requests) == ([], {})

    def test_by_hand_the_window_does_not_matter(self, nights: Scheduled) -> None:
        nights.at("2026-11-28T09:30:00")
        assert run(["schedule", "run", str(nights.path), "--started-by", "hand"]) == Exit.OK
        assert len(nights.executed) == 1

    def test_no_time_for_a_wave(self, nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
        end = nights.open_for(minutes=30, wave_time="45m")
        assert run(["schedule", "run", str(nights.path)]) == Exit.CHANGES
        assert capsys.readouterr().err.endswith(
            f"nothing was changed: it would not be over by {end} (UTC), which ends the window: it takes 45m\n"
        )
        assert nights.executed == []

    def test_no_time_for_going_back(self, nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
        nights.world.hosts = {name: nights.ready(name) for name in ("a", "b")}
        end = nights.open_for(minutes=30, wave_time="20m", server="max_num_seqs: 4")
        assert run(["schedule", "run", str(nights.path)]) == Exit.CHANGES
        assert capsys.readouterr().err.endswith(
            f"by {end} (UTC), which ends the window: it takes 20m, and going back from it 20m\n"
        )
        assert nights.executed == []

    def test_time_for_a_wave_that_never_goes_back(self, nights: Scheduled) -> None:
        nights.world.hosts = {name: nights.ready(name) for name in ("a", "b")}
        nights.open_for(minutes=30, wave_time="20m", server="max_num_seqs: 4", rollback="never")
        assert run(["schedule", "run", str(nights.path)]) == Exit.OK
        assert [did["hosts"] for did in nights.executed] == [["a"], ["b"]]

    def test_nothing_to_do_is_a_drift_report(self, nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
        nights.at("2026-11-28T02:07:00")
        nights.world.hosts = {name: nights.ready(name) for name in ("a", "b")}
        assert run(["schedule", "run", str(nights.path)]) == Exit.OK
        out, err = capsys.readouterr()
        assert "2 hosts: 2 as planned, 0 not as planned\n" in err
        assert out == "\nnothing changed: 2 hosts are as planned and validated\n"
        assert (nights.executed, nights.leases.asked) == ([], [])

    def test_a_host_that_is_away_holds_up_no_other(self, nights: Scheduled) -> None:
        nights.at("2026-11-28T02:07:00")
        nights.hosts(nights.path.read_text(), a=facts("a"), b=UnreachableError("b: refused"))
        assert run(["schedule", "run", str(nights.path)]) == Exit.UNREACHABLE
        assert nights.executed[0]["hosts"] == ["a"]

    def test_a_run_that_never_began_is_told(self, nights: Scheduled) -> None:
        hook = nights.folder / "hook"
        hook.write_text(f"#!/bin/sh\ncat >> {nights.folder}/notified\n")
        hook.chmod(0o755)
        text = nights.path.read_text() + "notify: [{on: [failed], command: [./hook]}]\n"
        nights.hosts(text, a=UnreachableError("a: refused"), b=UnreachableError("b: refused"))
        assert run(["schedule", "run", str(nights.path), "--started-by", "hand"]) == Exit.UNREACHABLE
        (line,) = (nights.folder / "notified").read_text().splitlines()
        told = json.loads(line)
        assert (told["event"], told["exit_code"], told["run"]) == ("failed", 4, "")
        assert told["text"] == "the scheduled run did nothing: hosts cannot be provisioned as they are"
        with open_store(read_only=True) as store:
            assert store.runs() == ()

    def test_a_word_that_is_neither(self, nights: Scheduled, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["schedule", "run", str(nights.path), "--started-by", "cron"]) == Exit.BAD_INPUT
        assert capsys.readouterr().err == "error: --started-by cron: expected timer or hand\n"
