"""Making a bundle: all that the hosts of a fleet would fetch, fetched here. Begun again, it goes on where it was."""

from __future__ import annotations

import base64
import re
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from provisioner.errors import HostError, ProvisionError, UpstreamError, UsageError
from provisioner.fleet.base import Frozen, Platform
from provisioner.fleet.models import Fleet
from provisioner.plan.bundle import (
    MANIFEST,
    ON_HOST,
    Blob,
    BundledImage,
    BundledModel,
    BundledPackages,
    BundledPlugin,
    Manifest,
    wanted,
)
from provisioner.plan.lock import UNLOCKED, Lock
from provisioner.plan.packages import System, system_of
from provisioner.plan.references import parse
from provisioner.rollout import store
from provisioner.rollout.connections import Connections
from provisioner.rollout.secrets import resolve_secrets
from provisioner.rollout.survey import Survey

Say = Callable[[str], None]
T = TypeVar("T", bound=Frozen)
WORK = ".work"
"""in the bundle while it is made: what is not whole yet"""
_EVERY_S = 10.0
"""between two words about one download"""


def make_bundle(
    seen: Survey,
    lock: Lock | None,
    connections: Connections,
    folder: Path,
    environment: Mapping[str, str],
    say: Say,
) -> Manifest:
    """Fills `folder`; what an earlier one has there already is not fetched again.

    `seen` is planned without the lock's images (`locking.without_images`); they are fetched as it says nevertheless.
    Raises ProvisionError when a host could not be planned, UsageError for what no bundle can have, UpstreamError when
    something is not to be had.
    """
    _check_planned(seen)
    needed = wanted([(host.plan, host.facts) for host in seen.hosts if host.plan and host.facts])
    registries = {parse(reference).registry for reference, _ in needed.images}
    maker = _Maker(seen.fleet, lock or UNLOCKED, folder, _secrets(seen.fleet, registries, environment), say)
    images = [maker.image(*one) for one in needed.images]
    models = [maker.model(*one) for one in needed.models]
    plugins = [maker.plugin(*one, models) for one in needed.plugins]
    packages = [
        maker.packages(system, names, _sources(seen, connections, system)) for system, names in needed.packages.items()
    ]
    manifest = Manifest(
        fleet=seen.fleet.name,
        images=tuple(images),
        models=tuple(models),
        plugins=tuple(plugins),
        packages=tuple(packages),
    )
    store.write_manifest(folder, manifest)
    store.prune(folder, manifest)
    shutil.rmtree(folder / WORK)
    return manifest


