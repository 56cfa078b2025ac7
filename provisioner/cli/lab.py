"""`provision lab`: the rehearsal fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli.console import out, say
from provisioner.cli.options import Json

if TYPE_CHECKING:
    from provisioner.lab.lab import LabStatus

DEFAULT_HOSTS = ["h200:2", "gb10:1"]
lab_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A rehearsal fleet on this machine: real systemd hosts in containers, simulated GPUs.",
)


@lab_app.command(epilog="Example: provision lab up --hosts h200:2 --hosts gb10:1")
def up(
    hosts: Annotated[
        list[str],
        typer.Option(
            "--hosts",
            metavar="GPU[:COUNT][@SUITE]",
            help="Hosts by GPU model: h100, h200, b200, gb10 …; Debian trixie, or bookworm (repeat).",
        ),
    ] = DEFAULT_HOSTS,
    fleet: Annotated[Path, typer.Option(help="Where to write the fleet file.")] = Path("inventories/lab/fleet.yaml"),
    engine: Annotated[
        str, typer.Option(help="auto: real vLLM (CPU build) on x86_64 hosts; sim: the stand-in everywhere.")
    ] = "auto",
    uplink_mib_s: Annotated[
        float,
        typer.Option(min=0, metavar="MIB", help="MiB a second that hosts get from registry and hub, all together."),
    ] = 0,
    json: Json = False,
) -> None:
    """Start the fleet, with its registry, model hub and git source; what runs is kept."""
    from provisioner.lab.lab import LabRequest
    from provisioner.lab.lab import up as bring_up

    request = LabRequest(hosts=tuple(hosts), fleet_file=fleet, engine=engine, uplink_mib_s=uplink_mib_s)
    status_now = bring_up(request, say)
    _show(status_now, json=json)


@lab_app.command()
def status(json: Json = False) -> None:
    """Show what runs. Exits 0 when the lab is up, 1 when it is not."""
    from provisioner.lab.lab import status as look

    found = look()
    _show(found, json=json)
    raise typer.Exit(0 if found.is_up else 1)


@lab_app.command(epilog="Example: provision lab down lab-h200-2")
def down(
    hosts: Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help="Only these hosts.")] = None,
) -> None:
    """Take everything away but the caches, or only the hosts named."""
    from provisioner.lab.lab import down as take_down
    from provisioner.lab.lab import remove

    if hosts:
        remove(hosts, say)
    else:
        take_down(say)


def _show(found: LabStatus, *, json: bool) -> None:
    from provisioner.cli import show_lab

    out(show_lab.as_json(found) if json else show_lab.as_text(found))
