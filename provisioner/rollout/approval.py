"""Asking a command whether a rollout goes on: it says yes by ending with 0."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

from provisioner.rollout.waves import Wave

LOOK_EVERY_S = 0.2


def ask(command: str, fleet: str, run: str, wave: Wave, following: Wave, interrupted: Callable[[], bool]) -> str | None:
    """None when the command says yes, else why not. It may take as long as whoever answers it; an interrupted run ends
    it. It runs in a shell, as its author wrote it for one, with what it is about in its environment."""
    about = {
        "PROVISION_FLEET": fleet,
        "PROVISION_RUN": run,
        "PROVISION_WAVE": wave.name,
        "PROVISION_NEXT_WAVE": following.name,
        "PROVISION_NEXT_HOSTS": " ".join(following.hosts),
    }
    # In a session of its own, so that its children end with it.
    process = subprocess.Popen(  # noqa: S602 - the operator's own command line
        command, shell=True, env={**os.environ, **about}, stdin=subprocess.DEVNULL, start_new_session=True
    )
    while True:
        try:
            code = process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if interrupted():
                os.killpg(process.pid, 15)
                process.wait()
                return "interrupted"
        else:
            return None if code == 0 else f"not approved: `{command}` ended with {code}"
