"""Things that go wrong on real hosts, done to lab hosts. Each `with` block ends with the host as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from provisioner.errors import LabError
from provisioner.lab import keys
from provisioner.lab.docker import docker
from provisioner.lab.hosts import current_hosts
from provisioner.lab.network import NETWORK
from provisioner.lab.paths import state_dir
from provisioner.lab.process import run, wait_until

_GPUS = "/etc/lab-gpus.csv"
_SLOWING = "/run/lab-slowing.pid"


def on_host(name: str, argv: Sequence[str], *, timeout: float = 60) -> str:
    """Run a command as root on a lab host, past SSH; its stdout. Raises LabError when it fails."""
    return docker(["exec", name, *argv], what=f"{' '.join(argv)} on {name}", timeout=timeout)


def reboot(name: str, *, timeout: float = 180) -> None:
    """`systemctl reboot` on the host, and wait until SSH answers with a new boot id. Raises LabError."""
    before = _boot_id(name)
    on_host(name, ["systemctl", "--no-block", "reboot"])
    if not wait_until(lambda: _boot_id(name) not in {"", before}, timeout=timeout, every=0.5):
        raise LabError(f"{name} did not come back within {timeout:.0f} s of its reboot")


@contextmanager
def powered_off(name: str) -> Iterator[None]:
    """The host is not there."""
    docker(["stop", "--time", "20", name], what=f"stopping {name}", timeout=60)
    try:
        yield
    finally:
        docker(["start", name], what=f"starting {name}", timeout=60)
        _wait_for_ssh(name)


@contextmanager
def without_network(name: str) -> Iterator[None]:
    """The cable is pulled: established connections hang, new ones time out."""
    address = next(host.address for host in current_hosts() if host.name == name)
    docker(["network", "disconnect", NETWORK, name], what=f"disconnecting {name}")
    try:
        yield
    finally:
        docker(["network", "connect", "--ip", address, NETWORK, name], what=f"connecting {name}")
        _wait_for_ssh(name)


@contextmanager
def cut_off(name: str, *, but: int | None = None) -> Iterator[None]:
    """The host reaches nothing, or one port of other machines: what else it begins is refused at once. SSH to it works,
    and so does its loopback."""
    pid = docker(["inspect", "--format", "{{.State.Pid}}", name], what=f"looking for {name}").strip()
    rules = [
        ["-o", "lo", "-j", "ACCEPT"],
        ["-p", "tcp", "--sport", "22", "-j", "ACCEPT"],
        *([["-p", "tcp", "--dport", str(but), "-j", "ACCEPT"]] if but else []),
        ["-j", "REJECT"],
    ]
    chain = ["nsenter", "--target", pid, "--net", "iptables", "--wait"]
    try:
        for rule in rules:
            run([*chain, "--append", "OUTPUT", *rule], timeout=30, what=f"cutting {name} off")
        yield
    finally:
        for rule in rules:
            run([*chain, "--delete", "OUTPUT", *rule], timeout=30, what=f"letting {name} out again")


@contextmanager
def small_disk(name: str, path: str, mebibytes: int) -> Iterator[None]:
    """`path` on the host is a file system of that size, empty. What was there is back afterwards."""
    on_host(name, ["mkdir", "-p", path])
    on_host(name, ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "lab-small-disk", path])
    try:
        yield
    finally:
        on_host(name, ["umount", "--lazy", path])


@contextmanager
def without_gpus(name: str) -> Iterator[None]:
    """nvidia-smi says that it cannot talk to the driver."""
    on_host(name, ["mv", _GPUS, f"{_GPUS}.away"])
    try:
        yield
    finally:
        on_host(name, ["mv", f"{_GPUS}.away", _GPUS])


@contextmanager
def driver(name: str, version: str) -> Iterator[None]:
    """nvidia-smi tells another version of the driver."""
    program = 'NR == 1 { while ($++i != "driver_version"); } NR > 1 { $i = version } { print }'
    table = on_host(name, ["awk", "-F", ", ", "-v", "OFS=, ", "-v", f"version={version}", program, _GPUS])
    on_host(name, ["cp", "-p", _GPUS, f"{_GPUS}.before"])
    on_host(name, ["sh", "-c", f'printf "%s" "$1" > {_GPUS}', "sh", table])
    try:
        yield
    finally:
        on_host(name, ["mv", f"{_GPUS}.before", _GPUS])


@contextmanager
def port_taken(name: str, port: int) -> Iterator[None]:
    """Some other program listens on the port, on every address."""
    unit = f"lab-port-{port}"
    argv = ["systemd-run", f"--unit={unit}", "--collect", "python3", "-m", "http.server", str(port)]
    on_host(name, argv)
    listeners = f"ss -Hltn 'sport = :{port}' | wc -l"
    if not wait_until(lambda: on_host(name, ["sh", "-c", listeners]).strip() != "0", timeout=30):
        raise LabError(f"nothing listens on port {port} of {name} after 30 s")
    try:
        yield
    finally:
        on_host(name, ["systemctl", "stop", unit])


@contextmanager
def slowed(name: str, container: str, share: float) -> Iterator[None]:
    """A container of the host runs for that share of the time, and stands still for the rest, ten times a second.
    Nothing but its speed tells. (`docker update --cpus` needs a cgroup controller that not every machine has.)"""
    processes = " ".join(on_host(name, ["docker", "top", container, "-eo", "pid"]).split()[1:])
    pulse = f"kill -STOP {processes} && sleep {(1 - share) / 10:.3f}; kill -CONT {processes} && sleep {share / 10:.3f}"
    loop = f"echo $$ > {_SLOWING}; while {pulse}; do :; done"
    docker(["exec", "--detach", name, "sh", "-c", loop], what=f"slowing {container} on {name}")
    try:
        yield
    finally:
        on_host(name, ["sh", "-c", f"kill $(cat {_SLOWING}); rm {_SLOWING}; kill -CONT {processes}"])


def kill_container(name: str, container: str) -> None:
    """`docker kill` of a container on the host, behind systemd's back."""
    on_host(name, ["docker", "kill", container])


def _boot_id(name: str) -> str:
    try:
        return _ssh(name, ["cat", "/proc/sys/kernel/random/boot_id"])
    except LabError:  # it is down: that is the answer
        return ""


def _wait_for_ssh(name: str, timeout: float = 120) -> None:
    if not wait_until(lambda: _boot_id(name) != "", timeout=timeout):
        raise LabError(f"{name}: SSH does not answer within {timeout:.0f} s")


def _ssh(name: str, argv: Sequence[str]) -> str:
    config = str(keys.ssh_config_file(state_dir()))
    ssh = ["ssh", "-F", config, "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", name, *argv]
    return run(ssh, timeout=30, what=f"asking {name}").strip()
