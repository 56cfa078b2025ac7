"""All files of a fleet's monitoring, and writing them so that nobody reads half of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from provisioner.errors import UsageError
from provisioner.report.monitoring.grafana import DASHBOARD, dashboard
from provisioner.report.monitoring.rules import RULES, rules_text
from provisioner.report.monitoring.served import LastVerdict, Served
from provisioner.report.monitoring.targets import CONFIG, target_files
from provisioner.report.monitoring.textfile import TEXTFILE, textfile

CONFIG_FILE = "prometheus.yml"


def monitoring_files(fleet: str, servers: Sequence[Served], verdicts: Sequence[LastVerdict]) -> dict[str, str]:
    """Path relative to the folder → text."""
    return {
        CONFIG_FILE: CONFIG,
        RULES: rules_text(fleet),
        **target_files(servers),
        TEXTFILE: textfile(verdicts),
        DASHBOARD: dashboard(),
    }


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Writes them; a file that says the same already is left alone. UsageError where that is not possible."""
    try:
        for name, text in files.items():
            _replace(folder / name, text)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error


def stale(folder: Path, files: Iterable[str]) -> tuple[Path, ...]:
    """Target files of hosts that have none any more: who scrapes there would go on with them."""
    wanted = {folder / name for name in files}
    return tuple(sorted(one for one in folder.glob("targets/loopback/*.json") if one not in wanted))


def _replace(path: Path, text: str) -> None:
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
