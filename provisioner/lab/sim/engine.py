"""The pretended engine: slots like --max-num-seqs, tokens on a timetable, counters like vLLM's metrics."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .hardware import Hardware

_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Engine:
    """Thread-safe; one per server."""

    def __init__(self, model: str, hardware: Hardware, *, slots: int, context: int, tensor_parallel: int) -> None:
        self.model = model
        self.context = context
        self._hardware = hardware
        self._tensor_parallel = tensor_parallel
        self._free = threading.Semaphore(slots)
        self._slots = slots
        self._lock = threading.Lock()
        self._running = self._waiting = 0
        self._totals: Counter[str] = Counter()
        self._times: dict[str, list[float]] = {
            "time_to_first_token_seconds": [],
            "request_time_per_output_token_seconds": [],
            "e2e_request_latency_seconds": [],
        }

    @contextmanager
    def slot(self) -> Iterator[float]:
        """Wait for a place in the batch; gives the moment of asking (monotonic seconds)."""
        asked = time.monotonic()
        with self._lock:
            self._waiting += 1
        self._free.acquire()
        with self._lock:
            self._waiting -= 1
            self._running += 1
        try:
            yield asked
        finally:
            with self._lock:
                self._running -= 1
            self._free.release()

    def tokens(self, asked: float, prompt_tokens: int, count: int) -> Iterator[int]:
        """Yield 0 … count-1, each at its pretended moment; late moments are caught up, never added."""
        due = time.monotonic() + self._hardware.prefill_s * prompt_tokens / 1000
        first = 0.0
        for index in range(count):
            due += self._hardware.token_seconds(self._tensor_parallel, self._running)
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            if index == 0:
                first = time.monotonic()
            yield index
        self._finished(asked, first or time.monotonic(), prompt_tokens, count)

    def metrics(self) -> str:
        """The text of /metrics, with the names that vLLM uses for the same things."""
        label = f'{{engine="0",model_name="{self.model}"}}'
        with self._lock:
            lines = []
            for name, value in (
                ("num_requests_running", float(self._running)),
                ("num_requests_waiting", float(self._waiting)),
                ("kv_cache_usage_perc", min(self._running / self._slots, 1.0)),
            ):
                lines += [f"# TYPE vllm:{name} gauge", f"vllm:{name}{label} {value}"]
            for name in ("num_preemptions", "prompt_tokens", "generation_tokens", "prefix_cache_queries"):
                total = f"vllm:{name}_total"
                lines += [f"# TYPE vllm:{name} counter", f"{total}{label} {float(self._totals[name])}"]
            lines.append("# TYPE vllm:request_success counter")
            for reason in ("stop", "length", "abort"):
                value = float(self._totals[f"success:{reason}"])
                lines.append(f'vllm:request_success_total{label[:-1]},finished_reason="{reason}"}} {value}')
            for name, seen in self._times.items():
                lines += _histogram(f"vllm:{name}", label, seen)
        return "\n".join(lines) + "\n"

    def count_success(self, reason: str) -> None:
        """A request ended with this finish reason."""
        with self._lock:
            self._totals[f"success:{'length' if reason == 'length' else 'stop'}"] += 1

    def _finished(self, asked: float, first: float, prompt_tokens: int, count: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._totals["prompt_tokens"] += prompt_tokens
            self._totals["prefix_cache_queries"] += prompt_tokens
            self._totals["generation_tokens"] += count
            self._times["time_to_first_token_seconds"].append(first - asked)
            self._times["e2e_request_latency_seconds"].append(now - asked)
            if count > 1:
                self._times["request_time_per_output_token_seconds"].append((now - first) / (count - 1))


def _histogram(name: str, label: str, seen: list[float]) -> list[str]:
    lines = [f"# TYPE {name} histogram"]
    for edge in (*_BUCKETS, float("inf")):
        text = "+Inf" if edge == float("inf") else str(edge)
        lines.append(f'{name}_bucket{label[:-1]},le="{text}"}} {float(sum(value <= edge for value in seen))}')
    return [*lines, f"{name}_count{label} {float(len(seen))}", f"{name}_sum{label} {sum(seen)}"]
