"""What a tuning tries: settings of one server, and how many requests are in flight. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from provisioner.errors import UsageError
from provisioner.fleet.base import Frozen
from provisioner.fleet.models import Fleet, Server
from provisioner.fleet.suggest import near
from provisioner.plan import flags, model
from provisioner.plan.diff import server_fingerprint
from provisioner.plan.flag_tables import known_in, names
from provisioner.plan.workload import workload

Value = int | float | str | bool
SETTINGS = (
    "tensor_parallel_size",
    "max_num_seqs",
    "max_model_len",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "mamba_ssm_cache_dtype",
    "async_scheduling",
)
"""keys of a server that change how fast it is; other flags of `vllm serve` are tried through `extra_args`"""
MOST = 200
"""points of one tuning"""
SHARE = 0.5
"""of the time budget, for benchmarks; the rest is for restarts"""
LEAST_S = 10
"""of one benchmark"""
PATIENCE = 6
"""a benchmark that takes so many times its share is ended: one round may be longer than the share"""
_LARGE, _LARGE_STEP, _STEPS = 64, 4, 4
_OURS = ("host", "port", "model", "served-model-name", "api-key", "revision", "tokenizer-revision")
"""flags that say what is served and where, not how fast"""
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_PARALLEL = ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size")


class Axis(Frozen):
    """One parameter and the values to try. `key` is one of `SETTINGS`, or a flag of `vllm serve` with its dashes."""

    key: str
    values: tuple[Value, ...]


class Candidate(Frozen):
    """What one point of a tuning changes; nothing: the server as it is."""

    settings: tuple[tuple[str, Value], ...] = ()
    concurrency: int | None = None
    """requests in flight at most; None: as the benchmark's rule has it, which follows max_num_seqs"""

    @property
    def label(self) -> str:
        """For people: `max_num_seqs 8, concurrency 4`."""
        words = [f"{key.removeprefix('--')} {value}" for key, value in self.settings]
        if self.concurrency is not None:
            words.append(f"concurrency {self.concurrency}")
        return ", ".join(words) or "as it is"


def parse_axis(text: str) -> Axis:
    """`max-num-seqs=8,16,32`, with dashes or underscores. UsageError says what is wrong with it."""
    name, equals, rest = text.partition("=")
    word = name.strip().removeprefix("--").replace("_", "-")
    words = [part.strip() for part in rest.split(",")]
    if not equals or not _NAME.fullmatch(word) or not all(words):
        raise UsageError(f"--sweep {text}: expected NAME=VALUE,VALUE…", hint="for example --sweep max-num-seqs=8,16,32")
    if word in ("concurrency", "max-concurrency"):
        raise UsageError(f"--sweep {text}: requests in flight are no setting of the server", hint="use --concurrency")
    key = word.replace("-", "_")
    values = tuple(dict.fromkeys(_value(key, part, text) for part in words))
    if key in SETTINGS:
        return Axis(key=key, values=values)
    if word in _OURS or key in Server.model_fields:
        raise UsageError(f"--sweep {text}: {word} does not change how fast a server is")
    flag = f"--{word}"
    if not known_in("serve", flag):
        known = [one.removeprefix("--") for one in (*names("serve", None), *SETTINGS)]
        nearest = near(word, known)
        raise UsageError(
            f"--sweep {text}: vllm serve has no {flag}", hint=f'did you mean "{nearest}"?' if nearest else None
        )
    return Axis(key=flag, values=values)


def default_axes(max_num_seqs: int, gpu_count: int) -> tuple[Axis, ...]:
    """The two that the guide calls the main ones: max_num_seqs around what the host's hardware takes by default, and
    with several GPUs the tensor parallel sizes that divide them in powers of two."""
    sizes = [1 << power for power in range(gpu_count.bit_length()) if 1 << power <= gpu_count]
    axes = [Axis(key="tensor_parallel_size", values=tuple(sizes))] if len(sizes) > 1 else []
    return (*axes, Axis(key="max_num_seqs", values=_batches(max_num_seqs)))


def candidates(axes: Sequence[Axis], concurrency: Sequence[int]) -> tuple[Candidate, ...]:
    """The server as it is, then every combination. Points of one server stand together: a restart costs more than a
    benchmark. UsageError for more than MOST."""
    counts: list[int | None] = [*concurrency] or [None]
    size = (1 + _product(len(axis.values) for axis in axes)) * len(counts)
    if size > MOST:
        raise UsageError(f"{size} points to measure, at most {MOST}", hint="sweep fewer values")
    combined = [(), *(tuple(zip((axis.key for axis in axes), one, strict=True)) for one in spread(axes))]
    unique = dict.fromkeys(combined)
    return tuple(Candidate(settings=settings, concurrency=count) for settings in unique for count in counts)


