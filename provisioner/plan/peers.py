"""Which host gives what to which, so that everything comes to a fleet once. Pure.

An image goes from host to host among those of its platform, a model among all. Who has it already comes first, else the
first host that needs it, which gets it as ever. Each further one asks one that comes before it, and no host is asked by
more than FANOUT at a time; so there is no cycle. One whose giver is lost asks that one's giver, and who has none left
gets it as if there were no peers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from provisioner.fleet.base import Frozen
from provisioner.plan.facts import Facts
from provisioner.plan.lock import lacks_commit
from provisioner.plan.model import Changes, HostPlan
from provisioner.plan.variables import role_variables

FANOUT = 2
"""hosts that are given to at once: more share one host's network card, fewer wait for each other in a longer row"""


class Given(Frozen):
    """What one host gets from others, and from whom: those that it asks, in this order."""

    images: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """by reference"""
    weights: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """by repository"""

    @property
    def givers(self) -> tuple[str, ...]:
        """Every host that may be asked, once."""
        chains = [*self.images.values(), *self.weights.values()]
        return tuple(dict.fromkeys(name for chain in chains for name in chain))


def given(hosts: Iterable[tuple[HostPlan, Facts]]) -> dict[str, Given]:
    """By host: what it gets from others; hosts that get nothing are left out. `hosts`: in the order of their turn."""
    images: dict[tuple[str, str], _Row] = {}
    weights: dict[tuple[str, str], _Row] = {}
    for plan, facts in hosts:
        for image in plan.images:
            there = facts.image(image.reference) is not None
            images.setdefault((image.reference, image.platform), _Row()).add(plan.host, there=there)
        for model in plan.weights if plan.weights_download else ():
            there = not lacks_commit(facts.weights.get(model.repo), model.revision)
            weights.setdefault((model.repo, model.revision), _Row()).add(plan.host, there=there)
    found: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {}
    for kind, rows in (("images", images), ("weights", weights)):
        for (name, _), row in rows.items():
            for host, chain in chains(row.have, row.lack).items():
                found.setdefault(host, {}).setdefault(kind, {})[name] = chain
    return {host: Given(**parts) for host, parts in found.items()}


def chains(have: Sequence[str], lack: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By host that lacks something: whom it asks, the nearest first. The first to get what nobody has is left out."""
    row = [*have, *lack] if have else list(lack)
    roots = len(have) or 1
    found: dict[str, tuple[str, ...]] = {}
    for position in range(roots, len(row)):
        giver = row[(position - roots) // FANOUT]
        found[row[position]] = (giver, *found.get(giver, ()))
    return found


def peer_variables(plan: HostPlan, part: Given, addresses: Mapping[str, str]) -> dict[str, Any]:
    """Variables of roles that make a host ask others first. `addresses`: by host that gives, ADDRESS:PORT."""

    def asked(chain: Sequence[str]) -> list[dict[str, str]]:
        return [{"host": name, "address": addresses[name]} for name in chain if name in addresses]

    known = role_variables(plan)
    return {
        "vllm_image_list": [
            {**image, "peers": asked(part.images.get(image["reference"], ()))} for image in known["vllm_image_list"]
        ],
        "model_weights_peers": {repo: asked(chain) for repo, chain in part.weights.items()},
    }


def from_peers(changes: Changes, part: Given) -> Changes:
    """The same changes, in words that say where things come from."""
    chains = {("vllm_image", name): chain for name, chain in part.images.items()}
    chains |= {("model_weights", name): chain for name, chain in part.weights.items()}
    return changes.model_copy(
        update={
            "changes": tuple(
                one.model_copy(update={"reason": f"not there; will come from {chain[0]}"})
                if (chain := chains.get((one.role, one.subject)))
                else one
                for one in changes.changes
            )
        }
    )


class _Row:
    """Hosts that have something, and those that need it."""

    def __init__(self) -> None:
        self.have: list[str] = []
        self.lack: list[str] = []

    def add(self, host: str, *, there: bool) -> None:
        (self.have if there else self.lack).append(host)
