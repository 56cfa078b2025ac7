"""Asking a command: real processes of this machine."""

from __future__ import annotations

import time
from pathlib import Path

from provisioner.rollout.approval import ask
from provisioner.rollout.waves import Wave

CANARY, REST = Wave("canary", ("a",)), Wave("batch 1", ("b", "c"))


def test_it_says_yes_by_ending_with_0(tmp_path: Path) -> None:
    said = tmp_path / "said"
    words = "$PROVISION_FLEET $PROVISION_RUN $PROVISION_WAVE, $PROVISION_NEXT_WAVE: $PROVISION_NEXT_HOSTS"
    assert ask(f'echo "{words}" > {said}', "night", "r-1", CANARY, REST, lambda: False) is None
    assert said.read_text() == "night r-1 canary, batch 1: b c\n"


def test_it_says_no() -> None:
    assert ask("exit 3", "night", "r-1", CANARY, REST, lambda: False) == "not approved: `exit 3` ended with 3"


def test_an_interrupted_run_ends_it() -> None:
    began = time.monotonic()
    assert ask("sleep 60; sleep 60", "night", "r-1", CANARY, REST, lambda: True) == "interrupted"
    assert time.monotonic() - began < 10
