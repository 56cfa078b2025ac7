"""What is wrong with a host before anything is changed. Pure: facts in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from provisioner.fleet.models import Host, Server
from provisioner.plan import flags
from provisioner.plan.cuda import driver_problem
from provisioner.plan.facts import Facts
from provisioner.plan.known_bad import matching, told
from provisioner.plan.model import HostPlan
from provisioner.plan.server_checks import situation

DOCKER_ROOT = "/var/lib/docker"
"""where a Docker engine that is not there yet will keep its images"""


def fitness(host: Host, facts: Facts) -> tuple[str, ...]:
    """Why the machine cannot be provisioned at all; empty when it can."""
    problems = []
    if not facts.sudo:
        problems.append("no sudo: allow this user to run commands as root without a password (NOPASSWD)")
    if facts.platform is None:
        problems.append(f"architecture {facts.machine} has no vLLM images; x86_64 and aarch64 do")
    elif host.platform and facts.platform != host.platform:
        problems.append(f"it is {facts.platform} but the fleet file says {host.platform}")
    if not facts.systemd:
        problems.append("systemd is not running as PID 1; servers are systemd services")
    if facts.gpu_error:
        problems.append(f"nvidia-smi fails: {facts.gpu_error.strip().splitlines()[-1]}")
    elif not facts.gpus:
        problems.append("no NVIDIA GPU: nvidia-smi is missing or lists none; install the driver first")
    return tuple(problems)


def obstacles(plan: HostPlan, facts: Facts, servers: Sequence[Server] = ()) -> tuple[str, ...]:
    """Why this plan cannot be carried out on the host as it is; empty when it can.

    `servers`: those of the fleet file on this host, which may accept known-bad combinations.
    """
    allowed = {server.name: server.allow_known_bad for server in servers}
    there = (*_archives(plan, facts), *_weights(plan, facts))
    return (*_ports(plan, facts), *_disk(plan, facts), *there, *_known_bad(plan, facts, allowed))


def _known_bad(plan: HostPlan, facts: Facts, allowed: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    images = {image.reference: image for image in plan.images}
    found: list[str] = []
    for server in plan.servers:
        image, accepted = images[server.image], allowed.get(server.name, ())
        problem = None if "cuda-driver" in accepted else driver_problem(image, facts.driver_version)
        there = situation(plan.hardware, facts, image.vllm_version, server.argv)
        found += [problem] if problem else []
        found += [told(entry) for entry in matching(there, accepted) if entry.severity == "error"]
    return tuple(dict.fromkeys(found))


def _ports(plan: HostPlan, facts: Facts) -> tuple[str, ...]:
    # Which port a server of ours holds is read off its arguments: it may be about to move to one that is taken.
    ours = {one.name: flags.value_of(one.argv, "--port") for one in facts.containers if one.running}
    going = {server.container for server in plan.absent}
    taken = {port.port: port for port in facts.ports if port.container not in going}
    return tuple(
        f"port {server.port} of server {server.name} is in use"
        + (f" by {taken[server.port].process}" if taken[server.port].process else "")
        + "; free it or choose another port"
        for server in plan.servers
        if server.port in taken and ours.get(server.container) != str(server.port)
    )


def _disk(plan: HostPlan, facts: Facts) -> tuple[str, ...]:
    if all(facts.image(image.reference) for image in plan.images):
        return ()
    path = facts.docker.root_dir or DOCKER_ROOT
    free = facts.disk_free_mib.get(path)
    if free is None or free >= plan.image_min_free_gib * 1024:
        return ()
    return (
        f"disk full: {free / 1024:.1f} GiB free under {path}, {plan.image_min_free_gib} GiB are needed for an image; "
        "free some or set docker.min_free_gib",
    )


def _archives(plan: HostPlan, facts: Facts) -> tuple[str, ...]:
    present = {tag for image in facts.images for tag in image.tags}
    return tuple(
        f"{image.archive.path} is not there, from which {image.reference} is to be loaded; put it there or mount it"
        for image in plan.images
        if image.archive
        and image.archive.at == "host"
        and image.reference not in present
        # None: it could not be looked at, such as on a mount that hangs; a note tells of it
        and facts.paths.get(image.archive.path) not in ("file", None)
    )


def _weights(plan: HostPlan, facts: Facts) -> tuple[str, ...]:
    """What a cache lacks that is somebody else's to fill."""
    if plan.weights_download:
        return ()
    missing = {one.repo: what for one in plan.weights if (what := _lacking(one.repo, one.revision, facts))}
    return tuple(
        f"{repo} is not whole in {plan.cache_dir} ({what}), and weights.download is false; mount it, or fill it: "
        f"HF_HOME={plan.cache_dir} hf download {repo}"
        for repo, what in missing.items()
    )


def _lacking(repo: str, revision: str, facts: Facts) -> str:
    cached = next((one for one in facts.cached if one.repo == repo), None)
    if cached is None:
        return "it is not there"
    commit = cached.refs.get(revision, revision)
    return cached.snapshots.get(commit, f"it has no {revision}")
