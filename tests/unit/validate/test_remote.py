from __future__ import annotations

from provisioner.hosts.transport import Result
from provisioner.validate.remote import last_log, parse_unit_state, shorten

from .fakes import FakeHost

CAUSE = "(EngineCore pid=80) ERROR 11-24 09:30:10 [core.py:900] ValueError: no valid attention backend"
TRACE = [f'  File "core.py", line {number}' for number in range(60)]


def test_a_short_log_is_kept_whole() -> None:
    assert shorten("one\nValueError: two\n") == "one\nValueError: two"


def test_the_cause_above_a_long_traceback_is_kept_once() -> None:
    lines = shorten("\n".join(["start", CAUSE, CAUSE, *TRACE, "RuntimeError: See root cause above"])).splitlines()
    assert lines[:3] == ["errors further up:", CAUSE, "last lines:"]
    assert lines[3:] == [*TRACE[-39:], "RuntimeError: See root cause above"]


def test_ordinary_lines_are_no_errors() -> None:
    log = "\n".join(["INFO: error_rate: 0", "loading ErrorHandler", *TRACE])
    assert shorten(log).splitlines() == TRACE[-40:]


def test_a_journal_that_cannot_be_read_is_said() -> None:
    host = FakeHost({"journalctl --unit x.service --lines 400": Result(1, "", "no access, token hf_abcdef\n")})
    assert last_log(host, "x.service", ["hf_abcdef"]) == "journalctl failed (rc 1): no access, token [redacted]"


def test_unit_state() -> None:
    state = parse_unit_state(
        "Result=exit-code\nNRestarts=3\nLoadState=loaded\nActiveState=activating\nSubState=auto-restart\nJob=\n"
        "\nlast = line\n"
    )
    assert (state.load, state.active, state.sub, state.result) == ("loaded", "activating", "auto-restart", "exit-code")
    assert (state.restarts, state.queued, state.last_line) == (3, False, "last = line")
