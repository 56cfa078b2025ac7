"""Commands that write files here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provisioner.cli.options import NONE, FactsFile, FleetFile, Hosts, Json

app = typer.Typer()


@app.command(epilog="Example: provision lock fleet.yaml --check")
def lock(
    fleet: FleetFile,
    hosts: Hosts = NONE,
    update_lock: Annotated[
        bool, typer.Option("--update-lock", help="Look up what is locked already too, and drop what nothing needs.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be written; exits 5 when something would.")
    ] = False,
    facts: FactsFile = None,
    json: Json = False,
) -> None:
    """Write FLEET.lock: image digests, commits of models, plugins and sources, hashes of recipes. Keeps what is there.

    With a lock beside the fleet file, all commands use what is locked. Looks at the hosts for what they need.
    """
    from provisioner.cli import lock as command

    raise typer.Exit(command.lock(fleet, hosts, facts, update=update_lock, check=check, json=json))


@app.command(epilog="Example: provision bundle fleet.yaml -o bundle")
def bundle(
    fleet: FleetFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write to; what is there is not fetched again.")
    ],
    hosts: Hosts = NONE,
    json: Json = False,
) -> None:
    """Fetch all that the hosts would fetch into one folder, for hosts that reach nothing (`apply --bundle`)."""
    from provisioner.cli import bundle as command

    raise typer.Exit(command.bundle(fleet, hosts, output, json=json))


@app.command(
    epilog="Example: provision render fleet.yaml -o out && ansible-playbook -i out/inventory playbooks/site.yml"
)
def render(
    fleet: FleetFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; created when it is not there.")],
    hosts: Hosts = NONE,
    facts: FactsFile = None,
) -> None:
    """Write the Ansible inventory with every host's variables, and under files/ every file as it will stand."""
    from provisioner.cli import render as command

    raise typer.Exit(command.render(fleet, hosts, output, facts))


@app.command(
    epilog="Example: provision monitoring fleet.yaml -o monitoring && promtool check rules monitoring/rules/*.yml"
)
def monitoring(
    fleet: FleetFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; created when it is not there.")],
) -> None:
    """Write what Prometheus and Grafana need: targets, alert rules, last verdicts as metrics, a dashboard."""
    from provisioner.cli import monitoring as command

    command.monitoring(fleet, output)


@app.command(epilog="Example: provision schema > fleet.schema.json")
def schema() -> None:
    """Print the JSON Schema of fleet files, for editors and other tools."""
    from provisioner.cli import schema as command

    command.print_schema()
