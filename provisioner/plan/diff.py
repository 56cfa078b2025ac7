"""Facts against a host plan → changes. Pure: sees drift made by hand, because facts are what is there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from provisioner.plan import model, render
from provisioner.plan.absent import UNIT_DIR
from provisioner.plan.facts import Container, Facts, Unit
from provisioner.plan.lock import is_commit
from provisioner.plan.model import Change, Changes, HostPlan, Server

DAEMON_JSON = "/etc/docker/daemon.json"
IMAGE_RECORD = "/var/lib/vllm/images.json"
"""the images that runs have brought to a host, as the role vllm_image writes it"""


def changes(plan: HostPlan, facts: Facts, secrets: Mapping[str, str]) -> Changes:
    """All that differs, in the order in which it would be changed. `secrets`: reference → value."""
    found = [*_docker(plan, facts), *_toolkit(plan, facts), *_images(plan, facts), *_weights(plan, facts)]
    found += _absent(plan, facts)
    found += [change for server in plan.servers for change in _server(server, facts, secrets)]
    found += _closed_again(plan, facts)
    return Changes(host=plan.host, changes=tuple(found))


def _docker(plan: HostPlan, facts: Facts) -> list[Change]:
    if facts.docker.version is None:
        reason = "Docker does not answer" if facts.docker.client_version else "Docker is not installed"
        return [Change(role="docker_engine", subject="docker", reason=reason)]
    found = [*_docker_version(plan, facts), *_certificates(plan, facts)]
    if any(image.build for image in plan.images) and not facts.docker.buildx:
        found.append(Change(role="docker_engine", subject="buildx", reason="image builds need it"))
    content = next((file.content for file in facts.files if file.path == DAEMON_JSON), None) or ""
    current = _json_object(content)
    missing = render.daemon_keys(current or {}, plan.docker_config)
    if missing:
        reason = f"{', '.join(missing)} not as planned"
        # One that is no JSON is the role's to refuse.
        after = None if current is None else render.daemon_json(content, plan.docker_config)
        found.append(
            Change(role="docker_engine", subject=DAEMON_JSON, reason=reason, before=after and content, after=after)
        )
    return found


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(text or "{}")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _docker_version(plan: HostPlan, facts: Facts) -> list[Change]:
    there = re.match(r"[0-9.]+", facts.docker.version or "")  # Debian's has a suffix: 26.1.5+dfsg1
    if plan.docker_version is None or (there and there.group() == plan.docker_version):
        return []
    reason = f"is {facts.docker.version}, not {plan.docker_version}"
    return [Change(role="docker_engine", subject="docker", reason=reason)]


def _certificates(plan: HostPlan, facts: Facts) -> list[Change]:
    there = {file.path: file for file in facts.files}
    return [
        Change(
            role="docker_engine",
            subject=file.path,
            reason="differs" if file.path in there else "not there",
            before=there[file.path].content if file.path in there else "",
            after=file.content,
        )
        for file in plan.certificates
        if file.path not in there or there[file.path].sha256 != _sha256(file.content)
    ]


def _toolkit(plan: HostPlan, facts: Facts) -> list[Change]:
    if facts.gpu_devices if plan.gpu_mode == "cdi" else facts.gpu_runtime:
        return []
    how = " as devices" if plan.gpu_mode == "cdi" else ""
    reason = f"Docker cannot pass GPUs to containers{how}"
    return [Change(role="nvidia_container_toolkit", subject="nvidia-container-toolkit", reason=reason)]


def _images(plan: HostPlan, facts: Facts) -> list[Change]:
    found = []
    for image in plan.images:
        present = facts.image(image.reference)
        if present is None:
            found.append(Change(role="vllm_image", subject=image.reference, reason=f"not there; {_how(image)}"))
        elif image.deploy_tag and image.deploy_tag not in present.tags:
            found.append(Change(role="vllm_image", subject=image.deploy_tag, reason=f"will be {image.reference}"))
    comes = any(facts.image(image.reference) is None for image in plan.images)
    return [*found, *(_old_images(plan, facts) if comes else ())]


def _how(image: model.Image) -> str:
    if image.build:
        return f"will be built from {image.build.git} {image.build.ref}"
    return f"will be loaded from {image.archive.path}" if image.archive else "will be pulled"


def _old_images(plan: HostPlan, facts: Facts) -> list[Change]:
    """What goes when an image comes: the role's own code says it."""
    ours = render.filters("vllm_image")
    record = ours["vllm_image_record"](next((file.content for file in facts.files if file.path == IMAGE_RECORD), ""))
    wanted = [image.reference for image in plan.images]
    old = ours["vllm_image_outdated"](record, wanted, plan.image_keep, plan.image_protected)
    seen = [{"Id": one.id, "RepoTags": one.tags, "RepoDigests": one.digests} for one in facts.images]
    reason = f"will be removed: an earlier run brought it, and docker.keep_images is {plan.image_keep}"
    return [
        Change(role="vllm_image", subject=name, reason=reason)
        for name in ours["vllm_image_still_ours"](record, old, seen)
    ]


