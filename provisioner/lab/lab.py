"""The rehearsal fleet as a whole: up, status, down, and hosts taken away alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from provisioner.errors import LabError, UsageError
from provisioner.lab import binfmt, docker, emulation, engine, engines, images, keys, services, supply
from provisioner.lab.context import Arch, Engine, EngineContext, Report, Suite
from provisioner.lab.debs import SUITE
from provisioner.lab.fleetfile import fleet_files, fleet_text, remember_fleet, remove_fleet, write_fleet
from provisioner.lab.hardware import LabHost, parse_hosts
from provisioner.lab.hosts import (
    HostStatus,
    current_hosts,
    remove_hosts,
    remove_unfinished,
    start_hosts,
    start_stopped,
    wait_for_ssh,
)
from provisioner.lab.machine import Mirror, mirror, require_apt, require_root
from provisioner.lab.network import NETWORK, LabNetwork, current_network, ensure_network, free_addresses
from provisioner.lab.paths import cache_dir, make_private, state_dir
from provisioner.lab.process import run
from provisioner.lab.proxy import ensure_proxy
from provisioner.lab.registry import PULL_PORT, Registry, ensure_registry
from provisioner.lab.request import LabRequest, LabStatus, ServiceStatus
from provisioner.lab.rootfs import ensure_rootfs
from provisioner.lab.uplink import ensure_uplink

ENGINE_VARIABLE = "PROVISION_LAB_ENGINE"
__all__ = ["LabRequest", "LabStatus", "ServiceStatus", "down", "remove", "status", "up"]


def up(request: LabRequest, report: Report) -> LabStatus:
    """Bring up the hosts asked for, with all they fetch from; what runs is kept, what is missing is added.

    Raises LabError (this machine cannot, with a hint what could) and UsageError (the request makes no sense).
    """
    wanted = parse_hosts(request.hosts)
    wants = _engines(request.engine, wanted)
    require_root()
    require_apt()
    for host in wanted:
        images.is_emulated(host.arch)
    say = _timed(report)
    state, cache = state_dir(), make_private(cache_dir())
    with _lock(cache):
        make_private(state)
        source = mirror()
        engine.ensure_engine(state, cache, say)
        remember_fleet(state, request.fleet_file.absolute())
        network = ensure_network()
        missing = _settle(wanted, network, say)
        there = {host.name: host.address for host in current_hosts()}
        keys.write_ssh_files(state, there | {host.name: str(address) for host, address in missing.items()})
        gateway = str(network.gateway)
        inner = ensure_uplink(state, gateway, (PULL_PORT, supply.HUB_PORT), request.uplink_mib_s, say)
        registry = ensure_registry(state, cache, source, gateway, inner["registry"], say)
        ensure_proxy(state, cache, source, gateway, say)
        archs: frozenset[Arch] = frozenset(host.arch for host in wanted)
        # engines are made for the usual suite, whatever the hosts are
        kinds = {(host.arch, host.suite) for host in wanted} | {(arch, SUITE) for arch in archs}
        with ThreadPoolExecutor(max_workers=2 * len(kinds)) as pool:
            bases = {kind: pool.submit(_base, state, cache, kind, source, say) for kind in sorted(kinds)}
            ready = [
                pool.submit(_hosts, state, cache, kind, bases[kind], source, missing, say)
                for kind in {(host.arch, host.suite) for host in missing}
            ]
            context = _context(state, cache, gateway, inner["hub"], registry, archs, wants, bases, source)
            engines.ensure(context, say)
            supply.ensure_supply(context, say)
            for done in ready:
                done.result()
        hosts = current_hosts()
        wait_for_ssh(state, hosts, say)
        _check_mirror(state, hosts[0], source)
        text = fleet_text([host.name for host in hosts], gateway, wants)
        write_fleet(request.fleet_file, text, ssh_config=keys.ssh_config_file(state), token=supply.hub_token(state))
        say(f"fleet file: {request.fleet_file}")
    return status()


def status() -> LabStatus:
    """The lab as it is now; changes nothing."""
    state = state_dir()
    version = engine.engine_version()
    known = version is not None and docker.exists("network", NETWORK)
    fleets = fleet_files(state)
    config = keys.ssh_config_file(state)
    return LabStatus(
        docker_version=version,
        docker_ours=engine.is_ours(state),
        gateway=str(current_network().gateway) if known else None,
        hosts=current_hosts() if known else (),
        services=tuple(
            ServiceStatus(name, services.is_running(state, name), services.log_file(state, name))
            for name in services.names(state)
        ),
        state=state,
        cache=cache_dir(),
        ssh_config=config if config.exists() else None,
        fleet_file=fleets[-1] if fleets else None,
    )


def down(report: Report) -> None:
    """Take away everything but the caches (and packages that apt installed). Nothing to do is no error."""
    say = _timed(report)
    state = state_dir()
    if not state.exists():
        say("no lab is up here")
        return
    require_root()
    with _lock(make_private(cache_dir())):
        if engine.engine_version() is None and engine.was_ours(state):
            # its hosts would come back at its next start: it must be there for them to be removed
            engine.ensure_engine(state, cache_dir(), say)
        if engine.engine_version() is not None:
            gone = remove_hosts()
            say(f"hosts: removed {', '.join(gone)}" if gone else "hosts: none")
            if docker.exists("network", NETWORK):
                docker.docker(["network", "rm", NETWORK], what="removing the lab's network")
        for name in services.names(state):
            if name != engine.SERVICE and services.stop(state, name):
                say(f"{name}: stopped")
        if binfmt.unregister_arm64(state):
            say("binfmt: arm64 registration removed")
        engine.stop_engine(state, cache_dir(), say)
        for file in fleet_files(state):
            remove_fleet(file)
        shutil.rmtree(state)
    say(f"down; caches stay in {cache_dir()}")


def remove(names: Sequence[str], report: Report) -> None:
    """Take away these hosts alone, with their disks. One that is not there is no error."""
    say = _timed(report)
    require_root()
    with _lock(make_private(cache_dir())):
        known = engine.engine_version() is not None
        gone = remove_hosts(names) if known else []
    say(f"hosts: removed {', '.join(gone)}" if gone else f"hosts: none of {', '.join(names)}")


def _engines(word: str, hosts: tuple[LabHost, ...]) -> frozenset[Engine]:
    chosen = os.environ.get(ENGINE_VARIABLE) or word
    if chosen not in {"auto", "sim"}:
        raise UsageError(f"unknown lab engine {chosen!r}", hint=f"auto or sim (option or {ENGINE_VARIABLE})")
    archs = {host.arch for host in hosts}
    wanted: set[Engine] = {"sim"} if chosen == "sim" or "arm64" in archs else set()
    if chosen == "auto" and "amd64" in archs:
        wanted.add("vllm")
    return frozenset(wanted)


_Kind = tuple[Arch, Suite]


def _base(state: Path, cache: Path, kind: _Kind, source: Mirror, say: Report) -> str:
    arch, suite = kind
    if images.is_emulated(arch):
        binfmt.register_arm64(state, cache, source)
    return images.ensure_base_image(ensure_rootfs(cache, arch, source, say, suite), arch, say)


def _settle(wanted: tuple[LabHost, ...], network: LabNetwork, say: Report) -> dict[LabHost, IPv4Address]:
    """Start what stands still; the hosts that are to be made, with their addresses."""
    for name in remove_unfinished():
        say(f"host {name}: was left half made, will be made again")
    there = current_hosts()
    start_stopped([host for host in there if not host.running], say)
    names = {host.name for host in there}
    new = [host for host in wanted if host.name not in names]
    taken = [IPv4Address(host.address) for host in there]
    return dict(zip(new, free_addresses(network, taken, len(new)), strict=True))


def _hosts(
    state: Path,
    cache: Path,
    kind: _Kind,
    base: Future[str],
    source: Mirror,
    missing: dict[LabHost, IPv4Address],
    say: Report,
) -> None:
    """The missing hosts of one architecture and suite, as soon as their image is there."""
    arch, _ = kind
    helpers = emulation.helpers_tar(cache, source) if images.is_emulated(arch) else None
    image = images.ensure_host_image(base.result(), arch, helpers, say)
    wanted = {host: address for host, address in missing.items() if (host.arch, host.suite) == kind}
    start_hosts(state, wanted, image, say)


def _context(
    state: Path,
    cache: Path,
    gateway: str,
    hub: str,
    registry: Registry,
    archs: frozenset[Arch],
    wants: frozenset[Engine],
    bases: dict[_Kind, Future[str]],
    source: Mirror,
) -> EngineContext:
    return EngineContext(
        cache_dir=cache,
        state_dir=state,
        docker_env=engine.docker_env(),
        push_registry=registry.push,
        pull_registry=registry.pull,
        gateway=gateway,
        hub=hub,
        archs=archs,
        engines=wants,
        base_image=lambda arch: bases[arch, SUITE].result(),
        mirror=source.url,
    )


def _check_mirror(state: Path, host: HostStatus, source: Mirror) -> None:
    """The provisioner installs Docker with apt inside the hosts: say it here when that cannot work."""
    argv = ["ssh", "-F", str(keys.ssh_config_file(state)), "-o", "BatchMode=yes", host.name, "curl", "-sfIo/dev/null"]
    argv += [
        "--max-time",
        "20",
        *(["-x", source.proxy] if source.proxy else []),
        f"{source.url}/dists/trixie/InRelease",
    ]
    run(
        argv,
        timeout=60,
        what=f"reaching the Debian mirror from {host.name}",
        hint="this machine must forward its containers' traffic (ip_forward, iptables FORWARD)",
    )


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError("another `provision lab` is at work here", hint="wait for it to end") from error
        yield


def _timed(report: Report) -> Report:
    began = time.monotonic()
    return lambda text: report(f"{time.monotonic() - began:6.1f} s  {text}")
