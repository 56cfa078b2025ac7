"""`provision drift`: for monitoring, what is not as planned on which host, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.cli import show_drift
from provisioner.cli.console import out
from provisioner.cli.looking import looked_at, worst
from provisioner.errors import Exit
from provisioner.history.store import open_store
from provisioner.report.monitoring.drift import drift_textfile
from provisioner.report.monitoring.files import write
from provisioner.rollout.drift import drift_of, remembered


def drift(path: Path, hosts: Sequence[str], *, json: bool, prometheus: Path | None, bundle: Path | None = None) -> Exit:
    """Exits as `plan` does: 0 as planned, 5 not, otherwise what stands in the way of telling."""
    seen = looked_at(path, hosts, bundle)
    with open_store() as store:
        found = remembered(drift_of(seen), store)
    if prometheus is not None:
        write(prometheus.parent, {prometheus.name: drift_textfile(found)})
    out(show_drift.as_json(found) if json else show_drift.text(found))
    if seen.unfit:
        return worst(seen)
    return Exit.CHANGES if found.count else Exit.OK
