"""Which image a server runs, and how it comes to be."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from provisioner.errors import UsageError
from provisioner.fleet.base import Platform
from provisioner.fleet.models import Image as ImageSettings
from provisioner.fleet.models import Server
from provisioner.fleet.recipes import Command
from provisioner.fleet.taxonomy import HardwareProfile
from provisioner.plan import model
from provisioner.plan.lock import UNLOCKED, Lock
from provisioner.plan.versions import version_of

DEPLOY_TAG = "vllm/vllm-openai:deploy"
"""the guide's name for the image that is deployed"""


def image_of(
    server: Server, command: Command, profile: HardwareProfile, platform: Platform, lock: Lock = UNLOCKED
) -> model.Image:
    """The image of a server on some hardware: what the fleet file says most exactly, else what the recipe says.

    A build is named by the hash of its inputs. UsageError when something that a build needs is said nowhere, HostError
    when the locked image has no such platform.
    """
    chosen = next(
        (server.image[key] for key in (profile.id, platform, "default") if key in server.image), ImageSettings()
    )
    if chosen.pull or (chosen.build is None and chosen.archive is None and command.build is None):
        reference = chosen.pull or command.image or "vllm/vllm-openai:latest"
        return model.Image(
            reference=lock.image(reference, platform),
            platform=platform,
            deploy_tag=DEPLOY_TAG,
            vllm_version=version_of(reference),
        )
    if chosen.archive:
        return model.Image(
            reference=chosen.archive.image,
            platform=platform,
            archive=model.Archive(path=str(chosen.archive.path), at=chosen.archive.at),
            deploy_tag=DEPLOY_TAG,
            vllm_version=version_of(chosen.archive.image),
        )
    written = _build_source(server, command, chosen)
    source = written.model_copy(update={"ref": lock.ref(written.git, written.ref)})
    return model.Image(
        reference=f"vllm/vllm-openai:build-{_inputs_hash(source, platform)}",
        platform=platform,
        build=source,
        deploy_tag=DEPLOY_TAG,
        vllm_version=version_of(written.ref),  # which a commit does not tell
    )


def _build_source(server: Server, command: Command, chosen: ImageSettings) -> model.BuildSource:
    recipe, own = command.build, chosen.build
    merged: dict[str, Any] = recipe.model_dump(exclude_none=True) if recipe else {}
    merged |= own.model_dump(exclude_none=True) if own else {}
    merged["args"] = {**((recipe and recipe.args) or {}), **((own and own.args) or {})}
    missing = [key for key in ("git", "ref", "dockerfile", "target") if key not in merged]
    if missing:
        hint = "say it in image.build: neither it nor the recipe has a value here"
        raise UsageError(f"server {server.name}: the image's build lacks {', '.join(missing)}", hint=hint)
    return model.BuildSource(**merged)


def _inputs_hash(source: model.BuildSource, platform: Platform) -> str:
    inputs = json.dumps([source.model_dump(), platform], sort_keys=True)
    return hashlib.sha256(inputs.encode()).hexdigest()[:12]
