"""Hosts before and after, compared: packages, files, units, Docker's state."""

from __future__ import annotations

from dataclasses import dataclass

from support import shell

CLEARED = "lab-h200-2"
"""the host of the main job that is cleared when that is done"""
LEFT_OUT = {
    "/proc": "the kernel's",
    "/sys": "the kernel's",
    "/dev": "the kernel's",
    "/run": "gone at the next boot",
    "/tmp": "gone at the next boot",
    "/var/cache": "caches",
    "/var/lib/apt": "caches of lists, and marks that are compared by themselves",
    "/var/lib/dpkg": "dpkg's own books; the list of packages is compared by itself",
    "/var/lib/docker": "compared by what Docker says; must be empty without one",
    "/var/lib/containerd": "compared by what Docker says; must not be there without one",
    "/var/lib/systemd": "random seed, stamps of timers",
    "/var/log": "logs",
    "/root/.ansible": "Ansible's folder for temporary files",
    "/home/ops/.ansible": "Ansible's folder for temporary files",
    "/home/ops/.sudo_as_admin_successful": "sudo's note that it was used",
    "/etc/ld.so.cache": "a cache of the dynamic linker",
    "/etc/group-": "the copy that groupadd keeps",
    "/etc/gshadow-": "the copy that groupadd keeps",
}
"""what is not compared, and why; `__pycache__` neither, which Python writes where root runs it"""
KINDS = ("packages", "marks", "files", "units", "docker")


@dataclass(frozen=True)
class Snapshot:
    """A host as the comparison sees it: lines by kind."""

    packages: frozenset[str]
    marks: frozenset[str]
    """packages that somebody asked for"""
    files: frozenset[str]
    """hashes, modes, owners, links"""
    units: frozenset[str]
    docker: frozenset[str]


def snapshot(host: str) -> Snapshot:
    """Looked at past SSH, so that looking leaves no trace."""
    left_out = " -o ".join(f"-path {path}" for path in LEFT_OUT)
    pruned = rf"find / \( {left_out} -o -name __pycache__ \) -prune -o"
    docker = "docker {} 2>/dev/null || true".format
    commands = {
        "packages": r"dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n'",
        "marks": "apt-mark showmanual",
        "files": rf"{pruned} -type f -print0 | xargs -0 sha256sum; {pruned} ! -type f -printf '%y %m %U:%G %p %l\n'; "
        rf"{pruned} -type f -printf '%m %U:%G %p\n'; find /var/lib/docker /var/lib/containerd -maxdepth 1; true",
        "units": "systemctl list-unit-files --plain --no-legend; "
        "systemctl list-units --type=service,socket --state=active,failed --plain --no-legend | "
        "awk '$1 !~ /^user/ {print $1, $3, $4}'",
        "docker": "; ".join(
            map(
                docker,
                (
                    "ps --all --no-trunc --format '{{.ID}} {{.Image}} {{.State}} {{.Names}}'",
                    "image ls --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}'",
                    "volume ls --quiet",
                    "network ls --no-trunc --format '{{.ID}} {{.Name}}'",
                ),
            )
        ),
    }
    seen = {kind: frozenset(shell(host, command, timeout=120).splitlines()) for kind, command in commands.items()}
    if seen["docker"]:  # its folders are its own
        seen["files"] = frozenset(line for line in seen["files"] if not line.startswith("/var/lib/"))
    return Snapshot(**seen)


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """What differs, a line each."""
    found = []
    for kind in KINDS:
        was, now = getattr(before, kind), getattr(after, kind)
        found += [f"{kind}: - {line}" for line in sorted(was - now)]
        found += [f"{kind}: + {line}" for line in sorted(now - was)]
    return found
