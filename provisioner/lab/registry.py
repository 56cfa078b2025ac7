"""An image registry for the lab: Debian's docker-registry, three times over one store.

This machine's dockerd pushes to a loopback address, which it takes without TLS and without a change to its
configuration; the hosts pull from the bridge's gateway, as a registry mirror under the images' real names. At a third
address the same images are for those who log in and trust its authority.
"""

from __future__ import annotations

import os
import secrets
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from provisioner.errors import LabError
from provisioner.lab import debs, services
from provisioner.lab.certificates import make_certificate
from provisioner.lab.context import Report
from provisioner.lab.machine import Mirror
from provisioner.lab.process import wait_until

PULL_PORT, PRIVATE_PORT = 5000, 5010
USER = "lab"
"""who may pull from the private registry"""
_PUSH_PORTS = range(5001, 5010)
_PUSH, _PULL, _PRIVATE = "registry-push", "registry-pull", "registry-private"


@dataclass(frozen=True)
class Registry:
    """Addresses of one store: `push` for this machine, `pull` for the hosts."""

    push: str
    pull: str


def ensure_registry(state: Path, cache: Path, mirror: Mirror, gateway: str, inner: str, report: Report) -> Registry:
    """Start what does not run yet. Raises LabError when a port is taken or the registry does not answer.

    `inner`: the address that the uplink forwards what hosts pull from.
    """
    if services.is_running(state, _PUSH):
        push = (state / "registry-push.address").read_text()
    else:
        push = f"127.0.0.1:{_free_port()}"
        (state / "registry-push.address").write_text(push)
    pull = f"{gateway}:{PULL_PORT}"
    program = debs.program(debs.unpacked(cache, mirror, "registry", ["docker-registry"]), "usr/bin/docker-registry")
    for name, address in ((_PUSH, push), (_PULL, inner), (_PRIVATE, f"{gateway}:{PRIVATE_PORT}")):
        if services.is_running(state, name):
            continue
        config = state / f"{name}.yml"
        private = _private(state, gateway) if name == _PRIVATE else ""
        config.write_text(config_text(cache / "registry", address) + private)
        env = {**os.environ, "REGISTRY_HTTP_SECRET": "lab"}  # only signs upload sessions
        services.start(state, name, [str(program), "serve", str(config)], env=env)
        if private:
            wait_for_port(state, name, gateway, PRIVATE_PORT)
        else:
            wait_for_http(state, name, f"http://{address}/v2/")
        who = f", for user {USER} with the password in {password_file(state)}" if private else ""
        report(f"{name}: answers at {pull if name == _PULL else address}{who}")
    return Registry(push=push, pull=pull)


def password_file(state: Path) -> Path:
    """The password of USER at the private registry, on one line."""
    return state / "registry-password"


def authority_file(state: Path) -> Path:
    """The certificate (PEM) of the authority that signed the private registry's own."""
    return state / "registry-authority.pem"


def config_text(store: Path, address: str) -> str:
    """Configuration of one docker-registry, which ends with its `http` section."""
    return (
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        "storage:\n"
        f"  filesystem: {{rootdirectory: {store}}}\n"
        "  delete: {enabled: true}\n"
        "http:\n"
        f"  addr: {address}\n"
    )


def _private(state: Path, gateway: str) -> str:
    """The rest of its configuration: a login and a certificate, both made anew with every start of it."""
    password, users = password_file(state), state / "registry-users"
    for file in (password, users):
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
    certificate, key = state / "registry-certificate.pem", state / "registry-key.pem"
    make_certificate(gateway, authority_file(state), certificate, key)
    password.write_text(f"{secrets.token_hex(16)}\n")
    users.write_text(f"{USER}:{bcrypt.hashpw(password.read_text().strip().encode(), bcrypt.gensalt(4)).decode()}\n")
    tls = f"  tls: {{certificate: {certificate}, key: {key}}}\n"
    return f"{tls}auth:\n  htpasswd: {{realm: lab, path: {users}}}\n"


def wait_for_http(state: Path, name: str, url: str, *, timeout: float = 20) -> None:
    """Until a service of ours answers at `url`, whatever the status. Raises LabError with its last words."""
    _wait(state, name, lambda: _answers(url), url, timeout)


def wait_for_port(state: Path, name: str, host: str, port: int, *, timeout: float = 20) -> None:
    """Until a service of ours takes connections. Raises LabError with its last words."""
    _wait(state, name, lambda: _connects(host, port), f"{host}:{port}", timeout)


def _wait(state: Path, name: str, ready: Callable[[], bool], where: str, timeout: float) -> None:
    if wait_until(lambda: ready() or not services.is_running(state, name), timeout=timeout) and ready():
        return
    what = f"did not answer at {where} within {timeout:.0f} s" if services.is_running(state, name) else "ended"
    raise LabError(f"{name} {what}{services.last_words(state, name)}", hint=f"log: {services.log_file(state, name)}")


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=3).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


def _free_port() -> int:
    for port in _PUSH_PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LabError(f"no free port for the registry on 127.0.0.1 ({_PUSH_PORTS.start} to {_PUSH_PORTS.stop - 1})")
