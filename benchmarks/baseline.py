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
PEER_RUNS = 5
"""accepted benchmarks of each peer of a host that has none"""


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
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose; nothing of it is secret
    history = _history(dice, world, 1.0, world.accepted, settings)
    others = [
        _history(dice, world, math.exp(dice.gauss(0, world.spread)), world.accepted or PEER_RUNS, settings)
        for _ in range(world.peers)
    ]
    own = math.exp(dice.gauss(0, world.spread)) if world.accepted == 0 else 1.0
    speed = own * (1 - world.loss) * (1 - world.creep) ** world.accepted
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


def _history(dice: random.Random, world: World, speed: float, runs: int, settings: Baseline) -> tuple[float, ...]:
    accepted = [speed * (1 - world.creep) ** run * _noise(dice, world.noise) for run in range(runs)]
    return level(accepted, FIGURE, settings)


def _noise(dice: random.Random, deviation: float) -> float:
    return math.exp(dice.gauss(0, deviation))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2000, help="simulated hosts a line (default: 2000)")
    hosts = parser.parse_args().hosts
    settings = Baseline()
    print(
        f"{hosts} simulated hosts a line; {settings.tolerance_percent:g} % tolerance, {settings.confidence_percent:g} %"
        f" confidence, at most {settings.benchmarks} benchmarks\n"
    )
    _own_history(hosts, settings)
    _peers(hosts, settings)
    _creep(hosts, settings)


LOSSES = (0.0, 0.02, 0.03, 0.05, 0.07, 0.10, 0.15, 0.20)
HEAD = " ".join(f"{loss:>6.0%}" for loss in LOSSES)


def _own_history(hosts: int, settings: Baseline) -> None:
    print("Against the host's own history: validations that failed, by what was really lost.")
    print("run: share of the noise that belongs to the run; n: benchmarks a validation, nothing lost and 10 % lost")
    print(f"{'noise':>6} {'accepted':>8} {'run':>4} | {HEAD} |   n 0% n 10%")
    for noise in (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.10):
        for accepted, share in ((1, 0.5), (3, 0.5), (5, 0.0), (5, 0.5), (5, 1.0)):
            found = [rates(World(noise, accepted, loss, share), hosts, settings) for loss in LOSSES]
            shares = " ".join(f"{failed:>6.1%}" for failed, _, _ in found)
            counts = f"{found[0][2]:>6.2f} {found[LOSSES.index(0.10)][2]:>5.2f}"
            print(f"{noise:>6.1%} {accepted:>8} {share:>4.1f} | {shares} | {counts}")


def _peers(hosts: int, settings: Baseline) -> None:
    print("\nA host without history against its peers (noise 1 %, 5 accepted each): validations that failed.")
    print(f"{'spread':>6} {'peers':>8}      | {HEAD} |")
    for spread in (0.01, 0.02, 0.03, 0.05):
        for peers in (1, 3, 10):
            # A tenth of the hosts: each one draws its peers, too.
            few = max(hosts // 10, 100)
            found = [rates(World(0.01, 0, loss, peers=peers, spread=spread), few, settings) for loss in LOSSES]
            print(f"{spread:>6.1%} {peers:>8}      | {' '.join(f'{failed:>6.1%}' for failed, _, _ in found)} |")


def _creep(hosts: int, settings: Baseline) -> None:
    print("\nA slow creep: each accepted run 1 % slower than the one before it (noise 1 %); failed at the next run.")
    runs = (5, 8, 10, 12, 15, 20)
    print(f"{'after':>6} runs          | " + " ".join(f"{run:>6}" for run in runs) + " |")
    shares = [rates(World(0.01, run, creep=0.01), hosts, settings)[0] for run in runs]
    print(f"{'':>20} | " + " ".join(f"{share:>6.1%}" for share in shares) + " |")


if __name__ == "__main__":
    main()
