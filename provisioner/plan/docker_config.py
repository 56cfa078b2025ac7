"""What the Docker engine is told: keys of daemon.json, and certificates of registries' authorities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provisioner.fleet.models import Docker

_CERTIFICATES = "/etc/docker/certs.d"


def docker_config(docker: Docker) -> dict[str, Any]:
    """The keys that must be in daemon.json (dockerd's reference, "daemon configuration file")."""
    logs, proxies = docker.logs, docker.proxies
    files = str(logs.max_files) if logs.max_files else None  # dockerd takes log options as texts
    wanted = {
        "registry-mirrors": list(docker.registry_mirrors),
        "insecure-registries": list(docker.insecure_registries),
        "data-root": docker.data_root,
        "log-opts": _said({"max-size": logs.max_size, "max-file": files}),
        "proxies": _said(
            {"http-proxy": proxies.http, "https-proxy": proxies.https, "no-proxy": ",".join(proxies.no_proxy)}
        ),
    }
    return _said(wanted)


def proxy_environment(config: Mapping[str, Any]) -> dict[str, str]:
    """The proxies of these keys as variables for whatever else fetches something on the host. In small letters, as curl
    and git read them."""
    proxies = config.get("proxies", {})
    return {
        name.replace("-", "_"): proxies[name] for name in ("http-proxy", "https-proxy", "no-proxy") if name in proxies
    }


def certificate_path(registry: str) -> str:
    """Where Docker looks for the certificate of a registry's authority, at every connection."""
    return f"{_CERTIFICATES}/{registry}/ca.crt"


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
