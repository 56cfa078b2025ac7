"""`provision schema`."""

from __future__ import annotations

import json

from provisioner.cli.console import out
from provisioner.fleet.schema import fleet_schema


def print_schema() -> None:
    """The JSON Schema of fleet files, as docs/fleet.schema.json has it."""
    out(json.dumps(fleet_schema(), indent=1, ensure_ascii=False))
