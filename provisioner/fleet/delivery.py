"""What a fleet file says of images and models: where they come from, and how they reach the hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from provisioner.fleet.base import Frozen
from provisioner.fleet.formats import CACHE_DIR, GIT, TAGGED, Flag, ImageReference, Port, SecretRef, Url, Word


class Hub(Frozen):
    """Where models come from."""

    endpoint: Url | None = None
    """HF_ENDPOINT of the downloads; default: Hugging Face."""
    token: SecretRef | None = None
    """HF_TOKEN, given to the download alone."""


class Weights(Frozen):
    """Where model files are kept on the hosts."""

    cache_dir: Annotated[str, StringConstraints(pattern=CACHE_DIR)] = "/var/lib/vllm/huggingface"
    """HF_HOME on the host, mounted into every container."""
    download: Flag = True
    """false: the files are there already, such as on NFS. Nothing is downloaded or written, containers have the folder
    read-only, and a model that is not whole in it is an error before anything is changed."""


class Distribution(Frozen):
    """How images and model files reach the hosts."""

    mode: Literal["upstream", "mirror", "peers"] = "upstream"
    """upstream: every host fetches for itself. mirror: every host fetches from caches of yours. peers: one host fetches
    or builds, or has it already, and the others get it from each other. Short for it: `distribution: peers`."""
    registry: Url | None = None
    """With mirror: a pull-through cache of Docker Hub."""
    hub: Url | None = None
    """With mirror: a cache of the model hub."""
    port: Port = 7717
    """With peers: the port at which hosts give, while a run lasts."""
    limit_mib_s: Annotated[float, Field(gt=0)] | None = None
    """With peers: MiB a second that a host gives at most, to all others together; default: as many as there are."""


class Build(Frozen):
    """An image built on the host from source. Keys left out keep the recipe's values."""

    git: Annotated[str, StringConstraints(pattern=GIT)] | None = None
    """The repository; the guide: https://github.com/vllm-project/vllm.git."""
    ref: Word | None = None
    """Branch, tag or commit; the guide: v0.12.0. A tag vX.Y.Z tells which vLLM it is."""
    dockerfile: Word | None = None
    """`-f`, within the repository; the guide: docker/Dockerfile."""
    target: Word | None = None
    """`--target`; the guide: vllm-openai."""
    args: dict[str, str] | None = None
    """`--build-arg`s; each one replaces the recipe's of that name, the others stay.

    The guide's for a DGX Spark: max_jobs (compilers at once: 12), RUN_WHEEL_CHECK (refuse a wheel that is too big:
    false), CUDA_VERSION (13.0.1), BUILD_BASE_IMAGE (nvidia/cuda:13.0.1-devel-ubuntu22.04), torch_cuda_arch_list
    (compute capabilities to compile for: 12.1).
    """


class Archive(Frozen):
    """A tar archive as `docker save` writes it, with one image; plain, or compressed with gzip, bzip2, xz or zstd."""

    path: Path
    """The file: relative to the fleet file, or with `at: host` an absolute path on the hosts, such as on NFS."""
    image: Annotated[str, StringConstraints(pattern=TAGGED)]
    """What the image is called in it, and on the host once it is loaded."""
    at: Literal["control", "host"] = "control"
    """Where the file is: on the machine that runs provision, which copies it to the hosts, or on the hosts."""


class Image(Frozen):
    """Where a server's image comes from: `pull` a reference, `build` it on the host, or load it from an `archive`."""

    pull: ImageReference | None = None
    """Reference of an image: name with a tag, a digest or both."""
    build: Build | None = None
    archive: Archive | None = None
