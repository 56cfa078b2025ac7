"""Commands that tell what was done, and which version does it; they reach no host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provisioner.cli import complete
from provisioner.cli.options import Json

app = typer.Typer()


@app.command(epilog="Example: provision report --html report.html; provision report latest --fleet lab --markdown")
def report(
    run: Annotated[
        str,
        typer.Argument(metavar="[RUN]", help="A run: its id, a part of it, or latest", autocompletion=complete.run_ids),
    ] = "latest",
    fleet: Annotated[str | None, typer.Option(metavar="NAME", help="Only among the runs of this fleet.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page: one file, no network, plots and history.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the report as Markdown on stdout.")] = False,
    json: Json = False,
) -> None:
    """Show a run with the history of its hosts: verdicts, figures, changes, plans, logs of failures."""
    from provisioner.cli import report as command

    command.report(run, fleet=fleet, html=html, as_markdown=markdown, json=json)


@app.command(epilog="Examples: provision history; provision history gpu-01; provision history --audit --limit 100")
def history(
    host: Annotated[
        str | None,
        typer.Argument(
            metavar="HOST",
            help="This host's course: every run, what its servers did, which image and driver changed.",
            autocompletion=complete.hosts,
        ),
    ] = None,
    fleet: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of the fleet of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="So many runs at most, the newest.")] = 20,
    audit: Annotated[
        bool, typer.Option("--audit", help="The audit log: who did what to which hosts, and how it ended.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what was done, newest first; reaches no host."""
    from provisioner.cli import history as command

    command.history(host, fleet=fleet, limit=limit, audit=audit, json=json)


@app.command(epilog="Example: provision compare 4f9c21 latest")
def compare(
    first: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run: its id, a part of it, or latest.", autocompletion=complete.run_ids),
    ],
    second: Annotated[
        str, typer.Argument(metavar="RUN", help="What is compared with it.", autocompletion=complete.run_ids)
    ],
    json: Json = False,
) -> None:
    """Compare the figures of two runs, server by server: what differs by more than noise does."""
    from provisioner.cli import history as command

    command.compare(first, second, json=json)


@app.command()
def version() -> None:
    """Show the version."""
    from importlib.metadata import version as installed

    from provisioner.cli.console import out

    out(f"provision {installed('provision')}")
