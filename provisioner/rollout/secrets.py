"""Secret references → values, at the last moment and in memory only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from provisioner.errors import UsageError
from provisioner.fleet.models import Fleet
from provisioner.fleet.notify import references
from provisioner.inventory.vault import read_vault

COMMAND_TIMEOUT_S = 60


def resolve_secrets(references: Iterable[str], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Reference → value for every reference; UsageError names the reference that cannot be resolved, never a value.

    A trailing newline is not part of a secret. `command:` runs in a shell, as its author wrote it for one.
    """
    return {
        reference: _resolve(reference, os.environ if environment is None else environment) for reference in references
    }


def take_from_environment(fleet: Fleet) -> dict[str, str]:
    """The whole environment, from which the variables that the fleet's references name are then taken away: programs
    that this one starts do not inherit them."""
    environment = dict(os.environ)
    servers = [server for host in fleet.hosts for server in fleet.servers_on(host.name)]
    logins = fleet.docker.registries.values()
    for reference in {
        fleet.hub.token,
        *(server.api_key for server in servers),
        *(login.password for login in logins),
        *references(fleet.notify),
    }:
        kind, _, name = (reference or "").partition(":")
        if kind == "env":
            os.environ.pop(name, None)
    return environment


def _resolve(reference: str, environment: Mapping[str, str]) -> str:
    kind, _, rest = reference.partition(":")
    value = {"env": _env, "file": _file, "command": _command, "vault": _vault}[kind](rest, environment).rstrip("\r\n")
    if not value:
        raise UsageError(f"the secret {reference} is empty")
    if any(ord(char) < 32 for char in value):
        raise UsageError(f"the secret {reference} has more than one line or control characters")
    return value


def _env(name: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise UsageError(f"the secret env:{name} is not set", hint=f"export {name}=… before running this")
    return environment[name]


def _file(path: str, _: Mapping[str, str]) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"the secret file:{path} cannot be read: {reason}") from error


def _vault(place: str, _: Mapping[str, str]) -> str:
    file, *keys = place.split("#")
    return read_vault(Path(file).expanduser(), keys[0] if keys else None)


def _command(command: str, environment: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(  # noqa: S602 - the operator's own command line
            command,
            shell=True,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            env=dict(environment),
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"the secret command:{command} did not end within {COMMAND_TIMEOUT_S} s") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the secret command:{command} did not print UTF-8 text") from error
    if done.returncode != 0:
        raise UsageError(f"the secret command:{command} failed (rc {done.returncode}): {done.stderr.strip()[-300:]}")
    return done.stdout
