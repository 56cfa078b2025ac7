"""A bundle: everything that the hosts of a fleet would fetch, in one folder. Pure: what is wanted, what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from provisioner.errors import HostError, UsageError
from provisioner.fleet.base import Frozen, Platform
from provisioner.plan.facts import Facts
from provisioner.plan.lock import lacks_commit
from provisioner.plan.model import Changes, HostPlan, Image
from provisioner.plan.packages import System, packages_for, system_of
from provisioner.plan.variables import role_variables

MANIFEST = "manifest.json"
VERSION = 1
ON_HOST = PurePosixPath("/var/lib/vllm/bundle")
"""where the files of a bundle lie on a host while they are needed"""


class Blob(Frozen):
    """One file of a bundle."""

    path: str
    """relative to the bundle, in parts of letters, digits and . _ + ~ -"""
    size: int
    sha256: str


class BundledImage(Frozen):
    """An archive that every Docker loads, with one image of one platform."""

    reference: str
    platform: Platform
    digest: str
    """of the platform's manifest in the registry it came from"""
    archive: Blob


class BundledModel(Frozen):
    """All files of a model repository at one commit."""

    repo: str
    revision: str
    commit: str
    folder: str
    """relative to the bundle; the files in it are named as in the repository"""
    files: tuple[Blob, ...]


class BundledPlugin(Frozen):
    """One file of a model repository."""

    repo: str
    revision: str
    commit: str
    file: str
    blob: Blob
    """named as in the repository, in a folder of its own or with the model's files"""


class BundledPackages(Frozen):
    """A small repository of packages for one system."""

    system: System
    folder: str
    packages: tuple[str, ...]
    """those that can be installed from it, with everything that they need"""
    files: tuple[Blob, ...]


class Manifest(Frozen):
    """What a bundle holds."""

    version: int = VERSION
    fleet: str
    images: tuple[BundledImage, ...] = ()
    models: tuple[BundledModel, ...] = ()
    plugins: tuple[BundledPlugin, ...] = ()
    packages: tuple[BundledPackages, ...] = ()

    def blobs(self) -> tuple[Blob, ...]:
        """Every file, once."""
        found = [image.archive for image in self.images]
        found += [blob for model in self.models for blob in model.files]
        found += [plugin.blob for plugin in self.plugins]
        found += [blob for packages in self.packages for blob in packages.files]
        return tuple(dict.fromkeys(found))


class Bundled(Frozen):
    """The part of a bundle that one host gets: what it lacks."""

    images: tuple[BundledImage, ...] = ()
    models: tuple[BundledModel, ...] = ()
    plugins: tuple[BundledPlugin, ...] = ()
    packages: BundledPackages | None = None

    def blobs(self) -> tuple[Blob, ...]:
        """Every file, once."""
        packages = (self.packages,) if self.packages else ()
        whole = Manifest(fleet="", images=self.images, models=self.models, plugins=self.plugins, packages=packages)
        return whole.blobs()


class Wanted(Frozen):
    """What a fleet needs, whatever its hosts have already."""

    images: tuple[tuple[str, Platform], ...]
    """reference and platform"""
    models: tuple[tuple[str, str], ...]
    """repository and revision"""
    plugins: tuple[tuple[str, str, str], ...]
    """repository, revision and file"""
    packages: dict[System, tuple[str, ...]]


def wanted(hosts: Iterable[tuple[HostPlan, Facts]]) -> Wanted:
    """Everything, once. Raises UsageError naming all that no bundle can have."""
    images, models, plugins = (dict[Any, None]() for _ in range(3))
    packages: dict[System, tuple[str, ...]] = {}
    impossible: list[str] = []
    for plan, facts in hosts:
        fetched = [image for image in plan.images if image.archive is None]
        impossible += [f"{plan.host}: {words}" for image in fetched if (words := _impossible(image))]
        images |= dict.fromkeys((image.reference, image.platform) for image in fetched)
        if plan.weights_download:
            models |= dict.fromkeys((weights.repo, weights.revision) for weights in plan.weights)
            plugins |= dict.fromkeys((plugin.repo, plugin.revision, plugin.file) for plugin in plan.plugins)
        try:
            names = packages_for(plan, facts)
        except HostError as error:
            impossible.append(str(error))
            continue
        if names:
            system = system_of(facts)
            packages[system] = tuple(dict.fromkeys((*packages.get(system, ()), *names)))
    if impossible:
        raise UsageError("\n".join(["nothing was bundled:", *(f"  {words}" for words in impossible)]))
    return Wanted(images=tuple(images), models=tuple(models), plugins=tuple(plugins), packages=packages)


