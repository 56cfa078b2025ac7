"""How a run ends, in its record and in the history, by what happened in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.errors import Exit, GateError, LockedError, UnreachableError
from provisioner.history.finishing import finishing
from provisioner.history.rundir import Run, create_run, read_record, running
from provisioner.history.store import default_path, open_store
from provisioner.validate.interrupt import RunInterrupted


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run("lab", command=["provision", "f.yaml"], fleet_path=Path("f.yaml"), root=tmp_path)


def ended(run: Run, root: Path) -> tuple[int | None, int | None, bool]:
    """The codes in the record and in the history, and whether it is still going on."""
    with open_store(default_path(root)) as store:
        kept = store.run(run.record.id).exit_code
    return read_record(run.path).exit_code, kept, running(run.path)


@pytest.mark.parametrize("code", [Exit.OK, Exit.GATE_FAILED, Exit.CHANGES, Exit.INTERRUPTED])
def test_with_the_code_that_was_found(run: Run, tmp_path: Path, code: Exit) -> None:
    told: list[Exit] = []
    with finishing(run, told.append) as end:
        end.code = code
        assert running(run.path)
        assert told == []
    assert end.code == code
    assert ended(run, tmp_path) == (code, code, False)
    assert told == [code]


def test_nobody_says_how(run: Run, tmp_path: Path) -> None:
    with finishing(run) as end:
        pass
    assert end.code == Exit.HOST_FAILED
    assert ended(run, tmp_path) == (Exit.HOST_FAILED, Exit.HOST_FAILED, False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnreachableError("gone"), Exit.UNREACHABLE),
        (GateError("too slow"), Exit.GATE_FAILED),
        (LockedError("eve"), Exit.LOCKED),
        (RunInterrupted("interrupted"), Exit.INTERRUPTED),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (ValueError("a bug"), Exit.HOST_FAILED),
        (SystemExit(0), Exit.HOST_FAILED),
    ],
)
@pytest.mark.parametrize("found", [None, Exit.OK])
def test_with_what_ended_it(run: Run, tmp_path: Path, error: BaseException, code: Exit, found: Exit | None) -> None:
    """Whatever was found before: an error afterwards is how it ended."""
    told: list[Exit] = []

    def work() -> None:
        with finishing(run, told.append) as end:
            end.code = found or end.code
            raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error
    assert ended(run, tmp_path) == (code, code, False)
    assert told == [code]


def test_the_record_is_closed_before_anybody_is_told(run: Run) -> None:
    seen: list[tuple[Exit, bool]] = []
    with finishing(run, lambda code: seen.append((code, running(run.path)))) as end:
        end.code = Exit.OK
    assert seen == [(Exit.OK, False)]
