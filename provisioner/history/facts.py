"""Recorded facts: what `provision probe FLEET --json` printed, kept in a file."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from provisioner.errors import UsageError
from provisioner.plan.facts import Facts

_FACTS: TypeAdapter[dict[str, Facts | None]] = TypeAdapter(dict[str, Facts | None])


def facts_file(fleet: Path) -> Path:
    """Where the facts of a fleet are kept by convention: `fleet.facts.json` beside `fleet.yaml`."""
    return fleet.with_name(f"{fleet.stem}.facts.json")


def read_facts(file: Path) -> dict[str, Facts]:
    """By host; those that could not be reached are left out. UsageError for a file that holds something else."""
    hint = "write it with: provision probe FLEET --json > FILE"
    try:
        found = _FACTS.validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}", hint=hint) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "top"
        raise UsageError(f"{file}: holds no recorded facts: {place}: {first['msg']}", hint=hint) from error
    return {name: facts for name, facts in found.items() if facts is not None}
