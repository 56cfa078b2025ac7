"""Commands that tell or try how hosts are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provisioner.cli.options import NONE, Bundle, FleetFile, Hosts, Json, LockWait

app = typer.Typer()


@app.command(epilog="Example: provision probe fleet.yaml --json")
def probe(fleet: FleetFile, hosts: Hosts = NONE, json: Json = False) -> None:
    """Show what is on each host; changes nothing."""
    from provisioner.cli import probe as command

    raise typer.Exit(command.probe(fleet, hosts, json=json))


@app.command(epilog="Example: provision validate fleet.yaml --smoke")
def validate(
    fleet: FleetFile,
    hosts: Hosts = NONE,
    smoke: Annotated[bool, typer.Option("--smoke", help="Requests only, no benchmark.")] = False,
    bundle: Bundle = None,
    lock_wait: LockWait = 0.0,
    json: Json = False,
) -> None:
    """Prove the servers that run as planned, changing nothing."""
    from provisioner.cli import validate as command

    raise typer.Exit(command.validate(fleet, hosts, smoke=smoke, json=json, bundle=bundle, lock_wait_s=lock_wait))


@app.command(epilog="Example: provision tune fleet.yaml --sweep max-num-seqs=8,16,32 --max-tpot-ms 20 --write")
def tune(
    fleet: FleetFile,
    server: Annotated[
        str | None, typer.Option("--server", metavar="NAME", help="Which server; not needed where there is one.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="NAME", help="On which host; not needed where there is one.")
    ] = None,
    sweep: Annotated[
        list[str],
        typer.Option(
            "--sweep",
            metavar="KEY=VALUE,…",
            help="What to try, may be repeated: max-num-seqs=8,16, any flag of vllm serve. "
            "Left out: max_num_seqs and, with several GPUs, tensor_parallel_size, around the usual on this hardware.",
        ),
    ] = NONE,
    concurrency: Annotated[
        str | None,
        typer.Option(metavar="N,…", help="Requests in flight; left out: as many as max_num_seqs, as the guide has it."),
    ] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="For all of it: 90s, 30m, 2h.")] = "30m",
    pick: Annotated[str, typer.Option(help="What the best point is best for: throughput or latency.")] = "throughput",
    max_tpot_ms: Annotated[
        float | None,
        typer.Option("--max-tpot-ms", metavar="MS", help="Most throughput with a median TPOT of at most so many ms."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the best point to the fleet file.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure everything anew, what an earlier tuning measured too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Restart the server without asking.")] = False,
    bundle: Bundle = None,
    lock_wait: LockWait = 0.0,
    json: Json = False,
) -> None:
    """Try settings of a server on a host and show which are best; the server is put back, whatever happens."""
    from provisioner.cli import tune as command

    flags = command.TuneFlags(
        server=server,
        host=host,
        sweep=tuple(sweep),
        concurrency=concurrency,
        budget=budget,
        pick=pick,
        max_tpot_ms=max_tpot_ms,
        write=write,
        fresh=fresh,
        yes=yes,
        json=json,
        lock_wait_s=lock_wait,
        bundle=bundle,
    )
    raise typer.Exit(command.command(fleet, flags))


@app.command(
    epilog="Example: provision drift fleet.yaml --prometheus /var/lib/prometheus/node-exporter/provision-drift.prom"
)
def drift(
    fleet: FleetFile,
    hosts: Hosts = NONE,
    prometheus: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write metrics for node_exporter's textfile collector.")
    ] = None,
    bundle: Bundle = None,
    json: Json = False,
) -> None:
    """Tell what on which host is not as planned, and since when; changes no host. Exits as `plan` does."""
    from provisioner.cli import drift as command

    raise typer.Exit(command.drift(fleet, hosts, json=json, prometheus=prometheus, bundle=bundle))


@app.command(epilog="Example: provision explain fleet.yaml gpu-01 nemotron.port")
def explain(
    fleet: FleetFile,
    host: Annotated[str, typer.Argument(metavar="HOST", help="A host of the fleet.", show_default=False)],
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only this key, and those below it.")] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Show what the recipes decide on this hardware; default: the host's `hardware`."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show each value of a host and where it came from; reaches no host."""
    from provisioner.cli import explain as command

    raise typer.Exit(command.explain(fleet, host, key, hardware=hardware, json=json))