def bundled(plan: HostPlan, facts: Facts, manifest: Manifest) -> tuple[Bundled, tuple[str, ...]]:
    """What a host lacks and the bundle has, and what both lack, a sentence each."""
    images = {(one.reference, one.platform): one for one in manifest.images}
    models = {(one.repo, one.revision): one for one in manifest.models}
    plugins = {(one.repo, one.revision, one.file): one for one in manifest.plugins}
    found: dict[str, list[Any]] = {"images": [], "models": [], "plugins": []}
    lacking: list[str] = []

    def take(kind: str, one: Any, words: str) -> None:
        if one is None:
            lacking.append(f"the bundle has no {words}")
        else:
            found[kind].append(one)

    present = {name for image in facts.images for name in (*image.tags, *image.digests)}
    for image in plan.images:
        if image.archive is None and image.reference not in present:
            words = f"image {image.reference} for {image.platform}{_instead(image, manifest)}"
            take("images", images.get((image.reference, image.platform)), words)
    for weights in plan.weights if plan.weights_download else ():
        if lacks_commit(facts.weights.get(weights.repo), weights.revision):
            words = f"weights of {weights.repo} at {weights.revision}{_others(weights.repo, manifest)}"
            take("models", models.get((weights.repo, weights.revision)), words)
    files = {file.path for file in facts.files}
    for plugin in plan.plugins if plan.weights_download else ():
        if f"{plan.plugin_dir}/{plugin.file}" not in files:
            words = f"{plugin.file} of {plugin.repo} at {plugin.revision}"
            take("plugins", plugins.get((plugin.repo, plugin.revision, plugin.file)), words)
    packages, others = _packages(plan, facts, manifest)
    return Bundled(**found, packages=packages), (*lacking, *others)


def bundle_variables(plan: HostPlan, part: Bundled) -> dict[str, Any]:
    """Variables of roles that make a host take what lies in ON_HOST, in place of fetching it."""
    archives = {one.reference: str(ON_HOST / one.archive.path) for one in part.images}
    folders = {one.repo: one for one in part.models}
    files = {(one.repo, one.file): one for one in part.plugins}
    known = role_variables(plan)
    changed: dict[str, Any] = {
        "vllm_image_list": [
            {**image, "build": {}, "archive": {"path": archives[image["reference"]], "at": "host"}}
            if image["reference"] in archives
            else image
            for image in known["vllm_image_list"]
        ],
        "model_weights_list": [
            {
                **weights,
                "folder": str(ON_HOST / folders[weights["repo"]].folder),
                "commit": folders[weights["repo"]].commit,
            }
            if weights["repo"] in folders
            else weights
            for weights in known["model_weights_list"]
        ],
        "model_weights_plugins": [
            {**plugin, "folder": str((ON_HOST / files[key].blob.path).parent), "commit": files[key].commit}
            if (key := (plugin["repo"], plugin["file"])) in files
            else plugin
            for plugin in known["model_weights_plugins"]
        ],
    }
    if part.packages:
        changed["docker_engine_source"] = "distribution"
        changed["site_environment"] = {"APT_CONFIG": str(ON_HOST / part.packages.folder / "apt.conf")}
    return changed


def from_bundle(changes: Changes, part: Bundled) -> Changes:
    """The same changes, in words that say where things come from."""
    brought = {
        *(one.reference for one in part.images),
        *(one.repo for one in part.models),
        *(one.file for one in part.plugins),
    }
    return changes.model_copy(
        update={
            "changes": tuple(
                one.model_copy(update={"reason": "not there; will come from the bundle"})
                if one.subject in brought and one.role in ("vllm_image", "model_weights")
                else one
                for one in changes.changes
            )
        }
    )


def _impossible(image: Image) -> str | None:
    if image.build:
        return (
            f"{image.reference} is built on the host: push what was built to a registry and name it there, "
            "or save it to a file and name that"
        )
    if "@" in image.reference:
        return f"{image.reference} is named by digest, which no archive gives to Docker: name it by a tag alone"
    return None


def _packages(plan: HostPlan, facts: Facts, manifest: Manifest) -> tuple[BundledPackages | None, tuple[str, ...]]:
    if facts.docker.version and facts.marked:  # servers of ours ran here: it has what the roles need
        return None, ()
    try:
        names = packages_for(plan, facts)
    except HostError as error:
        return None, (str(error),)
    system = system_of(facts)
    found = next((one for one in manifest.packages if one.system == system), None)
    missing = [name for name in names if found is None or name not in found.packages]
    if missing:
        others = ", ".join(one.system.words for one in manifest.packages) or "no system"
        return None, (
            f"the bundle has no package {', '.join(missing)} for {system.words}; it has packages for {others}",
        )
    return (found if names else None), ()


def _instead(image: Image, manifest: Manifest) -> str:
    """What the bundle has that is nearest."""
    platforms = sorted(one.platform for one in manifest.images if one.reference == image.reference)
    if platforms:
        return f"; it has it for {', '.join(platforms)}"
    others = sorted(one.reference for one in manifest.images if one.platform == image.platform)
    return f"; it has {', '.join(others)}" if others else ""


def _others(repo: str, manifest: Manifest) -> str:
    revisions = sorted(one.revision for one in manifest.models if one.repo == repo)
    return f"; it has them at {', '.join(revisions)}" if revisions else ""
