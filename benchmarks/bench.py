"""Every goal of speed, measured side by side in one run: `make bench`.

    python benchmarks/bench.py [--rows start --rows probe …] [--repeat 3] [--hosts 10] [-o benchmarks/results]

Rows `start`, `probe` and `plan` need no lab. `first`, `converged`, `flag`, `curve` and `distribution` run on lab hosts,
which are brought up for it and taken down after it. Written are results.json, table.md and time-by-hosts.svg.
"""

from __future__ import annotations

import argparse
import compileall
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import local_rows
import output
from frame import ROOT, Results

LOCAL = ("start", "probe", "plan")
LAB = ("first", "converged", "flag", "curve")
DISTRIBUTION = "distribution"


def main(argv: Sequence[str]) -> int:
    """Prints the table; exits 1 when a goal is missed. What was measured before an interruption is written too."""
    options = _parser().parse_args(argv)
    # As pip does with what it installs: where Python is told to keep nothing, each start would compile this checkout.
    compileall.compile_dir(ROOT / "provisioner", quiet=1)
    signal.signal(signal.SIGTERM, _end)  # the lab is to be taken down, whoever ends this
    results = Results()
    results.noise.take()
    try:
        _measure(options, options.rows or [*LOCAL, *LAB, DISTRIBUTION], results)
    finally:
        text = output.write(Path(options.output), results)
        print(f"{text}\nin {output.shown(Path(options.output).absolute())}")
    return 0 if all(row.met for row in results.rows) else 1


def _measure(options: argparse.Namespace, wanted: Sequence[str], results: Results) -> None:
    others = Path(options.others).absolute() if options.others else None
    if "start" in wanted:
        local_rows.start(results, options.repeat, others)
    if "probe" in wanted:
        local_rows.probe(results, options.repeat)
    if "plan" in wanted:
        local_rows.plan(results, options.repeat)
        local_rows.survey(results, options.repeat)
    if set(wanted) & set(LAB):
        import lab_rows

        lab_rows.measured(results, [name for name in LAB if name in wanted], options, others)
    if DISTRIBUTION in wanted:
        import distribution_row

        distribution_row.measured(results, options.sharers, options.mib, options.uplink_mib_s)


def _end(*_signal: object) -> None:
    raise SystemExit("ended from outside")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", action="append", choices=[*LOCAL, *LAB, DISTRIBUTION], help="only these (repeat)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each command (default: 3)")
    parser.add_argument("--hosts", type=int, default=10, help="lab hosts of a converged fleet (default: 10)")
    parser.add_argument("--first", type=int, default=4, help="lab hosts of a first installation (default: 4)")
    parser.add_argument("--curve", type=int, default=16, help="lab hosts of the row curve (default: 16)")
    parser.add_argument("--sharers", type=int, default=8, help="lab hosts of the row distribution (default: 8)")
    parser.add_argument("--mib", type=int, default=1024, help="MiB of its image, and of its weights (default: 1024)")
    parser.add_argument(
        "--uplink-mib-s", type=float, default=64, help="MiB a second of its hosts' uplink, all together (default: 64)"
    )
    parser.add_argument("--others", help="where pyinfra's program is; without it, no row is compared with pyinfra")
    parser.add_argument("-o", "--output", default=str(ROOT / "benchmarks" / "results"))
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
