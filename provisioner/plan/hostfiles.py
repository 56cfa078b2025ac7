"""Every file that Ansible writes on a host, as it will stand there."""

from __future__ import annotations

from provisioner.fleet.base import Frozen
from provisioner.plan import render
from provisioner.plan.diff import DAEMON_JSON
from provisioner.plan.facts import Facts
from provisioner.plan.model import HostPlan, SecretFile


class HostFile(Frozen):
    """One file. Of a secret one, `content` has references in place of values."""

    path: str
    content: str
    mode: str
    secret: bool = False


def host_files(plan: HostPlan, facts: Facts) -> tuple[HostFile, ...]:
    """Units, files of secrets and, where the fleet asks for something in it, Docker's daemon.json.

    What programs on the host write is not among them: packages and their repositories, model files, images, and what
    `nvidia-ctk` adds to daemon.json when it is installed.
    """
    files = [*_daemon_json(plan, facts)]
    files += [HostFile(path=file.path, content=file.content, mode=file.mode) for file in plan.certificates]
    for server in plan.servers:
        unit = server.unit_file
        files.append(HostFile(path=unit.path, content=unit.content, mode=unit.mode))
        if server.secret_file:
            files.append(_placeholder(server.secret_file))
    return tuple(files)


def _daemon_json(plan: HostPlan, facts: Facts) -> list[HostFile]:
    if not plan.docker_config:
        return []
    current = next((file.content for file in facts.files if file.path == DAEMON_JSON), None) or ""
    return [HostFile(path=DAEMON_JSON, content=render.daemon_json(current, plan.docker_config), mode="0644")]


def _placeholder(secret: SecretFile) -> HostFile:
    named = {key: f"<{reference}>" for key, reference in secret.entries.items()}
    content = "# stand-in: where each secret comes from; the values are looked up when Ansible runs\n"
    return HostFile(path=secret.path, content=content + render.secrets_text(named), mode=secret.mode, secret=True)
