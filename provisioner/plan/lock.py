"""What tags, branches and recipes stood for when a fleet was locked: the lock file, and what it makes of names.

Pure but for reading the file. What a lock does not hold stays as it is written: `needs.py` finds it in the plans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field
from ruamel.yaml import YAML

from provisioner.errors import HostError, InputError, Problem
from provisioner.fleet.base import Frozen, Platform
from provisioner.fleet.explain import given_as, validated
from provisioner.fleet.positions import read_document

T = TypeVar("T")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _like(pattern: re.Pattern[str], words: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"expected {words}")
        return value

    return AfterValidator(check)


Commit = Annotated[str, _like(_COMMIT, "a whole commit (40 hex digits)")]
Sha256 = Annotated[str, _like(_SHA256, "a SHA-256 (64 hex digits)")]
Digest = Annotated[str, _like(_DIGEST, "a digest (sha256: and 64 hex digits)")]


def _known(version: int) -> int:
    if version != 1:
        raise ValueError(f"this program knows version 1 of locks, not {version}")
    return version


Version = Annotated[int, Field(strict=True), AfterValidator(_known)]


class LockedImage(Frozen):
    """An image that a tag named."""

    digest: Digest
    """of the index, where the image has one; this is what hosts pull"""
    platforms: dict[str, Digest]
    """`os/architecture`: its own digest in the index"""


class LockedPlugin(Frozen):
    """A parser plugin: one file of a model repository."""

    revision: str
    """what was asked for: a branch or tag"""
    commit: Commit
    sha256: Sha256


class Lock(Frozen):
    """A whole lock; an empty one locks nothing."""

    version: Version = 1
    images: dict[str, LockedImage] = Field(default_factory=dict)
    """by reference, as the fleet or its recipes write it"""
    builds: dict[str, dict[str, Commit]] = Field(default_factory=dict)
    """by address of the git repository, without the password in it, then by ref"""
    models: dict[str, dict[str, Commit]] = Field(default_factory=dict)
    """by model repository, then by revision"""
    plugins: dict[str, dict[str, LockedPlugin]] = Field(default_factory=dict)
    """by model repository, then by file"""
    recipes: dict[str, Sha256] = Field(default_factory=dict)
    """by recipe (`provider/model`): of its file"""

    def image(self, reference: str, platform: Platform) -> str:
        """`name:tag@digest`; the tag stays, because it tells the vLLM version. HostError without that platform."""
        found = self.images.get(reference)
        if found is None:
            return reference
        if platform not in found.platforms:
            raise HostError(
                f"{reference} is locked to {short(found.digest)}, which has no {platform}",
                hint=f"name an image that has it, by platform: image: {{{platform}: …}}",
            )
        return f"{reference}@{found.digest}"

    def ref(self, git: str, ref: str) -> str:
        """The commit of a git ref."""
        return self.builds.get(public(git), {}).get(ref, ref)

    def revision(self, repo: str, revision: str) -> str:
        """The commit of a model repository's revision."""
        return self.models.get(repo, {}).get(revision, revision)

    def plugin(self, repo: str, revision: str, file: str) -> LockedPlugin | None:
        """The plugin's commit and hash."""
        found = self.plugins.get(repo, {}).get(file)
        return found if found and found.revision == revision else None


UNLOCKED = Lock()


def lock_file(fleet: Path) -> Path:
    """`fleet.lock` beside `fleet.yaml`."""
    return fleet.with_name(f"{fleet.stem}.lock")


def read_lock(fleet: Path) -> Lock | None:
    """The lock of a fleet file; None where there is none. Raises InputError with every problem and its place."""
    file = lock_file(fleet)
    if not file.exists():
        return None
    try:
        document = read_document(file)
    except InputError as error:
        raise _told(error.problems, fleet) from error
    if document.data is None:
        document.add((), "is empty")
    elif not isinstance(document.data, Mapping):
        document.add((), f"expected a mapping (key: value), got {given_as(document.data, (), structure=True)}")
    else:
        lock = validated(Lock, document.data, (), document)
        if lock is not None and not document.problems:
            return lock
    raise _told(document.problems, fleet)


def lock_text(lock: Lock, fleet: str) -> str:
    """The file's text: the same lock gives the same bytes."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 4096
    content = {key: value for key, value in lock.model_dump().items() if value not in ({}, None)}
    stream = StringIO()
    yaml.dump(_sorted(content, top=True), stream)
    return (
        f"# What the tags, branches and recipes of {fleet} stood for when they were locked.\n"
        f"# Written by `provision lock {fleet}`, moved by `--update-lock` alone. Keep it with the fleet file.\n"
        f"{stream.getvalue()}"
    )


def merged(kept: Lock, found: Lock) -> Lock:
    """Both locks in one; where both know a name, `found` says what it is."""
    return Lock(
        images={**kept.images, **found.images},
        builds=_both(kept.builds, found.builds),
        models=_both(kept.models, found.models),
        plugins=_both(kept.plugins, found.plugins),
        recipes={**kept.recipes, **found.recipes},
    )


def entries(lock: Lock) -> dict[str, str]:
    """Every name that is locked, in words, and what it is locked to."""
    told = {f"image {name}": one.digest for name, one in lock.images.items()}
    told |= {f"build of {git} at {ref}": to for git, refs in lock.builds.items() for ref, to in refs.items()}
    told |= {f"model {repo} at {name}": to for repo, names in lock.models.items() for name, to in names.items()}
    told |= {
        f"plugin {file} of {repo} at {one.revision}": f"{one.commit} sha256:{one.sha256}"
        for repo, files in lock.plugins.items()
        for file, one in files.items()
    }
    return told | {f"recipe {name}": f"sha256:{sha256}" for name, sha256 in lock.recipes.items()}


def short(locked: str) -> str:
    """What something is locked to, for people: the first twelve digits of every hash.

    >>> short("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
    'sha256:0123456789ab'
    """
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", locked)


def public(address: str) -> str:
    """An http(s) address, or a text with some, without what somebody may have put into it to log in.

    >>> public("https://me:sEcReT@example.org/vllm.git")
    'https://example.org/vllm.git'
    """
    return re.sub(r"(https?://)[^/@\s]*@", r"\1", address)


def is_commit(revision: str) -> bool:
    """Whether a revision names one commit for ever."""
    return _COMMIT.fullmatch(revision) is not None


def lacks_commit(commit: str | None, revision: str) -> bool:
    """Whether a host with a model at this commit still needs it: a branch stays at the commit it had when it came, a
    commit is that commit alone."""
    return commit is None or (is_commit(revision) and commit != revision)


def _both(kept: dict[str, dict[str, T]], found: dict[str, dict[str, T]]) -> dict[str, dict[str, T]]:
    return {name: {**kept.get(name, {}), **found.get(name, {})} for name in {**kept, **found}}


def _sorted(value: object, *, top: bool = False) -> object:
    """Keys in the order of the alphabet, those at the top in that of the model."""
    if not isinstance(value, dict):
        return value
    keys = list(value) if top else sorted(value)
    return {key: _sorted(value[key]) for key in keys}


def _told(problems: list[Problem], fleet: Path) -> InputError:
    hint = f"restore the file, or write it anew with `provision lock {fleet} --update-lock`"
    *others, last = sorted(problems)
    return InputError([*others, replace(last, hint=last.hint or hint)])
