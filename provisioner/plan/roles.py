"""Which roles a run needs: those with changes, and what stands on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from provisioner.plan.model import Change, Changes

ROLES: tuple[str, ...] = get_args(Change.model_fields["role"].annotation)
"""in the order of site.yml, where each needs what those before it have done"""
NEED_FACTS = frozenset(("docker_engine", "nvidia_container_toolkit", "vllm_image"))
"""roles that install packages: Ansible itself must know the system. A test looks whether there are others."""


def roles_to_run(differing: Iterable[Changes]) -> tuple[str, ...]:
    """The first role that has something to do on any of these hosts, and all after it: a new Docker or image is what
    later roles work with, while nothing before a role depends on it.
    """
    first = min((ROLES.index(role) for changes in differing for role in changes.roles), default=len(ROLES))
    return ROLES[first:]
