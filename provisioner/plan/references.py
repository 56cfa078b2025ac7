"""Names of images: which registry, repository, tag and digest a reference means, by Docker's own rules."""

from __future__ import annotations

import re
from typing import NamedTuple

DOCKER_HUB = "docker.io"
_TAG_BEFORE_DIGEST = re.compile(r":[^:/@]+(?=@)")


class Reference(NamedTuple):
    """An image's name, taken apart; what is not said is filled in as Docker does."""

    registry: str
    """host[:port]; `docker.io` where none is said"""
    repository: str
    """path in the registry; `library/NAME` for Docker Hub's own images"""
    tag: str
    """`latest` where neither tag nor digest is said, "" where the digest alone is"""
    digest: str
    """`sha256:…`, or \"\""""


def parse(reference: str) -> Reference:
    """Takes a reference apart.

    >>> parse("vllm/vllm-openai:v0.12.0")
    Reference(registry='docker.io', repository='vllm/vllm-openai', tag='v0.12.0', digest='')
    """
    name, _, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    # Docker: the first part is a registry where it could not be a user's name there.
    registry, path = (first, rest) if slash and (set(".:") & set(first) or first == "localhost") else (DOCKER_HUB, name)
    folder, slash, last = path.rpartition("/")
    last, _, tag = last.partition(":")
    repository = f"{folder}{slash}{last}"
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def by_digest(reference: str) -> str:
    """`name@digest` of a reference with a digest, as Docker lists images it has by digest; any other as it is.

    >>> by_digest("vllm/vllm-openai:v0.12.0@sha256:1f")
    'vllm/vllm-openai@sha256:1f'
    """
    return _TAG_BEFORE_DIGEST.sub("", reference)
