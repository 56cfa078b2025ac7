"""The rendered Ansible inventory of a run: plain files that `ansible-playbook` understands without this program."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from provisioner.fleet.models import Fleet, Host
from provisioner.plan.model import HostPlan
from provisioner.plan.variables import Expression, role_variables, secret_name

_TEMPLATE_MARKS = ("{{", "{%", "{#", "#jinja2:")


# libyaml's emitter where PyYAML was built with it: ten times as fast, which a thousand hosts notice.
_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Base):  # type: ignore[misc]  # which of the two is known when it runs
    """Writes data so that Ansible reads it back as data: strings with template marks are tagged !unsafe."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML calls it with data
        return True


def _string(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    unsafe = has_template_marks(data)
    return dumper.represent_scalar(
        "!unsafe" if unsafe else "tag:yaml.org,2002:str", data, style='"' if unsafe else None
    )


def _expression(dumper: yaml.SafeDumper, data: Expression) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(data), style='"')


_Dumper.add_representer(str, _string)
_Dumper.add_representer(Expression, _expression)


def has_template_marks(text: str) -> bool:
    """Whether Ansible would evaluate something in this text if it were not told that it is data."""
    return any(mark in text for mark in _TEMPLATE_MARKS)


def dump(data: Any) -> str:
    """YAML for Ansible; `Expression` strings are evaluated by it, all others never."""
    # ASCII alone: YAML takes some other characters, such as U+0085, for ends of lines.
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=1000)


def write_inventory(
    folder: Path,
    fleet: Fleet,
    plans: Sequence[HostPlan],
    more: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    own_ssh: bool = False,
) -> Path:
    """Writes hosts.yml, host_vars/ and group_vars/ into `folder`; gives the folder back.

    `more`: by host, variables in place of, or besides, those of its plan. `own_ssh`: as in `connection`.
    """
    write_connections(folder, fleet, [plan.host for plan in plans], own_ssh=own_ssh)
    (folder / "host_vars").mkdir(exist_ok=True)
    (folder / "group_vars").mkdir(exist_ok=True)
    for host, text in host_variables(plans, more or {}):
        (folder / "host_vars" / f"{host}.yml").write_text(text, encoding="utf-8")
    (folder / "group_vars" / "all.yml").write_text(dump(secret_lookups(secret_references(plans))), encoding="utf-8")
    return folder


def host_variables(plans: Iterable[HostPlan], more: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every host's file of variables. Hosts alike have the very same text, which is made once for all of them."""
    made: dict[str, str] = {}
    for plan in plans:
        variables = {**role_variables(plan), **more.get(plan.host, {})}
        key = repr(variables)
        if key not in made:
            made[key] = dump(variables)
        yield plan.host, made[key]


def write_connections(folder: Path, fleet: Fleet, hosts: Sequence[str], *, own_ssh: bool = False) -> Path:
    """Writes hosts.yml alone: how each host is reached; gives the folder back."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: connection(fleet, fleet.host(name), own_ssh=own_ssh) for name in hosts}
    (folder / "hosts.yml").write_text(dump({"all": {"hosts": found}}), encoding="utf-8")
    return folder


def connection(fleet: Fleet, host: Host, *, own_ssh: bool = False) -> dict[str, Any]:
    """Ansible's connection variables; what is not said comes from the SSH configuration.

    `own_ssh`: that of another machine, where this one's configuration and key files are not.
    """
    known: dict[str, Any] = {
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": host.user,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    if not own_ssh:
        known["ansible_ssh_private_key_file"] = str(host.identity_file) if host.identity_file else None
        known["ansible_ssh_common_args"] = f"-F {shlex.quote(str(fleet.ssh.config))}" if fleet.ssh.config else None
    return {key: value for key, value in known.items() if value is not None}


def secret_references(plans: Iterable[HostPlan]) -> tuple[str, ...]:
    """Every secret that the plans refer to, once."""
    found = []
    for plan in plans:
        found += [plan.hub_token] if plan.hub_token else []
        found += [login.password for login in plan.registries]
        found += [ref for server in plan.servers if server.secret_file for ref in server.secret_file.entries.values()]
    return tuple(dict.fromkeys(found))


def extra_variables(secrets_path: str, logs: Path) -> str:
    """The extra variables of a run: secrets are read from a JSON object in a file, whenever a task needs one, and what
    long jobs of hosts wrote is kept in `logs`.

    By `cat`, since Ansible's own file lookup resolves the path first, and a file in memory has no other name.
    """
    read = f"lookup('ansible.builtin.pipe', 'cat {secrets_path}')"
    found = {"provision_secrets": Expression("{{ " + read + " | from_json }}")}
    return dump({**found, "vllm_image_control_log_dir": str(logs)})


def secret_lookups(references: Iterable[str]) -> dict[str, Any]:
    """Where Ansible finds secrets when it is run without this program."""
    plugins = {"env": "env", "file": "file", "command": "pipe", "vault": "unvault"}
    lookups: dict[str, Expression] = {}
    sources: dict[str, str] = {}
    for reference in references:
        kind, _, rest = reference.partition(":")
        rest, _, key = rest.partition("#") if kind == "vault" else (rest, "", "")
        name = secret_name(reference)
        # What an expression cannot spell stands beside it, as data.
        source = f"'{rest}'" if name == reference else f"provision_secret_sources['{name}']"
        sources |= {} if name == reference else {name: rest}
        looked_up = f"lookup('ansible.builtin.{plugins[kind]}', {source})"
        if key:  # letters, digits, _ and - alone
            looked_up = f"({looked_up} | from_yaml)" + "".join(f"['{part}']" for part in key.split("."))
        lookups[name] = Expression("{{ " + looked_up + " }}")
    return {"provision_secrets": lookups} | ({"provision_secret_sources": sources} if sources else {})
