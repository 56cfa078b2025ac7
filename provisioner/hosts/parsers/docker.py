"""The Docker engine's answers, as its API gives them (the same objects as `docker inspect` prints)."""

from __future__ import annotations

import re
from typing import Any

from provisioner.plan.facts import Container, ImageFacts


def parse_client_version(rc: int, out: str) -> str | None:
    """`docker --version`; None when there is no client, or when it is another program by that name (podman)."""
    found = re.match(r"Docker version ([^,\s]+)", out)
    return found.group(1) if rc == 0 and found else None


def parse_container(seen: dict[str, Any]) -> Container:
    """One container. Its argv is what follows the program, whichever of entrypoint and command said it."""
    return Container(
        name=seen["Name"].lstrip("/"),
        id=seen["Id"],
        image_id=seen["Image"],
        argv=tuple(seen["Args"]),
        running=bool(seen["Running"]),
        started_at=seen["StartedAt"] or "",
    )


def parse_image(seen: dict[str, Any]) -> ImageFacts:
    """One image. `<none>` is how the engine writes that there is no tag or digest."""
    return ImageFacts(
        id=seen["Id"],
        tags=tuple(tag for tag in seen["RepoTags"] if "<none>" not in tag),
        digests=tuple(digest for digest in seen["RepoDigests"] if "<none>" not in digest),
        labels=seen["Labels"],
        architecture=seen["Architecture"],
    )