def _weights(plan: HostPlan, facts: Facts) -> list[Change]:
    # What somebody else has to bring is no change but an obstacle.
    wanted = plan.weights if plan.weights_download else ()
    reasons = ((weights.repo, _model(weights, facts)) for weights in wanted)
    plugins = ((plugin.file, _plugin(plugin, plan.plugin_dir, facts)) for plugin in plan.plugins)
    return [
        Change(role="model_weights", subject=subject, reason=reason)
        for subject, reason in (*reasons, *plugins)
        if reason
    ]


def _model(wanted: model.Weights, facts: Facts) -> str | None:
    there = facts.weights.get(wanted.repo)
    if there is None:
        return "not downloaded"
    # A branch stays at the commit it had when it was downloaded; a commit is that commit alone.
    if is_commit(wanted.revision) and there != wanted.revision:
        return f"is at {there[:12]}, locked to {wanted.revision[:12]}"
    return None


def _plugin(wanted: model.Plugin, folder: str, facts: Facts) -> str | None:
    there = next((file for file in facts.files if file.path == f"{folder}/{wanted.file}"), None)
    if there is None:
        return "parser plugin not downloaded"
    return "parser plugin is not the locked one" if wanted.sha256 and there.sha256 != wanted.sha256 else None


def _absent(plan: HostPlan, facts: Facts) -> list[Change]:
    gone = [(f"{UNIT_DIR}/{server.unit}", server.unit, "will be stopped and removed") for server in plan.absent]
    gone += [(path, path, "will be removed (secret)") for path in plan.absent_files]
    return [
        Change(role="vllm_server", subject=subject, reason=f"no longer in the fleet: {what}")
        for path, subject, what in gone
        if path in facts.marked
    ]


def _server(server: Server, facts: Facts, secrets: Mapping[str, str]) -> list[Change]:
    found = [*_unit_file(server, facts), *_secret_file(server, facts, secrets)]
    unit = next((unit for unit in facts.units if unit.name == server.unit), None)
    container = next((one for one in facts.containers if one.name == server.container), None)
    state = _unit_state(unit)
    found += [Change(role="vllm_server", subject=server.unit, reason=state)] if state else []
    found += _running(server, container, facts)
    if server.open_firewall and facts.firewall is not None and server.port not in facts.firewall:
        found.append(Change(role="vllm_server", subject="firewall", reason=f"port {server.port} is not opened"))
    return found


def _closed_again(plan: HostPlan, facts: Facts) -> list[Change]:
    wanted = {server.port for server in plan.servers if server.open_firewall}
    return [
        Change(
            role="vllm_server", subject="firewall", reason=f"port {port} was opened for a server: will be closed again"
        )
        for port in facts.opened_for_us
        if port not in wanted
    ]


def _unit_file(server: Server, facts: Facts) -> list[Change]:
    wanted = server.unit_file
    present = next((file for file in facts.files if file.path == wanted.path), None)
    if present and present.sha256 == _sha256(wanted.content):
        return []
    return [
        Change(
            role="vllm_server",
            subject=wanted.path,
            reason="differs" if present else "not there",
            before=present.content if present else "",
            after=wanted.content,
        )
    ]


def _secret_file(server: Server, facts: Facts, secrets: Mapping[str, str]) -> list[Change]:
    wanted = server.secret_file
    if wanted is None:
        return []
    text = render.secrets_text({key: secrets[reference] for key, reference in wanted.entries.items()})
    present = next((file for file in facts.files if file.path == wanted.path), None)
    if present is None:
        return [Change(role="vllm_server", subject=wanted.path, reason="not there (secret)")]
    if present.sha256 != _sha256(text):
        return [Change(role="vllm_server", subject=wanted.path, reason="differs (secret, not shown)")]
    if present.mode != wanted.mode:
        return [Change(role="vllm_server", subject=wanted.path, reason=f"mode {present.mode}, not {wanted.mode}")]
    return []


def _unit_state(unit: Unit | None) -> str | None:
    if unit is None or unit.load_state == "not-found":
        return "no such unit"
    if unit.active_state != "active":
        return f"is {unit.active_state}"
    if unit.needs_reload:
        return "its file changed since systemd read it: it would be started as it was"
    return None if unit.enabled else "is not enabled: it would not start at boot"


def _running(server: Server, container: Container | None, facts: Facts) -> list[Change]:
    def told(reason: str, before: str | None = None, after: str | None = None) -> list[Change]:
        return [Change(role="vllm_server", subject=server.unit, reason=reason, before=before, after=after)]

    if container is None or not container.running:
        return told("its container is not running")
    planned = ("serve", *server.argv)
    if container.argv != planned:
        return told("its container runs other arguments", "\n".join(container.argv), "\n".join(planned))
    image = facts.image(server.image)
    if image and container.image_id != image.id:
        return told(f"its container runs another image than {server.image} is now", container.image_id, image.id)
    return []


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def server_fingerprint(plan: model.HostPlan, server: Server) -> str:
    """What a validation is valid for: everything of the server that could change how it answers."""
    image = next(image for image in plan.images if image.reference == server.image)
    apart = {"benchmark", "health_timeout_s", "drain_timeout_s", "open_firewall"}
    parts = [server.model_dump(exclude=apart), image.model_dump(), plan.hardware]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
