"""Which logins a host needs for its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from provisioner.fleet.models import RegistryLogin as Login
from provisioner.plan import model
from provisioner.plan.references import parse


def logins(known: Mapping[str, Login], images: Iterable[model.Image]) -> tuple[model.RegistryLogin, ...]:
    """Those of the registries that the images come from; with an image that is built, all of them: what its Dockerfile
    begins from is not known here."""
    if not known:
        return ()
    wanted: set[str] = set()
    for image in images:
        if image.build:
            wanted |= set(known)
        elif image.archive is None:
            wanted.add(parse(image.reference).registry)
    return tuple(
        model.RegistryLogin(registry=registry, username=login.username, password=login.password)
        for registry, login in known.items()
        if registry in wanted
    )
