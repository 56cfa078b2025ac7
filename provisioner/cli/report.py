"""`provision report`: a run and its history at the terminal, as a page, as Markdown or as JSON."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from provisioner.cli.console import out, say
from provisioner.cli.show_tuning import summary
from provisioner.errors import UsageError
from provisioner.history.store import open_store
from provisioner.report import terminal
from provisioner.report.data import to_json
from provisioner.report.gather import gather
from provisioner.report.markdown import markdown
from provisioner.report.model import Report
from provisioner.report.page import page
from provisioner.report.table import lines, table


def report(run: str, *, fleet: str | None, html: Path | None, as_markdown: bool, json: bool) -> None:
    """Shows the run, writes the page or prints the text. UsageError for more than one format."""
    if (html is not None) + as_markdown + json > 1:
        raise UsageError("one of --html, --markdown and --json at a time")
    with open_store(read_only=True) as store:
        found = gather(store, store.run(run, fleet), now=datetime.now(UTC))
    if html is not None:
        _write(html, found)
    elif as_markdown or json:
        out(markdown(found) if as_markdown else to_json(found))
    else:
        _show(found)


def _write(file: Path, found: Report) -> None:
    text = page(found)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {file}: cannot be written: {error.strerror or error}") from error
    say(f"{file}: run {found.run.id}, {len(text.encode()) / 1024:.0f} KiB, one file that needs no network")


def _show(found: Report) -> None:
    out(terminal.head(found))
    if found.tuning:
        out(summary(found.tuning))
        return
    history = {(trend.host, trend.server): trend.throughputs for host in found.hosts for trend in host.trends}
    if not found.verdicts:
        out("no server was validated in this run")
    elif sys.stdout.isatty():
        Console().print(table(found.verdicts, history))
    else:
        out("\n".join(lines(found.verdicts, history)))
    if text := terminal.foot(found):
        out(text)
