"""How often the baseline gate is wrong, on simulated benchmarks whose answer is known.

    python benchmarks/baseline.py [--hosts N]

Each simulated host has a true speed. Its accepted benchmarks and a new validation are drawn around it with the given
noise, half of whose variance belongs to the run, as the gate assumes, or none or all of it, as it does not. Printed are
the share of validations that failed although nothing was lost, and that passed although something was.
"""

from __future__ import annotations

import argparse
import math
import random
from dataclasses import dataclass

from provisioner.fleet.models import Baseline
from provisioner.validate.baseline import against_host, against_peers, decided, level

FIGURE = "output_throughput"


@dataclass(frozen=True)
class World:
    """One kind of host. Noise and spread are standard deviations, as shares."""

    noise: float = 0.01
    accepted: int = 5
    loss: float = 0.0
    run_share: float = 0.5
    """how much of the noise's variance benchmarks of one run have in common"""
    peers: int = 0
    spread: float = 0.02
    creep: float = 0.0
    """what each accepted run loses against the one before it"""


@dataclass(frozen=True)
class Outcome:
    """What the gate said about one host."""

    failed: bool
    undecided: bool
    benchmarks: int


def validate(world: World, seed: int, settings: Baseline) -> Outcome:
    """The gate on one simulated host."""
    dice = random.Random(seed)  # noqa: S311 - repeatable
    history = _history(dice, world, 1.0, settings)
    others = [_history(dice, world, math.exp(dice.gauss(0, world.spread)), settings) for _ in range(world.peers)]
    speed = (1 - world.loss) * (1 - world.creep) ** world.accepted
    run = _noise(dice, world.noise * math.sqrt(world.run_share))
    measured: list[float] = []
    while True:
        measured.append(speed * run * _noise(dice, world.noise * math.sqrt(1 - world.run_share)))
        compared = [against_host(FIGURE, measured, history, others, settings)] if world.accepted else []
        compared += [against_peers(FIGURE, measured, others, settings)] if others else []
        decision = decided(compared)
        if decision != "again":
            return Outcome(decision == "failed", decision == "undecided", len(measured))


def rates(world: World, hosts: int, settings: Baseline) -> tuple[float, float, float]:
    """Shares of hosts that failed and that were not decided, and benchmarks a validation on average."""
    outcomes = [validate(world, seed, settings) for seed in range(hosts)]
    return (
        sum(one.failed for one in outcomes) / hosts,
        sum(one.undecided for one in outcomes) / hosts,
        sum(one.benchmarks for one in outcomes) / hosts,
    )


def _history(dice: random.Random, world: World, speed: float, settings: Baseline) -> tuple[float, ...]:
    runs = [speed * (1 - world.creep) ** run * _noise(dice, world.noise) for run in range(world.accepted)]
    return level(runs, FIGURE, settings)


def _noise(dice: random.Random, deviation: float) -> float:
    return math.exp(dice.gauss(0, deviation))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2000, help="simulated hosts a line")
    hosts = parser.parse_args().hosts
    settings = Baseline()
    print(
        f"{hosts} simulated hosts a line, default settings: {settings.tolerance_percent:g} % tolerance, "
        f"{settings.confidence_percent:g} % confidence, at most {settings.benchmarks} benchmarks\n"
    )
    print("failed, by what was really lost                          | benchmarks a validation")
    losses = (0.0, 0.02, 0.03, 0.05, 0.07, 0.10, 0.15, 0.20)
    print(f"{'noise':>6} {'acc.':>4} {'run':>4} " + " ".join(f"{loss:>6.0%}" for loss in losses) + " |     0%    10%")
    for noise in (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.10):
        for accepted in (1, 3, 5):
            for share in (0.5,) if accepted != 5 else (0.0, 0.5, 1.0):
                found = {loss: rates(World(noise, accepted, loss, share), hosts, settings) for loss in losses}
                print(
                    f"{noise:>6.1%} {accepted:>4} {share:>4.1f} "
                    + " ".join(f"{found[loss][0]:>6.1%}" for loss in losses)
                    + f" | {found[0.0][2]:>6.2f} {found[0.10][2]:>6.2f}"
                )


if __name__ == "__main__":
    main()
