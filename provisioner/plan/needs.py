"""What plans name that could mean something else tomorrow, and no lock holds: tags, branches, recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field

from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen, Platform
from provisioner.fleet.recipes import Recipe
from provisioner.plan import model
from provisioner.plan.lock import Lock, is_commit, public


class Needs(Frozen):
    """Names to look up. Empty when everything is locked."""

    images: dict[str, frozenset[Platform]] = Field(default_factory=dict)
    """reference → platforms of the hosts that pull it"""
    builds: frozenset[tuple[str, str]] = frozenset()
    """git repository and ref"""
    models: frozenset[tuple[str, str]] = frozenset()
    """model repository and revision"""
    plugins: frozenset[tuple[str, str, str]] = frozenset()
    """model repository, revision and file"""
    recipes: dict[str, str] = Field(default_factory=dict)
    """id → SHA-256 of its file"""

    def words(self) -> tuple[str, ...]:
        """Each name, in the words of `lock.entries`."""
        return (
            *(f"image {reference}" for reference in sorted(self.images)),
            *(f"build of {public(git)} at {ref}" for git, ref in sorted(self.builds)),
            *(f"model {repo} at {revision}" for repo, revision in sorted(self.models)),
            *(f"plugin {file} of {repo} at {revision}" for repo, revision, file in sorted(self.plugins)),
            *(f"recipe {name}" for name in sorted(self.recipes)),
        )

    def __bool__(self) -> bool:
        return bool(self.images or self.builds or self.models or self.plugins or self.recipes)


def needs(plans: Iterable[model.HostPlan], recipes: Mapping[str, Recipe], lock: Lock) -> Needs:
    """What these plans, made with this lock, still name by tag or branch, and the recipes that it lacks."""
    images: dict[str, frozenset[Platform]] = {}
    builds, models, plugins = set(), set(), set()
    for plan in plans:
        for image in plan.images:
            if image.build and not is_commit(image.build.ref):
                builds.add((image.build.git, image.build.ref))
            elif not image.build and not image.archive and "@" not in image.reference:
                images[image.reference] = images.get(image.reference, frozenset()) | {image.platform}
        models |= {(one.repo, one.revision) for one in plan.weights if not is_commit(one.revision)}
        plugins |= {(one.repo, one.revision, one.file) for one in plan.plugins if not one.sha256}
    hashes = {recipe.id: recipe.sha256 for recipe in recipes.values() if recipe.id not in lock.recipes}
    return Needs(
        images=images,
        builds=frozenset(builds),
        models=frozenset(models),
        plugins=frozenset(plugins),
        recipes=hashes,
    )


def check_recipes(lock: Lock, recipes: Mapping[str, Recipe], file: Path, command: str) -> None:
    """UsageError naming every recipe whose file is not the locked one. `command`: how the lock is moved."""
    changed = {
        f"{file}: recipe {recipe.id} is not the locked one: {recipe.file} has changed"
        for recipe in recipes.values()
        if lock.recipes.get(recipe.id, recipe.sha256) != recipe.sha256
    }
    if changed:
        raise UsageError("\n".join(sorted(changed)), hint=f"restore it, or accept what is there with `{command}`")


def check_locked(lacking: Needs, file: Path, command: str) -> None:
    """UsageError naming everything that the lock lacks. `command`: how it is added."""
    if lacking:
        lines = "\n".join(f"  {word}" for word in lacking.words())
        raise UsageError(f"{file} lacks what the fleet needs:\n{lines}", hint=f"add it with `{command}`")
