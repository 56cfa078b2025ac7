"""resume: the last rollout of a fleet once more, with its own flags."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from provisioner.cli.apply import ApplyFlags, apply
from provisioner.cli.console import say
from provisioner.cli.looking import load_hosts
from provisioner.errors import Exit, UsageError
from provisioner.history.rundir import running, runs_dir
from provisioner.history.store import LATEST, ending, open_store


def resume(path: Path, flags_of: Any, *, yes: bool, lock_wait_s: float = 0.0) -> Exit:
    """Goes on with what the fleet's last run left. `flags_of`: the flags of a recorded command line of `apply`, or None
    for another command."""
    name = load_hosts(path, ()).name
    with open_store(read_only=True) as store:
        run = store.run(LATEST, name)
        # One that went on itself has the flags of the one before it.
        of = next((one for one in store.runs(name) if one.command[1:2] != ("resume",)), run)
    if running(runs_dir(name) / run.id):
        raise UsageError(f"run {run.id} is still going on")
    said = shlex.join(("provision", *of.command[1:]))
    given = flags_of(of.command[1:])
    if given is None:
        raise UsageError(f"the last run of {name} was no rollout: {said}", hint="run it again to finish it")
    if run.exit_code == Exit.OK:
        say(f"run {run.id} ended well: nothing to resume")
        return Exit.OK
    say(f"going on with run {run.id} ({ending(run)}): {said}")
    given["hosts"] = tuple(given["hosts"])
    given["lock_wait_s"] = lock_wait_s or given["lock_wait"]
    # It has moved the lock before it began. Moved again, hosts that are done would be so no more.
    given["update_lock"] = False
    wanted = {key: value for key, value in given.items() if key in ApplyFlags.__dataclass_fields__}
    return apply(path, ApplyFlags(**wanted | {"yes": yes or given["yes"]}))
