"""Kinds of values in a fleet file: what they must look like, and how that is called in messages."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from provisioner.fleet.slo import parse_objective

NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
HOST = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$"
ADDRESS = r"^(::|[A-Za-z0-9:]([A-Za-z0-9.:_%-]{0,251}[A-Za-z0-9])?)$"
USER = r"^[A-Za-z_][A-Za-z0-9._-]{0,63}$"
CACHE_DIR = r"^/[^\x00\n:]*[^\x00\n:/]$"
IMAGE = r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9])?(@sha256:[0-9a-f]{64})?$"
GIT = r"^((https?|ssh|git|file)://[^\s-]\S*|[A-Za-z0-9._]+@[A-Za-z0-9][A-Za-z0-9.-]*:\S+|/\S+)$"
WORD = r"^[A-Za-z0-9_.][A-Za-z0-9_./+-]*$"
DTYPE = r"^[A-Za-z0-9_]+$"
PLUGIN = r"^[A-Za-z0-9_/][A-Za-z0-9_./-]*\.py$"
DATASET = r"^[A-Za-z0-9_./][A-Za-z0-9_./@+-]*$"
SERVED = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$"
URL = r"^https?://[^\s@]+$"
MOUNT = r"^/[^\x00-\x1f:]*:/[^\x00-\x1f:]*[^\x00-\x1f:/](:(ro|rw))?$"
REFERENCE = r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+|command:.+|vault:[^#]+(#[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?"
REGISTRY = r"^(https?://)?[A-Za-z0-9\[][^\s@]*$"
REGISTRY_HOST = r"^((localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(:[0-9]{1,5})?|[A-Za-z0-9-]+:[0-9]{1,5})$"
TAGGED = r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9._-])?:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
USERNAME = r"^[^:\x00-\x1f]+$"
VERSION = r"^[0-9]+\.[0-9]+\.[0-9]+$"
SIZE = r"^[1-9][0-9]*[kmg]$"
DIRECT = r"^[^\s,]+$"

FORMATS = {
    NAME: "lower-case letters, digits and dashes (at most 40)",
    HOST: "a host name (letters, digits, dots, dashes)",
    ADDRESS: "a host name or an IP address",
    USER: "a user name",
    CACHE_DIR: "an absolute path without colons and without a slash at its end",
    IMAGE: "an image reference such as vllm/vllm-openai:v0.12.0",
    GIT: "the address of a git repository (https://…, ssh://…, user@host:path or an absolute path)",
    WORD: "a single word of letters, digits and . _ / + -",
    DTYPE: "a single word of letters, digits and underscores",
    PLUGIN: "a Python file, such as nano_v3_reasoning_parser.py",
    DATASET: "a path or the name of a dataset",
    SERVED: "a model name without spaces",
    URL: "an address that starts with https:// or http://, without a user or password in it",
    MOUNT: "a mount such as /data:/data:ro (path on the host, path in the container, ro or rw)",
    REGISTRY: "the address of a registry, without a user or password in it",
    REGISTRY_HOST: "a registry as image references begin with it, such as registry.example.com:5000",
    TAGGED: "an image's name with a tag, such as vllm/vllm-openai:v0.12.0",
    USERNAME: "a user name without a colon",
    VERSION: "a version such as 28.3.3",
    SIZE: "a size such as 10m (k, m or g)",
    DIRECT: "one name, .domain, address or network",
}
"""Patterns, in words. Most of them end on command lines: none begins with a dash."""

Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
HostName = Annotated[str, StringConstraints(pattern=HOST)]
Address = Annotated[str, StringConstraints(pattern=ADDRESS)]
ImageReference = Annotated[str, StringConstraints(pattern=IMAGE)]
Word = Annotated[str, StringConstraints(pattern=WORD)]
Url = Annotated[str, StringConstraints(pattern=URL)]
Mount = Annotated[str, StringConstraints(pattern=MOUNT)]
Registry = Annotated[str, StringConstraints(pattern=REGISTRY)]
RegistryHost = Annotated[str, StringConstraints(pattern=REGISTRY_HOST)]


def _reference(value: str) -> str:
    if not re.fullmatch(REFERENCE, value):
        raise ValueError(
            "expected a reference to a secret, not the secret itself: "
            "env:NAME, file:PATH, command:CMD or vault:FILE#KEY"
        )
    return value


SecretRef = Annotated[
    str, AfterValidator(_reference), WithJsonSchema({"type": "string", "pattern": "^(env|file|command|vault):."})
]
"""Where a secret is, never the secret: `env:NAME`, `file:PATH` (relative to the fleet file), `command:CMD`, or
`vault:FILE#KEY`, a key (`outer.inner`) of a YAML file that Ansible Vault has encrypted; without a key, the file's text.
"""


def _objective(value: str) -> str:
    return str(parse_objective(value))


Slo = Annotated[str, AfterValidator(_objective)]
"""`METRIC >= NUMBER` or `METRIC <= NUMBER`; METRIC as vLLM's result JSON calls it."""
