"""`provision`: the entry point and its commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from provisioner.cli import complete
from provisioner.cli.baseline import baseline_app
from provisioner.cli.bench import bench_app
from provisioner.cli.console import say
from provisioner.cli.lab import lab_app
from provisioner.cli.recipe import recipe_app
from provisioner.cli.schedule import schedule_app
from provisioner.errors import Exit, InputError, ProvisionError, UsageError
from provisioner.fleet.durations import parse_duration

app = typer.Typer(
    name="provision",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn a list of GPU machines into measured vLLM servers.\n\n"
    "`provision fleet.yaml` is short for `provision apply fleet.yaml`.",
    epilog="Exit codes: 0 all served and validated, 1 a host failed, 2 bad input or usage, 3 a gate failed, "
    "4 unreachable, 5 changes pending (plan, drift, lock --check), 6 another run is at work, 130 interrupted.",
)
app.add_typer(lab_app, name="lab")
app.add_typer(recipe_app, name="recipe")
app.add_typer(bench_app, name="bench")
app.add_typer(baseline_app, name="baseline")
app.add_typer(schedule_app, name="schedule")


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
_NO_HOSTS: list[str] = []


@app.command(epilog="Example: provision apply fleet.yaml --hosts gpu-01 --yes")
def apply(
    fleet: FleetFile,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Change hosts without asking.")] = False,
    hosts: Hosts = _NO_HOSTS,
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
    lock_wait: LockWait = 0.0,
    json: Json = False,
) -> None:
    """Bring every host to its plan, validate every server, show the table."""
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
    )
    raise typer.Exit(command.apply(fleet, options))


@app.command(epilog="Example: provision plan fleet.yaml --diff")
def plan(
    fleet: FleetFile,
    hosts: Hosts = _NO_HOSTS,
    diff: Diff = False,
    update_lock: UpdateLock = False,
    bundle: Bundle = None,
    json: Json = False,
) -> None:
    """Show what would change on each host and why; changes no host. Exits 0 when nothing would, 5 otherwise."""
    from provisioner.cli import plan as command

    raise typer.Exit(command.plan(fleet, hosts, json=json, diff=diff, update_lock=update_lock, bundle=bundle))


@app.command(epilog="Example: provision bundle fleet.yaml -o bundle")
def bundle(
    fleet: FleetFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write to; what is there is not fetched again.")
    ],
    hosts: Hosts = _NO_HOSTS,
    json: Json = False,
) -> None:
    """Fetch all that the hosts would fetch into one folder, for hosts that reach nothing (`apply --bundle`)."""
    from provisioner.cli import bundle as command

    raise typer.Exit(command.bundle(fleet, hosts, output, json=json))


@app.command(epilog="Example: provision resume fleet.yaml --yes")
def resume(
    fleet: FleetFile,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on without asking, even if that run asked.")] = False,
) -> None:
    """Go on with the fleet's last rollout where it stopped, with the flags that it had. Done hosts are not touched."""
    from provisioner.cli import resume as command

    raise typer.Exit(command.resume(fleet, flags_of_apply, yes=yes))


@app.command(epilog="Example: provision rollback fleet.yaml --hosts gpu-01 --yes")
def rollback(
    fleet: FleetFile,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="RELEASE", help="This one, or a beginning of its id (`provision releases`)."),
    ] = None,
    hosts: Hosts = _NO_HOSTS,
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
def releases(fleet: FleetFile, hosts: Hosts = _NO_HOSTS, json: Json = False) -> None:
    """List the releases that hosts keep: what passed its gate there, newest first."""
    from provisioner.cli import rollback as command

    raise typer.Exit(command.releases(fleet, hosts, json=json))


