"""Files as they will stand on a host: the roles' own templates, rendered as Ansible renders them."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from provisioner import assets
from provisioner.errors import HostError


def unit_text(server: Mapping[str, Any]) -> str:
    """The systemd unit of a server; `server` is one element of `vllm_server_list`."""
    return _template("vllm_server", "vllm.service.j2").render(server=server)


def secrets_text(secrets: Mapping[str, str]) -> str:
    """The environment file of a server's secrets."""
    return _template("vllm_server", "secrets.env.j2").render(secrets=secrets)


def daemon_json(current: str, wanted: Mapping[str, Any]) -> str:
    """Docker's daemon.json with `wanted` in it; the very same text where everything is there already.

    Raises HostError for a file that is no JSON object, as the role does.
    """
    engine = filters("docker_engine")
    read = engine["docker_engine_parse"](current)
    if read["error"]:
        raise HostError(f"/etc/docker/daemon.json is not a JSON object: {read['error']}")
    merged = engine["docker_engine_merge"](read["config"], wanted)
    return current if merged == read["config"] else str(engine["docker_engine_json"](merged))


def daemon_keys(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Keys of daemon.json that differ once `wanted` is in it."""
    keys: list[str] = filters("docker_engine")["docker_engine_changed"](current, wanted)
    return keys


@cache
def filters(role: str) -> Mapping[str, Callable[..., Any]]:
    """A role's own filters, so that there is one code for both ways."""
    found: dict[str, Any] = runpy.run_path(str(assets.filters(role)))
    named: Mapping[str, Callable[..., Any]] = found["FilterModule"]().filters()
    return named


@cache
def _template(role: str, name: str) -> Template:
    # These are Ansible's own settings for the template module; a test holds both renderings byte-equal.
    environment = Environment(  # noqa: S701 - the output is a unit file, not HTML
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(assets.template(role, name))
