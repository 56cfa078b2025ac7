"""Role variables of a host plan: the one place that knows how roles name things."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from provisioner.plan import model
from provisioner.plan.docker_config import proxy_environment
from provisioner.plan.same import kept
from provisioner.plan.systemd import exec_line, text

STOP_TIMEOUT_S = 30


class Expression(str):
    """A Jinja2 expression that Ansible shall evaluate. Every other string is data and is written as such."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Expression({super().__repr__()})"  # no text of the same words looks alike


def secret(reference: str) -> Expression:
    """The value of a secret, looked up by its name when Ansible needs it."""
    return Expression("{{ provision_secrets['" + secret_name(reference) + "'] }}")


def secret_name(reference: str) -> str:
    """The key of a secret in `provision_secrets`: its reference, or a hash of one that no expression can spell.

    Ansible doubles the backslashes in literals of its expressions, so there is no way to write one, nor a quote.
    """
    if not set("'\\") & set(reference):
        return reference
    return f"{reference.partition(':')[0]}:{hashlib.sha256(reference.encode()).hexdigest()[:12]}"


def server_element(
    *,
    name: str,
    unit: str,
    container: str,
    model_id: str,
    docker_argv: Sequence[str],
    secret_path: str | None,
    image: str,
    argv: Sequence[str],
    port: int,
    drain_timeout_s: int = 0,
    open_firewall: bool = False,
    unified_memory: bool = False,
) -> dict[str, Any]:
    """One element of `vllm_server_list`, which the unit template is rendered from. `argv`: after `vllm serve`."""
    return {
        "name": name,
        "unit": unit,
        "container": container,
        "description": text(f"vLLM server {name} ({model_id})"),
        "exec_start": exec_line(docker_argv),
        "stop_timeout_s": STOP_TIMEOUT_S,
        "secret_path": secret_path or "",
        "image": image,
        "argv": ["serve", *argv],
        "port": port,
        "drain_timeout_s": drain_timeout_s,
        "open_firewall": open_firewall,
        "unified_memory": unified_memory,
    }


def role_variables(plan: model.HostPlan) -> dict[str, Any]:
    """Every variable of site.yml's roles for this host."""
    return {
        "docker_engine_source": plan.docker_source,
        "docker_engine_version": plan.docker_version or "",
        "docker_engine_config": plan.docker_config,
        "docker_engine_registry_cas": {file.path.split("/")[-2]: file.content for file in plan.certificates},
        "docker_engine_stop_others": plan.docker_stop_others,
        "docker_engine_buildx_required": any(image.build for image in plan.images),
        "nvidia_container_toolkit_mode": plan.gpu_mode,
        "nvidia_container_toolkit_check_cuda": plan.check_cuda,
        "nvidia_container_toolkit_proof_image": plan.images[0].reference if plan.images else "",
        "vllm_image_list": [_image(image) for image in plan.images],
        "vllm_image_min_free_gib": plan.image_min_free_gib,
        "vllm_image_keep": plan.image_keep,
        "vllm_image_protected": list(plan.image_protected),
        "vllm_image_registries": [
            {"registry": login.registry, "username": login.username, "password": secret(login.password)}
            for login in plan.registries
        ],
        "vllm_image_proxies": proxy_environment(plan.docker_config),
        "model_weights_cache_dir": plan.cache_dir,
        "model_weights_download": plan.weights_download,
        "model_weights_plugin_dir": plan.plugin_dir,
        "model_weights_endpoint": plan.hub_endpoint or "",
        "model_weights_token": secret(plan.hub_token) if plan.hub_token else "",
        "model_weights_proxies": proxy_environment(plan.docker_config),
        "model_weights_list": [weights.model_dump() for weights in plan.weights],
        "model_weights_plugins": [plugin.model_dump() for plugin in plan.plugins],
        "vllm_server_list": [_server(server) for server in plan.servers],
        "vllm_server_absent": [server.model_dump() for server in plan.absent],
        "vllm_server_absent_files": list(plan.absent_files),
        "vllm_server_secrets": {
            server.name: {key: secret(reference) for key, reference in server.secret_file.entries.items()}
            for server in plan.servers
            if server.secret_file
        },
    }


def _image(image: model.Image) -> dict[str, Any]:
    return {
        "reference": image.reference,
        "platform": image.platform,
        "deploy_tag": image.deploy_tag or "",
        "build": image.build.model_dump() if image.build else {},
        "archive": image.archive.model_dump() if image.archive else {},
    }


@kept(1024)
def _server(server: model.Server) -> dict[str, Any]:
    return server_element(
        name=server.name,
        unit=server.unit,
        container=server.container,
        model_id=server.model_id,
        docker_argv=server.docker_argv,
        secret_path=server.secret_file.path if server.secret_file else None,
        image=server.image,
        argv=server.argv,
        port=server.port,
        drain_timeout_s=server.drain_timeout_s,
        open_firewall=server.open_firewall,
        unified_memory=server.unified_memory,
    )
