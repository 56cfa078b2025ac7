"""The lock of a fleet: reading it, holding plans against it, asking what names stand for now, writing it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from provisioner.errors import ProvisionError, UpstreamError, UpstreamUnreachableError, UsageError
from provisioner.fleet.models import Fleet
from provisioner.fleet.recipes import Recipe
from provisioner.plan import lock as locks
from provisioner.plan.lock import UNLOCKED, Lock, LockedImage, LockedPlugin
from provisioner.plan.needs import Needs, check_locked, check_recipes, needs
from provisioner.plan.references import parse
from provisioner.rollout.secrets import resolve_secrets
from provisioner.rollout.survey import Survey

MAX_LOOKUPS = 16
"""questions to registries, hubs and git servers at the same time"""

T = TypeVar("T")


@dataclass(frozen=True)
class Move:
    """One entry that is new (`before` None), moved, or gone (`after` None)."""

    entry: str
    before: str | None
    after: str | None


def read_lock(fleet: Fleet, recipes: Mapping[str, Recipe]) -> Lock | None:
    """The lock beside the fleet file; None where there is none.

    Raises InputError for a file that is no lock, UsageError when a recipe is not the locked one.
    """
    lock = locks.read_lock(fleet.path)
    if lock is not None:
        check_recipes(lock, recipes, locks.lock_file(fleet.path), f"{_command(fleet)} --update-lock")
    return lock


def without_images(lock: Lock | None) -> Lock | None:
    """The lock as plans are made with it where images come from archives, which cannot give Docker a digest."""
    return lock.model_copy(update={"images": {}}) if lock else None


def check_survey(seen: Survey, recipes: Mapping[str, Recipe], *, images: bool = True) -> None:
    """UsageError naming everything that the survey's lock lacks; nothing where there is no lock.

    `images` False leaves them out: see `without_images`.
    """
    if seen.lock is not None:
        lacking = _lacking(seen, recipes)
        lacking = lacking if images else lacking.model_copy(update={"images": {}})
        check_locked(lacking, locks.lock_file(seen.fleet.path), _command(seen.fleet))


def make_lock(
    seen: Survey,
    recipes: Mapping[str, Recipe],
    kept: Lock,
    environment: Mapping[str, str],
) -> Lock:
    """`kept` and what the survey's plans name that the survey's own lock does not hold, as it is upstream now.

    Raises ProvisionError when a host could not be planned, UpstreamError when a name is told by nobody, UsageError for
    a secret that cannot be had.
    """
    _check_planned(seen)
    wanted = _lacking(seen, recipes)
    token = seen.fleet.hub.token if wanted.models or wanted.plugins else None
    asked = {parse(name).registry for name in wanted.images}
    logins = {host: login for host, login in seen.fleet.docker.registries.items() if host in asked}
    references = [*([token] if token else []), *(login.password for login in logins.values())]
    secrets = resolve_secrets(references, environment)
    credentials = {host: (login.username, secrets[login.password]) for host, login in logins.items()}
    return locks.merged(kept, look_up(seen.fleet, wanted, secrets.get(token or ""), credentials))


def look_up(fleet: Fleet, wanted: Needs, token: str | None, credentials: Mapping[str, tuple[str, str]]) -> Lock:
    """What all these names stand for now. Raises UpstreamError with every name that nobody tells."""
    from provisioner.upstream import git, hub, registry  # their libraries take their time to import

    logins = {host: registry.Credentials(*pair) for host, pair in credentials.items()}
    registries = registry.Registries.of(fleet, logins)
    models = hub.Hub(fleet.hub.endpoint or hub.HUGGING_FACE, token)

    def plugin(repo: str, revision: str, file: str) -> LockedPlugin:
        commit = models.commit_of(repo, revision)
        return LockedPlugin(revision=revision, commit=commit, sha256=models.sha256_of(repo, commit, file))

    with ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="lookup") as pool:
        image_digests = {name: pool.submit(registries.locked, name) for name in sorted(wanted.images)}
        git_commits = {one: pool.submit(git.commit_of, *one) for one in sorted(wanted.builds)}
        model_commits = {one: pool.submit(models.commit_of, *one) for one in sorted(wanted.models)}
        files = {one: pool.submit(plugin, *one) for one in sorted(wanted.plugins)}
    _check_answers([*image_digests.values(), *git_commits.values(), *model_commits.values(), *files.values()])
    images = {name: future.result() for name, future in image_digests.items()}
    _check_platforms(wanted, images)
    return Lock(
        images=images,
        builds=_nested((locks.public(git), ref, future.result()) for (git, ref), future in git_commits.items()),
        models=_nested((repo, revision, future.result()) for (repo, revision), future in model_commits.items()),
        plugins=_nested((repo, file, future.result()) for (repo, _, file), future in files.items()),
        recipes=wanted.recipes,
    )


def moves(before: Lock, after: Lock) -> tuple[Move, ...]:
    """What is locked to something else, in the order of the file."""
    old, new = locks.entries(before), locks.entries(after)
    names = dict.fromkeys([*new, *old])
    return tuple(Move(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name))


def write_lock(fleet: Fleet, lock: Lock) -> Path:
    """Writes the lock beside the fleet file, in one step: whoever reads it meanwhile has the old one or the new one."""
    file = locks.lock_file(fleet.path)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(locks.lock_text(lock, fleet.path.name))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return file


def _command(fleet: Fleet) -> str:
    return f"provision lock {fleet.path}"


def _lacking(seen: Survey, recipes: Mapping[str, Recipe]) -> Needs:
    return needs([host.plan for host in seen.hosts if host.plan], recipes, seen.lock or UNLOCKED)


def _check_planned(seen: Survey) -> None:
    unplanned = [host for host in seen.hosts if host.plan is None]
    if not unplanned:
        return
    told = ((host.host.name, problem) for host in unplanned for problem in host.problems)
    lines = [_indented(f"  {name}: {problem.removeprefix(f'{name}: ')}") for name, problem in told]
    error = ProvisionError(
        "\n".join(["nothing was locked, because it is not known what these hosts need:", *lines]),
        hint="mend them, or lock for the others with --hosts",
    )
    error.exit_code = unplanned[0].exit_code
    raise error


def _check_answers(futures: Iterable[Future[Any]]) -> None:
    failed: list[UpstreamError] = []
    for future in futures:
        error = future.exception()
        if isinstance(error, UpstreamError):
            failed.append(error)
        elif error is not None:
            raise error
    if not failed:
        return
    silent = all(isinstance(error, UpstreamUnreachableError) for error in failed)
    text = "\n".join(["nothing was locked:", *(f"  {_indented(str(error))}" for error in failed)])
    raise (UpstreamUnreachableError if silent else UpstreamError)(text)


def _check_platforms(wanted: Needs, images: Mapping[str, LockedImage]) -> None:
    lines = [
        f"  {name} has no {platform}, which hosts of the fleet are; it has {', '.join(sorted(images[name].platforms))}"
        for name, platforms in sorted(wanted.images.items())
        for platform in sorted(platforms)
        if platform not in images[name].platforms
    ]
    if lines:
        raise UpstreamError("\n".join(["nothing was locked:", *lines]), hint="name another image for these platforms")


def _nested(found: Iterable[tuple[str, str, T]]) -> dict[str, dict[str, T]]:
    made: dict[str, dict[str, T]] = {}
    for outer, inner, value in found:
        made.setdefault(outer, {})[inner] = value
    return made


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")
