"""`provision baseline`: what benchmarks are compared with, and what becomes part of it."""

from __future__ import annotations

from typing import Annotated

import typer

from provisioner.cli.complete import hosts, run_ids
from provisioner.cli.options import Json

baseline_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Baselines: what benchmarks are compared with."
)


@baseline_app.command(epilog="Example: provision baseline accept latest --host gpu-01 --replace --note 'new cooling'")
def accept(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run: its id, a part of it, or latest.", autocompletion=run_ids)
    ] = "latest",
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this host's benchmarks.", autocompletion=hosts)
    ] = None,
    server: Annotated[str | None, typer.Option(metavar="NAME", help="Only this server's.")] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="The baseline begins anew with it: what was accepted before does not count any more."
        ),
    ] = False,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the audit log.")] = "",
    json: Json = False,
) -> None:
    """Take a run's benchmarks into the baselines of its hosts."""
    from provisioner.cli import baselines

    baselines.accept(run, host, server, replace=replace, note=note, json=json)


@baseline_app.command(epilog="Example: provision baseline show gpu-01")
def show(
    host: Annotated[str | None, typer.Argument(metavar="HOST", help="Only this host.", autocompletion=hosts)] = None,
    fleet: Annotated[str | None, typer.Option(metavar="NAME", help="Only the fleet of this name.")] = None,
    json: Json = False,
) -> None:
    """Show the baseline of each server, what it is made of, and what its peers do."""
    from provisioner.cli import baselines

    baselines.show(host, fleet=fleet, json=json)