@app.command(
    epilog="Example: provision drift fleet.yaml --prometheus /var/lib/prometheus/node-exporter/provision-drift.prom"
)
def drift(
    fleet: FleetFile,
    hosts: Hosts = _NO_HOSTS,
    prometheus: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write metrics for node_exporter's textfile collector.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell what on which host is not as planned, and since when; changes no host. Exits as `plan` does."""
    from provisioner.cli import drift as command

    raise typer.Exit(command.drift(fleet, hosts, json=json, prometheus=prometheus))


@app.command(epilog="Example: provision lock fleet.yaml --check")
def lock(
    fleet: FleetFile,
    hosts: Hosts = _NO_HOSTS,
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


@app.command(epilog="Example: provision destroy fleet.yaml --hosts gpu-01 --dry-run")
def destroy(
    fleet: FleetFile,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take away without asking.")] = False,
    hosts: Hosts = _NO_HOSTS,
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
    hosts: Hosts = _NO_HOSTS,
) -> None:
    """End the leases of runs that died elsewhere; they expire by themselves after 5 minutes. A live run stops."""
    from provisioner.cli import unlock as command

    raise typer.Exit(command.unlock(fleet, hosts, reason))


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


@app.command(epilog="Example: provision probe fleet.yaml --json")
def probe(fleet: FleetFile, hosts: Hosts = _NO_HOSTS, json: Json = False) -> None:
    """Show what is on each host; changes nothing."""
    from provisioner.cli import probe as command

    raise typer.Exit(command.probe(fleet, hosts, json=json))


@app.command(epilog="Example: provision validate fleet.yaml --smoke")
def validate(
    fleet: FleetFile,
    hosts: Hosts = _NO_HOSTS,
    smoke: Annotated[bool, typer.Option("--smoke", help="Requests only, no benchmark.")] = False,
    lock_wait: LockWait = 0.0,
    json: Json = False,
) -> None:
    """Prove the servers that run as planned, changing nothing."""
    from provisioner.cli import validate as command

    raise typer.Exit(command.validate(fleet, hosts, smoke=smoke, json=json, lock_wait_s=lock_wait))


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
    ] = _NO_HOSTS,
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
    )
    raise typer.Exit(command.command(fleet, flags))


@app.command(
    epilog="Example: provision render fleet.yaml -o out && ansible-playbook -i out/inventory playbooks/site.yml"
)
def render(
    fleet: FleetFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; created when it is not there.")],
    hosts: Hosts = _NO_HOSTS,
    facts: FactsFile = None,
) -> None:
    """Write the Ansible inventory with every host's variables, and under files/ every file as it will stand."""
    from provisioner.cli import render as command

    raise typer.Exit(command.render(fleet, hosts, output, facts))


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


@app.command(epilog="Example: provision schema > fleet.schema.json")
def schema() -> None:
    """Print the JSON Schema of fleet files, for editors and other tools."""
    from provisioner.cli import schema as command

    command.print_schema()


@app.command()
def version() -> None:
    """Show the version."""
    from importlib.metadata import version as installed

    from provisioner.cli.console import out

    out(f"provision {installed('provision')}")


def main() -> None:
    """Runs the command line; every expected error becomes a message and an exit code."""
    # It has none of ours, and would look for them in the metadata of every package that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """The exit code of one command line."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(
            args=with_default_command(argv, command.commands), prog_name="provision", standalone_mode=False
        )
    except ProvisionError as error:
        # Problems of an input file begin with their place, as compilers write it: editors jump there.
        say(str(error) if isinstance(error, InputError) else f"error: {error}")
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = Exit.INTERRUPTED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
            error.show()
            return int(error.exit_code)
        raise
    if code == Exit.INTERRUPTED:  # typer makes an exit code of Ctrl-C itself
        say("interrupted")
    return int(code or 0)


def flags_of_apply(argv: Sequence[str]) -> dict[str, Any] | None:
    """What the words of an `apply` mean, by the names of its parameters; None for another command."""
    command: Any = typer.main.get_command(app)
    words = with_default_command(argv, command.commands)
    if not words or words[0] != "apply":
        return None
    parsed: dict[str, Any] = command.commands["apply"].make_context("apply", words[1:]).params
    return parsed


def with_default_command(argv: Sequence[str], commands: Any) -> list[str]:
    """`fleet.yaml …` → `apply fleet.yaml …`: a first word that names a file, or one after flags and no command.
    `bench --explain …` → `bench explain …`."""
    words = list(argv)
    if words[:2] == ["bench", "--explain"]:
        return ["bench", "explain", *words[2:]]
    if not words or words[0] in commands:
        return words
    if not words[0].startswith("-"):
        return ["apply", *words] if _names_file(words[0]) else words
    # Values of flags cannot be told from commands here: `--hosts gpu-01 fleet.yaml`.
    if any(word in commands for word in words):
        return words
    return ["apply", *words] if any(_names_file(word) for word in words) else words


def _names_file(word: str) -> bool:
    return not word.startswith("-") and (word.endswith((".yaml", ".yml")) or Path(word).is_file())


if __name__ == "__main__":
    main()
