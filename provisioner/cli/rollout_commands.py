"""Commands that bring hosts to their plan, back, or away from all of it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from provisioner.cli.options import NONE, Bundle, Diff, FleetFile, Hosts, Json, LockWait, UpdateLock
from provisioner.cli.words import flags_of_apply
from provisioner.errors import UsageError

app = typer.Typer()


@app.command(epilog="Example: provision apply fleet.yaml --hosts gpu-01 --yes")
def apply(
    fleet: FleetFile,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Change hosts without asking.")] = False,
    hosts: Hosts = NONE,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Provision the fit hosts even when others are unreachable or unfit.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan (the same as `plan`).")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", "-C", help="Show the plan and what Ansible's check mode would do; change nothing."),
    ] = False,
    diff: Diff = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Validate with requests only, no benchmark.")] = False,
    strategy: Annotated[
        str, typer.Option(help="How Ansible goes through hosts: mitogen_free, free or linear.")
    ] = "mitogen_free",
    update_lock: UpdateLock = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Ask before every wave after the first (rollout.approve: every_wave).")
    ] = False,
    bundle: Bundle = None,
    executor: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Where Ansible runs: local, or the workers of a Dask scheduler: dask://HOST:PORT, dask+tls://HOST:PORT.",
        ),
    ] = "local",
    lock_wait: LockWait = 0.0,
    json: Json = False,
) -> None:
    """Bring every host to its plan, validate every server, show the table."""
    if check and executor != "local":
        raise UsageError("--check asks the roles on this machine: leave --executor out")
    if check and bundle:
        raise UsageError("--check asks the roles, which look for no bundle: `plan --bundle` tells what would change")
    if check or dry_run:
        from provisioner.cli import plan as looking

        if check:
            raise typer.Exit(looking.check(fleet, hosts, strategy=strategy, json=json, diff=diff))
        raise typer.Exit(looking.plan(fleet, hosts, json=json, diff=diff, update_lock=update_lock, bundle=bundle))
    from provisioner.cli import apply as command

    options = command.ApplyFlags(
        yes=yes,
        hosts=tuple(hosts),
        keep_going=keep_going,
        smoke=smoke,
        strategy=strategy,
        update_lock=update_lock,
        bundle=bundle,
        approve=approve,
        json=json,
        diff=diff,
        lock_wait_s=lock_wait,
        executor=executor,
    )
    raise typer.Exit(command.apply(fleet, options))


@app.command(epilog="Example: provision plan fleet.yaml --diff")
def plan(
    fleet: FleetFile,
    hosts: Hosts = NONE,
    diff: Diff = False,
    update_lock: UpdateLock = False,
    bundle: Bundle = None,
    json: Json = False,
) -> None:
    """Show what would change on each host and why; changes no host. Exits 0 when nothing would, 5 otherwise."""
    from provisioner.cli import plan as command

    raise typer.Exit(command.plan(fleet, hosts, json=json, diff=diff, update_lock=update_lock, bundle=bundle))


@app.command(epilog="Example: provision resume fleet.yaml --yes")
def resume(
    context: typer.Context,
    fleet: FleetFile,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on without asking, even if that run asked.")] = False,
    lock_wait: LockWait = 0.0,
) -> None:
    """Go on with the fleet's last rollout where it stopped, with the flags that it had. Done hosts are not touched."""
    from provisioner.cli import resume as command

    program: Any = context.find_root().command
    flags_of = partial(flags_of_apply, commands=program.commands)
    raise typer.Exit(command.resume(fleet, flags_of, yes=yes, lock_wait_s=lock_wait))


@app.command(epilog="Example: provision rollback fleet.yaml --hosts gpu-01 --yes")
def rollback(
    fleet: FleetFile,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="RELEASE", help="This one, or a beginning of its id (`provision releases`)."),
    ] = None,
    hosts: Hosts = NONE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Change hosts without asking.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Validate with requests only, no benchmark.")] = False,
    lock_wait: LockWait = 0.0,
    json: Json = False,
) -> None:
    """Bring hosts back to the release before, all at once, and validate it. The fleet file is not looked at for it."""
    from provisioner.cli import rollback as command

    flags = command.RollbackFlags(to=to, hosts=tuple(hosts), yes=yes, smoke=smoke, json=json, lock_wait_s=lock_wait)
    raise typer.Exit(command.rollback(fleet, flags))


@app.command(epilog="Example: provision releases fleet.yaml --hosts gpu-01")
def releases(fleet: FleetFile, hosts: Hosts = NONE, json: Json = False) -> None:
    """List the releases that hosts keep: what passed its gate there, newest first."""
    from provisioner.cli import rollback as command

    raise typer.Exit(command.releases(fleet, hosts, json=json))


@app.command(epilog="Example: provision destroy fleet.yaml --hosts gpu-01 --dry-run")
def destroy(
    fleet: FleetFile,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take away without asking.")] = False,
    hosts: Hosts = NONE,
    purge_weights: Annotated[bool, typer.Option("--purge-weights", help="Weights too.")] = False,
    purge_docker: Annotated[
        bool, typer.Option("--purge-docker", help="Docker and the container toolkit too, where they came with us.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would go; exits 5 when something would.")
    ] = False,
    lock_wait: LockWait = 0.0,
    json: Json = False,
) -> None:
    """Take away what was brought to the hosts, and leave what was there before."""
    from provisioner.cli import destroy as command

    flags = command.DestroyFlags(
        yes=yes,
        hosts=tuple(hosts),
        weights=purge_weights,
        docker=purge_docker,
        dry_run=dry_run,
        json=json,
        lock_wait_s=lock_wait,
    )
    raise typer.Exit(command.destroy(fleet, flags))


@app.command(epilog="Example: provision unlock fleet.yaml --reason 'control-2 was reinstalled in the middle of a run'")
def unlock(
    fleet: FleetFile,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the audit log.")],
    hosts: Hosts = NONE,
) -> None:
    """End the leases of runs that died elsewhere; they expire by themselves after 5 minutes. A live run stops."""
    from provisioner.cli import unlock as command

    raise typer.Exit(command.unlock(fleet, hosts, reason))
