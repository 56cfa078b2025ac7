"""One OpenSSH server on this machine's loopback that stands for many hosts: a name each, the same server behind all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = "PROVISION_BENCH_SSHD"
"""where the server's program is, if it is not installed"""
LIBRARIES = "PROVISION_BENCH_SSHD_LIBRARIES"
PATIENCE_S = 10.0
LABEL = "one OpenSSH server on loopback stands for all hosts, and does their work on this machine's processors"

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 1000
PidFile none
UseDNS no
LogLevel ERROR
"""
_CLIENT = """\
Host bench-*
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  HostKeyAlias bench
  ControlMaster no
  ControlPath none
"""
# As root the server wants a user and a directory of its own, which a machine without one lacks: both are there in a
# mount namespace alone. Everybody's shell is sh: what a shell of this machine does at login is not what is measured.
_AS_ROOT = """\
set -e
sed 's#:/[^:]*$#:/bin/sh#' /etc/passwd > "$1/passwd"
grep -q '^sshd:' "$1/passwd" || echo 'sshd:x:65533:65534::/run/sshd:/bin/sh' >> "$1/passwd"
mount --make-rprivate /
mount --bind "$1/passwd" /etc/passwd
mount -t tmpfs none /run
mkdir -p /run/sshd
exec "$2" -D -e -f "$1/sshd_config"
"""


@contextmanager
def ssh_server(folder: Path, answer: str = "") -> Iterator[Path]:
    """The SSH configuration in which `bench-NAME` is a host; the server ends with the block.

    `answer`: what the hosts' python3 says, whatever it is given; without it, it is this machine's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port, user = _free_port(), os.environ.get("USER") or "root"
    (folder / "sshd_config").write_text(_CONFIG.format(port=port, folder=folder), encoding="utf-8")
    if answer:
        _recorded(folder, answer)
    config = folder / "ssh_config"
    config.write_text(_CLIENT.format(port=port, folder=folder, user=user), encoding="utf-8")
    (folder / "known_hosts").write_text(f"bench {(folder / 'host.pub').read_text()}", encoding="utf-8")
    program = os.environ.get(SERVER) or shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit(f"the OpenSSH server is not installed: install openssh-server, or set {SERVER} to its sshd")
    argv = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
    if os.geteuid() == 0:
        argv = ["unshare", "--mount", "sh", "-c", _AS_ROOT, "sshd", str(folder), program]
    env = {**os.environ, **({"LD_LIBRARY_PATH": os.environ[LIBRARIES]} if os.environ.get(LIBRARIES) else {})}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    try:
        _wait(server, port, folder / "log")
        yield config
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE_S)


def _recorded(folder: Path, answer: str) -> None:
    place = folder / "bin"
    place.mkdir()
    (folder / "answer").write_text(answer, encoding="utf-8")
    (place / "python3").write_text(f"#!/bin/sh\ncat > /dev/null\nexec cat {folder}/answer\n", encoding="utf-8")
    (place / "python3").chmod(0o755)
    with (folder / "sshd_config").open("a", encoding="utf-8") as stream:
        stream.write(f"SetEnv PATH={place}:/usr/local/bin:/usr/bin:/bin\n")


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"sshd does not listen on 127.0.0.1:{port} within {PATIENCE_S:g} s: {log.read_text()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
