"""`provision destroy`: a host is as it was before us, on one that had nothing and on one that had a Docker in use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from support import Done, Lab, shell

FRESH, USED = "lab-h100-3", "lab-h100-4"
LEFT_OUT = {
    "/proc": "the kernel's",
    "/sys": "the kernel's",
    "/dev": "the kernel's",
    "/run": "gone at the next boot",
    "/tmp": "gone at the next boot",
    "/var/cache": "caches",
    "/var/lib/apt": "caches of lists, and marks that are compared by themselves",
    "/var/lib/dpkg": "dpkg's own books; the list of packages is compared by itself",
    "/var/lib/docker": "another file system; compared by what Docker says, and must be empty without one",
    "/var/lib/systemd": "random seed, stamps of timers",
    "/var/log": "logs",
    "/root/.ansible": "Ansible's folder for temporary files",
    "/home/ops/.ansible": "Ansible's folder for temporary files",
    "/etc/ld.so.cache": "a cache of the dynamic linker",
    "/etc/group-": "the copy that groupadd keeps",
    "/etc/gshadow-": "the copy that groupadd keeps",
}
"""what is not compared, and why; `__pycache__` neither, which Python writes where root runs it"""


@dataclass(frozen=True)
class Snapshot:
    """A host as the comparison sees it: lines by kind."""

    packages: frozenset[str]
    marks: frozenset[str]
    files: frozenset[str]
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
        rf"{pruned} -type f -printf '%m %U:%G %p\n'; find /var/lib/docker -mindepth 1 ! -path '/var/lib/docker/*/*'",
        "units": "systemctl list-unit-files --plain --no-legend; "
        "systemctl list-units --type=service,socket --state=active,failed --plain --no-legend | "
        "awk '$1 !~ /^user/ {print $1, $3, $4}'",
        "docker": docker("ps --all --no-trunc --format '{{.ID}} {{.Image}} {{.State}} {{.Names}}'")
        + "; " + docker("image ls --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}'")
        + "; " + docker("volume ls --quiet") + "; " + docker("network ls --no-trunc --format '{{.ID}} {{.Name}}'"),
    }  # fmt: skip
    seen = {kind: frozenset(shell(host, command, timeout=120).splitlines()) for kind, command in commands.items()}
    if seen["docker"]:  # with one its folder is its own
        seen["files"] = frozenset(line for line in seen["files"] if not line.startswith("/var/lib/docker/"))
    return Snapshot(**seen)


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """What differs, a line each."""
    found = []
    for kind in ("packages", "marks", "files", "units", "docker"):
        was, now = getattr(before, kind), getattr(after, kind)
        found += [f"{kind}: - {line}" for line in sorted(was - now)] + [
            f"{kind}: + {line}" for line in sorted(now - was)
        ]
    return found


@dataclass(frozen=True)
class Story:
    """One host from beginning to end."""

    before: Snapshot
    between: Snapshot
    after: Snapshot
    listed: Done
    kept: Done
    destroyed: Done


@pytest.fixture(scope="module")
def stories(lab: Lab) -> dict[str, Story]:
    """Both hosts at once: looked at, provisioned, cleared of all but weights and Docker, then of these as well."""

    def tell(host: str) -> Story:
        if host == USED:
            _in_use(host)
        before = snapshot(host)
        key = lab.folder / f"{host}.key"
        key.write_text("an-api-key\n")
        fleet = lab.write_fleet(host, [host], api_key=f"file:{key}")
        applied = lab.run(fleet, "--yes", "--smoke")
        assert applied.rc == 0, str(applied)
        between = snapshot(host)
        listed = lab.run("destroy", fleet, "--dry-run", "--json")
        kept = lab.run("destroy", fleet, "--yes")
        destroyed = lab.run("destroy", fleet, "--yes", "--purge-weights", "--purge-docker")
        return Story(before, between, snapshot(host), listed, kept, destroyed)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((FRESH, USED), pool.map(tell, (FRESH, USED)), strict=True))


def _in_use(host: str) -> None:
    """Docker of the distribution, set up by somebody, with a container of theirs."""
    for command in (
        "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy install docker.io docker-cli",
        "mkdir -p /etc/docker",
        r"""printf '{"log-opts": {"max-size": "9m"},\n  "live-restore": true}' > /etc/docker/daemon.json""",
        "systemctl restart docker",
        "tar -chP $(ldd /usr/bin/sleep | grep -o '/[^ ]*') /usr/bin/sleep | docker import - theirs:1",
        "docker run -d --name theirs --restart always --network none theirs:1 /usr/bin/sleep infinity",
    ):
        shell(host, command, timeout=180)


@pytest.mark.parametrize("host", [FRESH, USED])
def test_a_host_is_as_it_was(stories: dict[str, Story], host: str) -> None:
    story = stories[host]
    assert story.destroyed.rc == 0, str(story.destroyed)
    assert differences(story.before, story.between)  # or the comparison sees nothing
    assert differences(story.before, story.after) == []
