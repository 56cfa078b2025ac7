"""Lab hosts: containers with systemd as PID 1, started together, ready when SSH lets us in."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from provisioner.errors import LabError
from provisioner.lab import keys
from provisioner.lab.context import Arch, Report, Suite
from provisioner.lab.debs import SUITE
from provisioner.lab.docker import LABEL, docker, inspect, labelled
from provisioner.lab.hardware import LabHost, gpu_table
from provisioner.lab.network import NETWORK, nameservers
from provisioner.lab.process import succeeds, wait_until

_T = TypeVar("_T")
_READY_SECONDS: dict[Arch, float] = {"amd64": 60, "arm64": 180}
_CAP_SYS_RESOURCE = 24
# In the kernel's order, bit 0 first; the three after AUDIT_READ are unknown to dockerd 20.10.
_CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
""".split()  # noqa: SIM905  40 quoted words would hide the order


@dataclass(frozen=True)
class HostStatus:
    """One lab host as Docker sees it."""

    name: str
    hardware: str  # id of the hardware profile
    arch: Arch
    gpus: int
    address: str
    running: bool
    suite: Suite = SUITE


def current_hosts() -> tuple[HostStatus, ...]:
    """Every host of the lab, running or not, by name."""
    hosts = []
    for told in inspect("container", sorted(labelled("container"))):
        labels = told["Config"]["Labels"]
        hosts.append(
            HostStatus(
                name=told["Name"].removeprefix("/"),
                hardware=labels[f"{LABEL}.hardware"],
                arch=labels[f"{LABEL}.arch"],
                gpus=int(labels[f"{LABEL}.gpus"]),
                address=labels[f"{LABEL}.address"],
                running=told["State"]["Running"],
                suite=labels.get(f"{LABEL}.suite", SUITE),
            )
        )
    return tuple(hosts)


def create_argv(host: LabHost, address: IPv4Address, image: str, bounding: int, servers: Sequence[str]) -> list[str]:
    """`docker ...` arguments that make the host without starting it. `bounding`: capabilities we may give."""
    argv = ["create", "-t", "--name", host.name, "--hostname", host.name, "--restart", "always"]
    argv += ["--network", NETWORK, "--ip", str(address), "--cgroupns", "private", "--shm-size", "2g"]
    argv += ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec"]  # noqa: S108  inside the host
    argv += ["--platform", f"linux/{host.arch}", "-e", f"LAB_NAMESERVERS={' '.join(servers)}"]
    labels = {
        "": "1",
        ".hardware": host.model.id,
        ".arch": host.arch,
        ".suite": host.suite,
        ".gpus": str(host.gpus),
        ".address": str(address),
    }
    argv += [word for key, value in labels.items() for word in ("--label", f"{LABEL}{key}={value}")]
    return [*argv, *privilege_flags(bounding), image]


def privilege_flags(bounding: int) -> list[str]:
    """What systemd and dockerd inside need: --privileged, or every capability that this machine itself has.

    --privileged asks for CAP_SYS_RESOURCE too; on a machine whose bounding set lacks it, runc refuses.
    """
    if bounding >> _CAP_SYS_RESOURCE & 1:
        return ["--privileged"]
    flags = [word for bit, name in enumerate(_CAPABILITIES) if bounding >> bit & 1 for word in ("--cap-add", name)]
    for option in ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"):
        flags += ["--security-opt", option]
    return [*flags, "--device-cgroup-rule", "a *:* rwm"]


def start_hosts(state: Path, wanted: Mapping[LabHost, IPv4Address], image: str, report: Report) -> None:
    """Make and start these hosts of one image, all at once. Raises LabError when docker refuses one."""
    public = keys.ensure_key(keys.user_key(state), "provision-lab")
    bounding = _bounding_set()
    servers = nameservers()

    def start(host: LabHost) -> None:
        docker(create_argv(host, wanted[host], image, bounding, servers), what=f"making {host.name}")
        seed = _seed(state, host, public)
        docker(["cp", "-", f"{host.name}:/"], what=f"giving {host.name} its keys and GPUs", data=seed)
        docker(["start", host.name], what=f"starting {host.name}", timeout=120)
        report(f"host {host.name}: started ({host.arch}, {host.gpus} × {host.model.name}, simulated)")

    _together(start, list(wanted))


def start_stopped(hosts: Sequence[HostStatus], report: Report) -> None:
    """Start hosts that are there but do not run."""
    for host in hosts:
        docker(["start", host.name], what=f"starting {host.name}", timeout=120)
        report(f"host {host.name}: started again")


def remove_unfinished() -> list[str]:
    """Remove hosts that an interrupted `up` made but never started (they lack their keys); their names."""
    told = inspect("container", sorted(labelled("container")))
    return remove_hosts([x["Name"].removeprefix("/") for x in told if x["State"]["Status"] == "created"])


def remove_hosts(names: Sequence[str] | None = None) -> list[str]:
    """Remove these hosts (all by default) with their disks; the names."""
    there = sorted(labelled("container"))
    gone = there if names is None else [name for name in there if name in names]
    if gone:
        docker(["rm", "--force", "--volumes", *gone], what="removing lab hosts", timeout=180)
    return gone


def wait_for_ssh(state: Path, hosts: Sequence[HostStatus], report: Report) -> None:
    """Until every host lets us in. Raises LabError with the last words of the one that does not."""
    config = keys.ssh_config_file(state)

    def wait(host: HostStatus) -> None:
        began = time.monotonic()
        limit = _READY_SECONDS[host.arch]
        argv = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", host.name, "true"]
        if not wait_until(lambda: succeeds(argv, timeout=30), timeout=limit):
            words = docker(["logs", "--tail", "12", host.name], what=f"reading {host.name}'s console")
            raise LabError(f"{host.name}: SSH does not answer within {limit:.0f} s; its console ends with\n{words}")
        report(f"host {host.name}: SSH answers after {time.monotonic() - began:.1f} s")

    _together(wait, list(hosts))


def _together(work: Callable[[_T], None], items: Sequence[_T]) -> None:
    """All at once; the first error is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=max(1, len(items))) as pool:
        for done in [pool.submit(work, item) for item in items]:
            done.result()


def _seed(state: Path, host: LabHost, public: str) -> bytes:
    """A tar with what makes this host this one: its host key, who may log in, its GPUs."""
    key = keys.host_key(state, host.name)
    keys.ensure_key(key, host.name)
    authorized = f"{public}\n".encode()
    files: list[tuple[str, bytes, int, int]] = [
        ("etc/lab-gpus.csv", gpu_table(host).encode(), 0o644, 0),
        ("etc/ssh/ssh_host_ed25519_key", key.read_bytes(), 0o600, 0),
        ("etc/ssh/ssh_host_ed25519_key.pub", key.with_name(f"{key.name}.pub").read_bytes(), 0o644, 0),
        ("root/.ssh/authorized_keys", authorized, 0o600, 0),
        ("home/ops/.ssh/authorized_keys", authorized, 0o600, 1000),
        ("home/nosudo/.ssh/authorized_keys", authorized, 0o600, 1001),
    ]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content, mode, owner in files:
            if path.endswith("authorized_keys"):
                folder = tarfile.TarInfo(path.rpartition("/")[0])
                folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o700, owner, owner
                archive.addfile(folder)
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.uid, info.gid = len(content), mode, owner, owner
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _bounding_set() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:"))
