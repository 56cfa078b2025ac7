"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provisioner.fleet.durations import parse_duration


def _duration(text: str | float) -> float:
    """Seconds; typer hands over the default as it is."""
    try:
        return float(parse_duration(text)) if isinstance(text, str) else text
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


FleetFile = Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet file.", show_default=False)]
Hosts = Annotated[list[str], typer.Option("--hosts", metavar="NAME", help="Only these hosts (may be repeated).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Diff = Annotated[bool, typer.Option("--diff", "-D", help="Show full text diffs of files, arguments and images.")]
UpdateLock = Annotated[
    bool, typer.Option("--update-lock", help="First write the fleet's lock anew, as tags and branches stand now.")
]
LockWait = Annotated[
    float,
    typer.Option(
        metavar="TIME",
        parser=_duration,
        show_default=False,
        help="Wait so long for other runs on these hosts to end: 90s, 10m, 1h. Default: do not wait.",
    ),
]
Bundle = Annotated[
    Path | None,
    typer.Option("--bundle", metavar="DIR", help="Hosts get what they lack from there (`provision bundle`)."),
]
FactsFile = Annotated[
    Path | None, typer.Option("--facts", metavar="FILE", help="Recorded facts (`probe --json`); reach no host.")
]
NONE: list[str] = []
"""of an option that may be repeated, where it is left out"""
