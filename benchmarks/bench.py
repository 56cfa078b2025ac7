"""Every goal of speed, measured side by side in one run: `make bench`.

    python benchmarks/bench.py [--rows start --rows probe …] [--repeat 3] [--hosts 10] [-o benchmarks/results]

Rows `start`, `probe` and `plan` need no lab. `first`, `converged`, `flag` and `curve` run on lab hosts, which are
brought up for it and taken down after it. Written are results.json, table.md and time-by-hosts.svg.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import local_rows
import output
from frame import ROOT, Noise, Row, middle

LOCAL = ("start", "probe", "plan")
LAB = ("first", "converged", "flag", "curve")


def main(argv: Sequence[str]) -> int:
    """Prints the table; exits 1 when a goal is missed."""
    options = _parser().parse_args(argv)
    wanted = options.rows or [*LOCAL, *LAB]
    others = Path(options.others).absolute() if options.others else None
    noise, rows = Noise(), []
    curves: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    noise.take()
    if "start" in wanted:
        found, loads = local_rows.start(options.repeat, others)
        rows += found
        more["loads_s"] = loads
        noise.take()
    if "probe" in wanted:
        rows += local_rows.probe(options.repeat)
        noise.take()
    if "plan" in wanted:
        found, plans = local_rows.plan(options.repeat)
        rows += found
        curves += [_point("plan, simulated hosts", size, middle(samples)) for size, samples in plans.items()]
        noise.take()
    if set(wanted) & set(LAB):
        import lab_rows

        found, points = lab_rows.measured([name for name in LAB if name in wanted], options, others, noise)
        rows += found
        curves += [_point(*point) for point in points]
    text = output.write(Path(options.output), rows, curves, {**more, **output.noise_of(noise)})
    print(text)
    print(f"in {output.shown(Path(options.output).absolute())}")
    return 0 if all(row.met for row in rows) else 1


def _point(what: str, hosts: int, seconds: float) -> dict[str, Any]:
    return {"what": what, "hosts": hosts, "seconds": round(seconds, 3)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", action="append", choices=[*LOCAL, *LAB], help="only these (repeat)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each command (default: 3)")
    parser.add_argument("--hosts", type=int, default=10, help="lab hosts of a converged fleet (default: 10)")
    parser.add_argument("--first", type=int, default=4, help="lab hosts of a first installation (default: 4)")
    parser.add_argument("--others", help="where pyinfra's program is; without it, no row is compared with pyinfra")
    parser.add_argument("-o", "--output", default=str(ROOT / "benchmarks" / "results"))
    return parser


__all__ = ["Row", "main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
