"""`provision schedule`: rollouts that begin by themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from provisioner.cli.options import FleetFile, Json

schedule_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Rollouts that begin by themselves: a systemd timer on this machine, by `schedule` of the fleet file.",
)
System = Annotated[
    bool, typer.Option("--system/--user", help="Units of the machine (needs root), or of this user (the default).")
]


@schedule_app.command(epilog="Example: provision schedule install fleet.yaml --system --run-as provision")
def install(
    fleet: FleetFile,
    system: System = False,
    run_as: Annotated[
        str | None, typer.Option("--run-as", metavar="USER", help="With --system: whose runs they are; default: yours.")
    ] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Print the units and install nothing.")] = False,
) -> None:
    """Install the timer, or bring it up to date with the fleet file."""
    from provisioner.cli import scheduled

    scheduled.install(fleet, system=system, run_as=run_as, print_only=print_only)


@schedule_app.command("list", epilog="Example: provision schedule list --json")
def list_(json: Json = False) -> None:
    """List the schedules of this machine and this user: when each begins next, and how it ended last."""
    from provisioner.cli import scheduled

    scheduled.list_all(json=json)


@schedule_app.command(epilog="Example: provision schedule remove fleet.yaml")
def remove(fleet: FleetFile, system: System = False) -> None:
    """Remove the timer. A run that is under way goes on."""
    from provisioner.cli import scheduled

    scheduled.remove(fleet, system=system)


@schedule_app.command("run-now", epilog="Example: provision schedule run-now fleet.yaml")
def run_now(fleet: FleetFile, system: System = False) -> None:
    """Start now what the timer would start, in the background and without regard to the window."""
    from provisioner.cli import scheduled

    scheduled.run_now(fleet, system=system)


@schedule_app.command(epilog="Example: provision schedule run fleet.yaml --started-by timer")
def run(
    fleet: FleetFile,
    started_by: Annotated[
        str, typer.Option("--started-by", metavar="timer|hand", help="timer: only within the window.")
    ] = "timer",
) -> None:
    """What the timer runs, and cron may: look, change what is not as planned, report drift."""
    from provisioner.cli import scheduled

    raise typer.Exit(scheduled.run(fleet, started_by))
