"""`provision`: the entry point and its commands."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from provisioner.cli import file_commands, history_commands, host_commands, rollout_commands
from provisioner.cli.baseline import baseline_app
from provisioner.cli.bench import bench_app
from provisioner.cli.console import say
from provisioner.cli.lab import lab_app
from provisioner.cli.recipe import recipe_app
from provisioner.cli.schedule import schedule_app
from provisioner.cli.words import with_default_command
from provisioner.errors import Exit, InputError, ProvisionError

GARBAGE = 200_000
"""objects more than before at which Python looks for garbage, in place of 700: loading alone makes 100,000 that stay"""

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
for group in (rollout_commands, host_commands, file_commands, history_commands):
    app.add_typer(group.app)
app.add_typer(lab_app, name="lab")
app.add_typer(recipe_app, name="recipe")
app.add_typer(bench_app, name="bench")
app.add_typer(baseline_app, name="baseline")
app.add_typer(schedule_app, name="schedule")


def main() -> None:
    """Runs the command line; every expected error becomes a message and an exit code."""
    # It has none of ours, and would look for them in the metadata of every package that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(GARBAGE)
    code = run(sys.argv[1:])
    gc.freeze()  # all that is left goes with the process: Python need not look through it at its end
    sys.exit(code)


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


if __name__ == "__main__":
    main()
