"""Watching a host while it is measured: before, again and again meanwhile, and after. It never fails a benchmark."""

from __future__ import annotations

import threading
from types import TracebackType

from provisioner.errors import ProvisionError
from provisioner.history.verdict import Evidence, GpuEvidence, GpuLoad, GpuReading, ImageSeen, Spread
from provisioner.hosts.transport import Transport
from provisioner.plan.model import Benchmark, Server
from provisioner.validate.remote import COMMAND_TIMEOUT_S, as_root
from provisioner.validate.snapshot import (
    TIMEOUT_S,
    GpuSeen,
    Snapshot,
    gpus_command,
    parse_gpus,
    parse_snapshot,
    snapshot_command,
)

FIRST_S = 1.0
"""from the beginning of the benchmark to the first look at its GPUs"""
LONGEST_S = 10.0
"""between two looks of a long benchmark; they grow from FIRST_S to it, so that short ones are seen and long ones are
left in peace"""


class Watch:
    """Around a benchmark: `with Watch(…) as watch`, and `watch.evidence(…)` after the block."""

    def __init__(self, transport: Transport, server: Server) -> None:
        self._transport = transport
        self._container = server.container
        self._notes: list[str] = []
        self._readings: dict[int, list[GpuReading]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._before: Snapshot | None = None
        self._after: Snapshot | None = None

    def __enter__(self) -> Watch:
        self._container_id = self._find_container()
        self._before = self._snapshot()
        if self._before is not None and self._before.gpus:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()  # at most one look, which has a time limit
        if error is None:
            self._after = self._snapshot()

    def measuring(self) -> None:
        """The client has started up and warmed the server: what was seen before is not the measurement."""
        with self._lock:
            self._readings.clear()

    def evidence(self, server: Server, benchmark: Benchmark, image: ImageSeen | None) -> Evidence:
        """What was seen, with what was run."""
        seen = [one for one in (self._before, self._after) if one is not None]
        names = {gpu.index: gpu for one in seen for gpu in one.gpus}
        processes = {process.pid: process for one in seen for process in one.processes}
        notes = dict.fromkeys(note for one in seen for note in one.notes)
        return Evidence(
            driver=next((gpu.driver for gpu in names.values() if gpu.driver), None),
            image_digest=(image.digest or image.id) if image else None,
            serve_argv=("serve", *server.argv),
            bench_argv=benchmark.argv,
            gpus=tuple(self._gpu(gpu) for gpu in names.values()),
            cpus=next((one.cpus for one in seen if one.cpus), None),
            load_before=self._before.load if self._before else None,
            load_after=self._after.load if self._after else None,
            other_gpu_processes=tuple(processes.values()),
            notes=(*notes, *dict.fromkeys(self._notes)),
        )

    def _gpu(self, gpu: GpuSeen) -> GpuEvidence:
        readings = self._readings.get(gpu.index, [])
        return GpuEvidence(
            index=gpu.index,
            name=gpu.name,
            before=_reading(self._before, gpu.index),
            under_load=load_of(readings) if readings else None,
            after=_reading(self._after, gpu.index),
        )

    def _look(self) -> None:
        pause = FIRST_S
        while not self._ended.wait(pause):
            pause = min(pause * 1.5, LONGEST_S)
            text = self._run(gpus_command(), "the GPUs under load")
            if text is None:
                return
            gpus, words = parse_gpus(text)
            self._notes += words
            with self._lock:
                for gpu in gpus:
                    self._readings.setdefault(gpu.index, []).append(gpu.reading)

    def _snapshot(self) -> Snapshot | None:
        text = self._run(snapshot_command(), "the host's load")
        return None if text is None else parse_snapshot(text, self._container_id)

    def _find_container(self) -> str | None:
        argv = ["docker", "container", "inspect", "--format", "{{.Id}}", self._container]
        text = self._run(as_root(argv), "the server's container", COMMAND_TIMEOUT_S)
        return text.strip() or None if text else None

    def _run(self, command: str, what: str, timeout_s: float = TIMEOUT_S) -> str | None:
        """What the command printed; None, with a note, when it could not be run: evidence is never a reason to fail."""
        try:
            result = self._transport.run(command, timeout_s=timeout_s)
        except ProvisionError as error:
            self._notes.append(f"{what} could not be looked at: {error.message}")
            return None
        if result.rc != 0:
            self._notes.append(f"{what} could not be looked at: {result.stderr.strip() or f'exit {result.rc}'}")
            return None
        return result.stdout


def load_of(readings: list[GpuReading]) -> GpuLoad:
    """Each figure over all readings that have it."""
    spreads = {}
    for field in GpuReading.model_fields:
        values = [value for one in readings if (value := getattr(one, field)) is not None]
        if values:
            spreads[field] = Spread(lowest=min(values), mean=sum(values) / len(values), highest=max(values))
    return GpuLoad(readings=len(readings), **spreads)


def _reading(snapshot: Snapshot | None, index: int) -> GpuReading | None:
    return next((gpu.reading for gpu in snapshot.gpus if gpu.index == index), None) if snapshot else None
