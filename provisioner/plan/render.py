"""Files as they will stand on a host: the roles' own templates, rendered as Ansible renders them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from provisioner import assets


def unit_text(server: Mapping[str, Any]) -> str:
    """The systemd unit of a server; `server` is one element of `vllm_server_list`."""
    return _template("vllm_server", "vllm.service.j2").render(server=server)


def secrets_text(secrets: Mapping[str, str]) -> str:
    """The environment file of a server's secrets."""
    return _template("vllm_server", "secrets.env.j2").render(secrets=secrets)


@cache
def _template(role: str, name: str) -> Template:
    # These are Ansible's own settings for the template module; a test holds both renderings byte-equal.
    environment = Environment(  # noqa: S701 - the output is a unit file, not HTML
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(assets.template(role, name))
