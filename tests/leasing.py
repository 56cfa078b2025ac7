"""Hosts with a lease and nothing else: the real host-side part, on a folder and with a clock of the test's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import UnreachableError
from provisioner.hosts import lease_script
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.lease import FILE
from provisioner.hosts.lease_script import BEGIN, END

_REQUEST = re.compile(rb"main\(json\.loads\((.*)\)\)\s*$")


class LeaseHosts:
    """`clock`: seconds since the hosts booted. `away`: hosts that cannot be reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.clock = 1000.0
        self.away: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        """host and act, in order"""
        self.boots = 1
        monkeypatch.setattr(lease_script, "_now", lambda: self.clock)
        monkeypatch.setattr(lease_script, "_boot", lambda: f"boot {self.boots}")

    def transport(self, host: str) -> FakeTransport:
        """A connection to a host of that name."""
        if host in self.away:
            raise UnreachableError(f"{host}: refused")
        return FakeTransport(host, [("", lambda _, stdin: self.answer(host, stdin))])

    def answer(self, host: str, stdin: bytes) -> str:
        """What the host's python3 prints, after a greeting of its shell; "" where it is asked for something else."""
        found = _REQUEST.search(stdin) if BEGIN.encode() in stdin else None
        if found is None:
            return ""
        request: dict[str, Any] = json.loads(eval(found[1]))  # noqa: S307  a literal of our own
        self.asked.append((host, request["act"]))
        told = lease_script.answer({**request, "folder": str(self.folder / host)})
        return f"Welcome!\n{BEGIN}\n{json.dumps(told)}\n{END}\n"

    def file(self, host: str) -> str | None:
        """What a probe reads of the lease."""
        path = self.folder / host / Path(FILE).name
        return path.read_text() if path.exists() else None

    def holder(self, host: str) -> dict[str, Any] | None:
        """Whose lease the host's file tells of."""
        found: dict[str, Any] | None = json.loads(self.file(host) or "{}").get("holder")
        return found

    def boot(self, host: str) -> None:
        """The host forgets."""
        (self.folder / host / Path(FILE).name).unlink(missing_ok=True)
        self.boots += 1


@pytest.fixture
def lease_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LeaseHosts:
    return LeaseHosts(monkeypatch, tmp_path / "leases")
