from __future__ import annotations

import io
import signal

import pytest

from provisioner.cli.console import allowed, at_terminal, confirm, interrupt_flag, out, say
from provisioner.errors import UsageError


def test_results_and_words_go_apart(capsys: pytest.CaptureFixture[str]) -> None:
    out("result\n\n")
    say("word")
    assert capsys.readouterr() == ("result\n", "word\n")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", True), ("YES\n", True), (" y \n", True), ("n\n", False), ("\n", False), ("", False), ("yep\n", False)],
)
def test_anything_but_yes_is_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, answer: bool
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert confirm("Change 1 of 2 hosts?") is answer
    assert capsys.readouterr().err == "Change 1 of 2 hosts? [y/N] "


def test_a_pipe_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert not at_terminal()


def test_leave_is_given_at_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError) as caught:
        allowed("Change 1 of 2 hosts?", "change hosts")
    assert str(caught.value) == ("there is no terminal to ask at\n  hint: add --yes to change hosts without asking")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("provisioner.cli.console.at_terminal", lambda: True)
    assert allowed("Change 1 of 2 hosts?", "change hosts")


@pytest.mark.parametrize("one", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_flag_and_a_second_one_ends(one: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(one)
    with interrupt_flag() as interrupted:
        assert not interrupted()
        signal.raise_signal(one)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(one)
    assert signal.getsignal(one) is before
    assert capsys.readouterr().err == ("stopping; what is under way is ended and recorded (again to leave at once)\n")
