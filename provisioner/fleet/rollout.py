"""How a change reaches a fleet, as an operator writes it: canary, batches, gates, and what happens when one fails."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from provisioner.fleet.base import Frozen

GROUP = "group"
"""value of `batch_by` that stands for the first group of a host"""

LABEL = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
PERCENTAGE = r"^(100|[1-9][0-9]?)%$"
FORMATS = {
    LABEL: "letters, digits, dashes, dots and underscores (at most 63), a letter or digit first and last",
    PERCENTAGE: "a whole percentage from 1% to 100%",
}

Label = Annotated[str, StringConstraints(pattern=LABEL)]
Percentage = Annotated[str, StringConstraints(pattern=PERCENTAGE)]
Size = Annotated[int, Field(ge=1, strict=True)]
Order = Literal["inventory", "reverse_inventory", "sorted", "reverse_sorted", "shuffle"]


class Rollout(Frozen):
    """How a change reaches the fleet. Words are those of Argo Rollouts where they fit.

    Without this key, a fleet in which no host serves anything yet has nothing to lose: all hosts are one wave.
    """

    canary: Literal["auto"] | Annotated[int, Field(ge=0, strict=True)] | tuple[str, ...] = "auto"
    """The first wave: `auto` (one host of each hardware profile and platform), a number of hosts, or their names."""
    batches: Annotated[tuple[Size | Percentage, ...], Field(min_length=1)] = ("100%",)
    """Sizes of the waves after the canary, in hosts or in percent of the fleet; the last one repeats."""
    batch_by: Label | None = None
    """Instead of sizes, one wave for each value of this label, by the first host that has it. `group` is a host's first
    group."""
    order: Order = "inventory"
    """Which hosts come first, among the canaries and in the batches; the words of Ansible's `order`. `inventory`: as in
    the file; `sorted`: by name; `shuffle`: by chance, another one for each release and always the same for one."""
    pause_s: Annotated[int, Field(ge=0, strict=True)] = 0
    """seconds between a passed gate and the next wave"""
    approve: Literal["never", "canary", "every_wave"] = "never"
    """After which waves somebody must say yes: at the terminal, or `approve_command`."""
    approve_command: str | None = None
    """Command line of this machine that is asked instead of the terminal; it says yes by ending with 0."""
    max_failures: Annotated[int, Field(ge=0, strict=True)] = 0
    """Failed hosts that a rollout goes on with; one more stops it."""
    rollback: Literal["wave", "all", "never"] = "wave"
    """What goes back to its previous release when a gate fails: the hosts of the wave, all that were changed, none."""
    analysis: Literal["smoke", "benchmark"] = "benchmark"
    """How deep the gates look: real answers alone, or a benchmark as well."""