class _Maker:
    """Fetches one thing after the other; the manifest knows each as soon as it is whole."""

    def __init__(self, fleet: Fleet, lock: Lock, folder: Path, secrets: Mapping[str, str], say: Say) -> None:
        from provisioner.upstream import hub, registry  # their libraries take their time to import

        self._lock = lock
        self._folder, self._work, self._say = folder, folder / WORK, say
        self._known = _begun(folder, fleet.name)
        logins = {
            name: registry.Credentials(login.username, secrets[login.password])
            for name, login in fleet.docker.registries.items()
            if login.password in secrets
        }
        self._registries = registry.Registries.of(fleet, logins)
        self._hub = hub.Hub(fleet.hub.endpoint or hub.HUGGING_FACE, secrets.get(fleet.hub.token or ""))

    def image(self, reference: str, platform: Platform) -> BundledImage:
        """An archive, at the digest that the reference has now."""
        from provisioner.upstream import images

        what = f"image {reference} for {platform}"
        pinned = self._lock.image(reference, platform)
        platforms = self._registries.locked(pinned).platforms
        if platform not in platforms:
            raise UpstreamError(f"{what}: it is there for {', '.join(sorted(platforms))} alone")
        old = next((one for one in self._known.images if (one.reference, one.platform) == (reference, platform)), None)
        if old and old.digest == platforms[platform] and store.there(self._folder, old.archive):
            return self._same(what, old, [old.archive])
        path = f"images/{_slug(reference)}-{platform.rpartition('/')[2]}.tar"
        for place in (self._folder / "images", self._work / "parts"):
            place.mkdir(parents=True, exist_ok=True)
        self._say(f"{what}: fetching")
        digest = images.fetch(
            self._registries, pinned, platform, self._folder / path, self._work / "parts", self._told(what)
        )
        blob = store.blob_of(self._folder, path)
        found = BundledImage(reference=reference, platform=platform, digest=digest, archive=blob)
        return self._new(what, found, "images", old, [blob])

    def model(self, repo: str, revision: str) -> BundledModel:
        """All files of a model, at the commit that the revision has now."""
        what = f"weights of {repo} at {revision}"
        commit = self._hub.commit_of(repo, revision)
        old = next((one for one in self._known.models if (one.repo, one.revision) == (repo, revision)), None)
        if old and old.commit == commit and all(store.there(self._folder, blob) for blob in old.files):
            return self._same(what, old, old.files)
        self._say(f"{what}: fetching")
        folder = f"models/{_slug(repo)}/{commit}"
        files = self._files(repo, commit, folder)
        found = BundledModel(repo=repo, revision=revision, commit=commit, folder=folder, files=tuple(files))
        return self._new(what, found, "models", old, files)

    def plugin(self, repo: str, revision: str, file: str, models: list[BundledModel]) -> BundledPlugin:
        """One file, which is often a model's anyway."""
        commit = self._hub.commit_of(repo, revision)
        folder = f"models/{_slug(repo)}/{commit}"
        known = [blob for one in models if (one.repo, one.commit) == (repo, commit) for blob in one.files]
        blobs = [blob for blob in known if blob.path == f"{folder}/{file}"] or self._files(repo, commit, folder, file)
        return BundledPlugin(repo=repo, revision=revision, commit=commit, file=file, blob=blobs[0])

    def packages(self, system: System, names: tuple[str, ...], sources: bytes) -> BundledPackages:
        """A repository of packages. Made anew each time: only apt knows whether there are newer ones."""
        from provisioner.upstream import packages

        what = f"packages for {system.words}"
        self._say(f"{what}: fetching {', '.join(names)} with all that they need")
        folder = f"packages/{system.folder}"
        work = self._work / system.folder
        packages.fetch(system, names, sources, self._folder / folder, ON_HOST / folder, work)
        files = [store.blob_of(self._folder, f"{folder}/{file.name}") for file in _sorted(self._folder / folder)]
        found = BundledPackages(system=system, folder=folder, packages=names, files=tuple(files))
        self._say(f"{what}: {len(files)} files, {_size(files)}")
        return found

    def _files(self, repo: str, commit: str, folder: str, only: str | None = None) -> list[Blob]:
        hashes = self._hub.fetch(repo, commit, self._folder / folder, only)
        files = [store.blob_of(self._folder, f"{folder}/{name}") for name in sorted(hashes)]
        wrong = [blob.path for blob in files if hashes[blob.path[len(folder) + 1 :]] not in ("", blob.sha256)]
        for path in wrong:
            (self._folder / path).unlink()
        if wrong:
            raise UpstreamError(
                f"{repo} at {commit[:12]}: not what the hub says: {', '.join(wrong)}", hint="run the command again"
            )
        return files

    def _same(self, what: str, old: T, blobs: list[Blob] | tuple[Blob, ...]) -> T:
        self._say(f"{what}: there already, {_size(blobs)}")
        return old

    def _new(self, what: str, found: T, kind: str, old: T | None, blobs: list[Blob]) -> T:
        others = [one for one in getattr(self._known, kind) if one != old]
        self._known = self._known.model_copy(update={kind: (*others, found)})
        store.write_manifest(self._folder, self._known)
        self._say(f"{what}: {_size(blobs)}")
        return found

    def _told(self, what: str) -> Callable[[int, int], None]:
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _EVERY_S:
                last = time.monotonic()
                self._say(f"{what}: {done / 2**30:.1f} of {total / 2**30:.1f} GiB")

        return report


def _secrets(fleet: Fleet, registries: set[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The hub's token and the passwords of the registries that are asked."""
    references = [login.password for name, login in fleet.docker.registries.items() if name in registries]
    return resolve_secrets([*references, *([fleet.hub.token] if fleet.hub.token else [])], environment)


def _begun(folder: Path, fleet: str) -> Manifest:
    """What is known of the folder's files. UsageError for a folder with something else in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        return store.read_manifest(folder)
    if any(folder.iterdir()) and not (folder / WORK).is_dir():
        raise UsageError(f"{folder} has something in it that is no bundle", hint="name another folder")
    (folder / WORK).mkdir(exist_ok=True)
    return Manifest(fleet=fleet)


def _check_planned(seen: Survey) -> None:
    unplanned = [host for host in seen.hosts if host.plan is None]
    if unplanned:
        lines = [f"  {host.host.name}: {problem}" for host in unplanned for problem in host.problems]
        error = ProvisionError(
            "\n".join(["nothing was bundled, because it is not known what these hosts need:", *lines]),
            hint="mend them, or make a bundle for the others with --hosts",
        )
        error.exit_code = unplanned[0].exit_code
        raise error


def _sources(seen: Survey, connections: Connections, system: System) -> bytes:
    """Where the first host of a system gets packages from, and whom it trusts."""
    from provisioner.upstream.packages import READ_SOURCES

    host = next(one.host for one in seen.hosts if one.facts and system_of(one.facts) == system)
    result = connections.connect(host).run(f"exec /bin/sh -c {shlex.quote(READ_SOURCES)}", timeout_s=60)
    if result.rc != 0:
        raise HostError(f"{host.name}: cannot read where its apt gets packages from", log=result.stderr)
    return base64.b64decode(result.stdout)


def _sorted(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")


def _size(blobs: list[Blob] | tuple[Blob, ...]) -> str:
    size = sum(blob.size for blob in blobs)
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
