"""What all rows of `make bench` share: processes measured from outside, medians, ratios in turn, the noise."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
KIB_IN_MIB = 1024
"""ru_maxrss counts KiB (getrusage(2), Linux)"""
SPIN = "sum(number * number for number in range(1_000_000))"
"""the same work every time: how long it takes tells how busy the machine is"""


@dataclass(frozen=True)
class Sample:
    """One process that has ended, with the children that it waited for."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    code: int
    busy: float = 0.0
    """share of all this machine's processors that anything used meanwhile"""


@dataclass(frozen=True)
class Row:
    """One goal. Met when `value` is at most `goal`."""

    work: str
    figure: str
    """what is compared with the goal"""
    goal: float
    value: float
    unit: str
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    stand_ins: str = ""
    """what stood for something else"""
    limit: str = ""
    """what the time goes to, from this run's own figures"""

    @property
    def met(self) -> bool:
        return self.value <= self.goal

    def as_data(self) -> dict[str, Any]:
        """For the results file."""
        return {**asdict(self), "met": self.met}


def provision(*words: str | Path) -> list[str]:
    """The command line of this checkout's program."""
    return [str(BIN / "provision"), *map(str, words)]


def measure(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, codes: Sequence[int] = (0,), log: Path | None = None
) -> Sample:
    """Runs a command to its end. SystemExit, with its last words, when it ends otherwise than expected."""
    with tempfile.TemporaryFile() as said:
        began, before = time.perf_counter(), _ticks()
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ, **(env or {})}, cwd=ROOT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds, busy = time.perf_counter() - began, _busy(before)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        words = said.read().decode(errors="replace")
    if log is not None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"$ {' '.join(argv)}\n{words}\n")
    if process.returncode not in codes:
        raise SystemExit(f"{' '.join(argv)}\nended with {process.returncode}:\n{words[-4000:]}")
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / KIB_IN_MIB, process.returncode, busy)


def in_turn(repeat: int, works: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
    """Every work once, then every work again, `repeat` times: what slows the machine down meets all of them."""
    found: dict[str, list[Sample]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            found[name].append(work())
    return found


def middle(samples: Sequence[Sample]) -> float:
    """The median of their seconds."""
    return median(one.seconds for one in samples)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """The median of the ratios turn by turn."""
    return median(one.seconds / other.seconds for one, other in zip(ours, theirs, strict=True))


def together(argvs: Sequence[Sequence[str]], workers: int) -> Sample:
    """All of these commands, so many at a time; one sample of the whole."""
    before, began, ticks = os.times(), time.perf_counter(), _ticks()

    def run(argv: Sequence[str]) -> None:
        done = subprocess.run(list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)}\nended with {done.returncode}: {done.stderr}")

    with ThreadPoolExecutor(max_workers=workers) as pool:
        list(pool.map(run, argvs))
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    return Sample(time.perf_counter() - began, cpu, 0, 0, _busy(ticks))


def _ticks() -> tuple[int, int]:
    """Ticks of all processors together since the machine began, and those among them that were idle (proc(5))."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def _busy(before: tuple[int, int]) -> float:
    after = _ticks()
    return 1 - (after[1] - before[1]) / max(after[0] - before[0], 1)


class Noise:
    """How long the same small work takes while the benchmark runs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def take(self) -> None:
        """One more look, in this process."""
        began = time.perf_counter()
        eval(SPIN)  # noqa: S307  # a constant of this file: the work is its text, which the results name
        self.seconds.append(time.perf_counter() - began)

    def as_data(self) -> dict[str, Any]:
        """Least, median and most, and the load that the machine had besides."""
        ordered = sorted(self.seconds)
        return {
            "work": SPIN,
            "least_s": ordered[0],
            "median_s": median(ordered),
            "most_s": ordered[-1],
            "looks": len(ordered),
            "load": os.getloadavg(),
        }


@dataclass
class Results:
    """All that one run of the benchmark finds."""

    rows: list[Row] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    """of the plot: what, hosts, seconds"""
    costs: dict[str, list[Sample]] = field(default_factory=dict)
    """measured beside the rows, without a goal"""
    loads_s: dict[str, float] = field(default_factory=dict)
    """what each command loads before it begins"""
    noise: Noise = field(default_factory=Noise)

    def add(self, *rows: Row) -> None:
        """Rows, and another look at how busy the machine is."""
        self.rows += rows
        self.noise.take()

    def point(self, what: str, hosts: int, seconds: float) -> None:
        """One point of the plot."""
        self.points.append({"what": what, "hosts": hosts, "seconds": round(seconds, 3)})


@contextmanager
def fresh_state(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of runs whose history is their own."""
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    yield {"XDG_STATE_HOME": str(state), "PYTHONPATH": str(ROOT)}