def spread(axes: Sequence[Axis]) -> list[tuple[Value, ...]]:
    """Every combination of values, each next one as far as can be from all before it: wherever time runs out, what
    was tried covers the whole."""
    if not axes:
        return []
    left = list(product(*(range(len(axis.values)) for axis in axes)))
    chosen = [left.pop(0)]
    nearest = [_distance(one, chosen[0], axes) for one in left]
    while left:
        position = max(range(len(left)), key=lambda index: nearest[index])
        chosen.append(left.pop(position))
        nearest.pop(position)
        nearest = [min(old, _distance(one, chosen[-1], axes)) for one, old in zip(left, nearest, strict=True)]
    return [tuple(axis.values[index] for axis, index in zip(axes, one, strict=True)) for one in chosen]


def share_s(budget_s: int, points: int) -> int:
    """Seconds that one benchmark gets of the whole budget."""
    return max(LEAST_S, int(budget_s * SHARE / max(points, 1)))


def tuned(server: Server, candidate: Candidate, seconds: int) -> Server:
    """The server with a point's settings, and a benchmark of about `seconds`."""
    update: dict[str, Any] = {}
    extra = server.extra_args
    for key, value in candidate.settings:
        if key.startswith("--"):
            extra = _with_flag(extra, key, value)
        else:
            update[key] = value
            extra = flags.drop_flag(extra, "--" + key.replace("_", "-"))  # they come last and would win
    linked = any(key == "max_num_seqs" for key, _ in candidate.settings)
    bench = server.benchmark
    concurrency = candidate.concurrency or (None if linked else bench.max_concurrency)
    limit = min(bench.timeout_s, max(PATIENCE * seconds, PATIENCE * LEAST_S))
    # Points of one server follow each other: the same prompts would be in its prefix cache.
    seed = bench.seed if bench.seed is not None or candidate.concurrency is None else 1000 * candidate.concurrency
    sized: dict[str, Any] = {
        "seed": seed,
        "num_prompts": None,
        "time_budget_s": seconds,
        "max_concurrency": concurrency,
        "timeout_s": limit,
    }
    return server.model_copy(update={**update, "extra_args": extra, "benchmark": bench.model_copy(update=sized)})


def tuned_fleet(fleet: Fleet, host: str, server: str, candidate: Candidate, seconds: int) -> Fleet:
    """The fleet with that server tuned on that host."""
    servers = tuple(tuned(one, candidate, seconds) if one.name == server else one for one in fleet.servers_on(host))
    placed = {one.name: fleet.servers_on(one.name) for one in fleet.hosts} | {host: servers}
    return fleet.model_copy(update={"placed": placed})


def gpus_used(server: model.Server) -> int:
    """How many of its GPUs a server spreads over."""
    sizes = (flags.value_of(server.argv, flag) for flag in _PARALLEL)
    return min(_product(int(size) for size in sizes if size and size.isdecimal()), server.gpu_count)


def point_key(plan: model.HostPlan, server: model.Server, driver: str | None, image_id: str | None) -> str:
    """Sixteen hex digits: what was measured is not measured again while the server's plan, the load, the driver and
    the image are the same. How long it may take makes no other point."""
    load = workload(server.model_copy(update={"benchmark": server.benchmark.model_copy(update={"calibration": None})}))
    alone = server.model_copy(update={"slo": ()})
    parts = [server_fingerprint(plan, alone), load, driver, image_id]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def seconds_of(text: str) -> int:
    """`90s`, `30m`, `2h`; a number alone is seconds. UsageError otherwise."""
    found = re.fullmatch(r"(\d+)\s*([smh]?)", text.strip())
    if found is None or int(found[1]) == 0:
        raise UsageError(f"--budget {text}: expected a time such as 90s, 30m or 2h")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _batches(usual: int) -> tuple[int, ...]:
    """Large ones downwards, since more would not fit; small ones (a DGX Spark's 8) around the usual."""
    if usual >= _LARGE:
        return tuple(dict.fromkeys(max(1, usual // _LARGE_STEP**step) for step in range(_STEPS)))
    return tuple(dict.fromkeys(max(1, value) for value in (4 * usual, 2 * usual, usual, usual // 2)))


def _value(key: str, word: str, text: str) -> Value:
    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError:
        value = word
    if not isinstance(value, int | float | str | bool):
        raise UsageError(f"--sweep {text}: {word!r} is no single value")
    if key not in SETTINGS:
        return word if isinstance(value, float) else value
    field = Server.model_fields[key]
    try:
        kind: Any = Annotated[field.annotation, field]
        checked: Value = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        said = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise UsageError(f"--sweep {text}: {word!r}: {said[0].lower()}{said[1:]}") from None
    return checked


def _with_flag(argv: Sequence[str], flag: str, value: Value) -> tuple[str, ...]:
    if value is True:
        return flags.set_flag(argv, flag)
    if value is False:
        return (*flags.drop_flag(argv, flag), "--no-" + flag.removeprefix("--"))
    return flags.set_flag(argv, flag, str(value))


def _distance(one: Sequence[int], other: Sequence[int], axes: Sequence[Axis]) -> float:
    return sum(abs(a - b) / max(len(axis.values) - 1, 1) for a, b, axis in zip(one, other, axes, strict=True))


def _product(sizes: Iterator[int]) -> int:
    whole = 1
    for size in sizes:
        whole *= size
    return whole
