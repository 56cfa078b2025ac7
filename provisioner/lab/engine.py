"""The Docker engine: the one that answers, or one that the lab installs and starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab import services, traces
from provisioner.lab.context import Report
from provisioner.lab.machine import WITHOUT_LAB, require_apt, require_root
from provisioner.lab.process import run, succeeds, wait_until

SERVICE = "dockerd"
_POLICY = Path("/usr/sbin/policy-rc.d")
# package -> the program that shows it is there
_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "git": "git",
    "openssh-client": "ssh",
    "iproute2": "ip",
    "curl": "curl",
    "iptables": "iptables",
}


@dataclass(frozen=True)
class DockerEngine:
    """A Docker engine that answers. `ours`: the lab started it, so `down` stops it."""

    env: dict[str, str]
    version: str
    ours: bool


def docker_env() -> dict[str, str]:
    """The environment for every docker client call: the legacy builder needs no buildx plugin."""
    return {**os.environ, "DOCKER_BUILDKIT": "0", "PATH": _path()}


def ensure_engine(state: Path, cache: Path, report: Report) -> DockerEngine:
    """The engine that answers; else install (apt) and start one. Raises LabError, saying what is missing."""
    answers = engine_version()
    _install_missing(need_engine=answers is None, report=report)
    if answers is None:
        answers = _start(state, cache, report)
    return DockerEngine(env=docker_env(), version=answers, ours=services.is_running(state, SERVICE))


def engine_version() -> str | None:
    """Version of the Docker engine that answers at DOCKER_HOST or the default socket, or None."""
    if not shutil.which("docker", path=_path()):
        return None
    question = ["docker", "version", "--format", "{{.Server.Version}}"]
    if not succeeds(question, timeout=20, env=docker_env()):
        return None
    return run(question, timeout=20, what="asking Docker for its version", env=docker_env()).strip()


def is_ours(state: Path) -> bool:
    """Whether the lab started the engine that runs."""
    return services.is_running(state, SERVICE)


def was_ours(state: Path) -> bool:
    """Whether the lab once started an engine and has not stopped it since (it may have died)."""
    return traces.noted(state)


def stop_engine(state: Path, cache: Path, report: Report) -> None:
    """Stop the engine if the lab started it, and undo what it did to the machine."""
    stopped = services.stop(state, SERVICE, timeout=60)
    traces.undo(state, _roots(state, cache))
    if stopped:
        report("docker engine: stopped (it was the lab's own)")


def _install_missing(*, need_engine: bool, report: Report) -> None:
    packages = [package for package, program in _TOOLS.items() if not shutil.which(program, path=_path())]
    if need_engine and not shutil.which("dockerd", path=_path()):
        packages.append("docker.io")
    if not packages:
        return
    require_root()
    require_apt()
    report(f"packages: no Docker engine or tool for it; installing with apt: {' '.join(packages)}")
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": _path()}
    hint = f"is the Debian mirror reachable? {WITHOUT_LAB}"
    run([*apt, "update"], timeout=300, what="reading the package lists", env=env, hint=hint)
    if "docker.io" in packages and not shutil.which("docker", path=_path()) and _has_package("docker-cli"):
        packages.append("docker-cli")  # its own package from Debian 13 on
    with _services_stay_down():
        run(
            [*apt, "install", "--no-install-recommends", *packages],
            timeout=900,
            what=f"installing {' '.join(packages)}",
            env=env,
            hint=hint,
        )


def _has_package(name: str) -> bool:
    listed = run(["apt-cache", "pkgnames", name], timeout=60, what="looking for packages")
    return name in listed.split()


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Without systemd an installed package would start its daemon behind our back: then it is nobody's."""
    if _POLICY.exists() or Path("/run/systemd/system").exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _start(state: Path, cache: Path, report: Report) -> str:
    if wait_until(lambda: engine_version() is not None, timeout=20 if _systemd() else 0):
        report("docker engine: started by its package")
        return engine_version() or ""
    require_root()
    address = os.environ.get("DOCKER_HOST")
    if address and not address.startswith("unix://"):
        raise LabError(f"no Docker engine answers at DOCKER_HOST={address}", hint="unset DOCKER_HOST or start it")
    report("docker engine: none answers, starting our own")
    first = not traces.noted(state)
    traces.note(state)
    (state / "docker.pid").unlink(missing_ok=True)  # of one that died: its number may belong to another by now
    data, work = _roots(state, cache)
    argv = [
        "dockerd",
        "--log-level=warn",
        f"--host={address or 'unix:///var/run/docker.sock'}",
        f"--data-root={data}",
        f"--exec-root={work}",
        f"--pidfile={state / 'docker.pid'}",
    ]
    services.start(state, SERVICE, argv, env={**os.environ, "PATH": _path()})
    wait_until(lambda: engine_version() is not None or not services.is_running(state, SERVICE), timeout=60)
    version = engine_version()
    if version is None:
        what = "did not answer within 60 s" if services.is_running(state, SERVICE) else "ended"
        words = services.last_words(state, SERVICE)
        services.stop(state, SERVICE)
        if first:  # else there are hosts of ours in it, for `down` to remove once it starts
            traces.undo(state, _roots(state, cache))
        raise LabError(f"dockerd {what}{words}", hint=f"log: {services.log_file(state, SERVICE)}")
    return version


def _roots(state: Path, cache: Path) -> tuple[Path, Path]:
    """Where our dockerd keeps its data and where it works."""
    return cache / "docker", state / "docker-exec"


def _systemd() -> bool:
    return Path("/run/systemd/system").exists()


def _path() -> str:
    """Root's shells often lack the sbin directories, where dockerd, iptables and ip live."""
    return ":".join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
