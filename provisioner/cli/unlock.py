"""`provision unlock`: ends leases whose runs are dead."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from provisioner.cli.console import out, say
from provisioner.cli.looking import connections_to, load_hosts
from provisioner.errors import Exit, LockedError, ProvisionError, UsageError
from provisioner.history.store import open_store
from provisioner.history.turn import current_user, holder
from provisioner.rollout import leases


def unlock(path: Path, hosts: Sequence[str], reason: str) -> Exit:
    """Says host by host whose lease was ended. A run that lives on this machine is ended by its own Ctrl-C."""
    fleet = load_hosts(path, hosts)
    if not reason.strip():
        raise UsageError("--reason is empty: say why, for the audit log")
    alive = holder(fleet.name)
    if alive:
        raise LockedError(f"a run of fleet {fleet.name} is alive on this machine: {alive}", hint="end that instead")
    user = current_user()
    with connections_to(fleet) as connections:
        answers = leases.unlock(connections, fleet.hosts, f"unlocked by {user}: {reason}")
    code, ended = Exit.OK, {}
    for host, answer in answers.items():
        if isinstance(answer, ProvisionError):
            say(f"{host}: {str(answer).removeprefix(f'{host}: ')}")
            code = Exit(answer.exit_code)
        elif answer.done:
            ended[host] = str(answer.holder)
            out(f"{host}: unlocked; it was {answer.holder}")
        else:
            out(f"{host}: was not locked")
    if ended:
        with open_store() as store:
            store.note_unlock(user, fleet.name, sys.argv, ended, reason)
    return code
