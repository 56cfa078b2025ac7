"""Which CUDA an image holds, and whether the host's driver runs it."""

from __future__ import annotations

import re

from provisioner.plan import model
from provisioner.plan.gate_data import gates
from provisioner.plan.versions import parse

_REPOSITORY = "vllm/vllm-openai"
_MOVING = ("latest", "nightly")
"""tags that follow the newest release"""


def cuda_of(image: model.Image) -> str | None:
    """The CUDA version in an image, as its tag or its build arguments tell it; None where nothing tells."""
    if image.build is not None:
        return image.build.args.get("CUDA_VERSION")
    repository, _, tag = image.reference.partition("@")[0].rpartition(":")
    if not (repository == _REPOSITORY or repository.endswith(f"/{_REPOSITORY}")):
        return None
    named = re.search(r"(?:^|-)(cu\d+)(?:-|$)", tag)
    if image.vllm_version is None and not named and tag.partition("-")[0] not in _MOVING:
        return None
    suffix = named.group(1) if named else ""
    for line in gates().cuda.images:
        old = line.until is not None
        if line.suffix != suffix or (old and not _before(image.vllm_version, line.until)):
            continue
        return line.cuda
    return f"{suffix[2:-1]}.{suffix[-1]}" if suffix else None


def driver_problem(image: model.Image, driver: str | None) -> str | None:
    """Why the host's driver does not run the image; None when it does, or nothing is known."""
    cuda = cuda_of(image)
    if cuda is None or driver is None:
        return None
    needed = gates().cuda.drivers.get(cuda.partition(".")[0])
    there = re.match(r"\d+", driver)
    if needed is None or there is None or int(there.group()) >= needed:
        return None
    return (
        f"{image.reference} holds CUDA {cuda}, which needs driver {needed} or newer; the host has {driver}: "
        f"{_way_out(image, cuda)}; to try all the same: allow_known_bad: [cuda-driver]"
    )


def _way_out(image: model.Image, cuda: str) -> str:
    update = "update the driver"
    if image.build is not None:
        return f"{update}, or build with another CUDA_VERSION"
    if cuda.startswith("13") and image.vllm_version:
        bare = re.sub(r"-cu\d+", "", image.reference.partition("@")[0])
        before = _before(image.vllm_version, next(line.until for line in gates().cuda.images if line.until))
        return f"{update}, or use {bare if before else bare + '-cu129'}, which holds CUDA 12"
    return update


def _before(version: str | None, until: str | None) -> bool:
    return version is not None and until is not None and parse(version) < parse(until)
