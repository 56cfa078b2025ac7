from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from ssh_server import SshServer

from provisioner.hosts.endpoint import Endpoint


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "id_ecdsa"
    paramiko.ECDSAKey.generate().write_private_key_file(str(path))
    return path


@pytest.fixture
def server(client_key: Path) -> Iterator[SshServer]:
    with SshServer([paramiko.PKey.from_path(str(client_key))]) as running:
        yield running


@pytest.fixture
def endpoint(server: SshServer, client_key: Path, tmp_path: Path) -> Endpoint:
    """How to reach the server, its host key known."""
    known = tmp_path / "known_hosts"
    known.write_text(server.known_hosts_line())
    return Endpoint(
        "gpu-01", "127.0.0.1", server.port, "ops", identity_files=(client_key,), known_hosts=(known,), timeout_s=5.0
    )
