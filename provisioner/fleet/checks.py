"""What single keys cannot tell: hosts, servers and recipes against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from provisioner.errors import ProvisionError, UsageError
from provisioner.fleet.keypath import Key, quoted
from provisioner.fleet.layers import Layer, Resolved
from provisioner.fleet.models import Benchmark, Distribution, Host, Server
from provisioner.fleet.placement import Alike
from provisioner.fleet.positions import Document
from provisioner.fleet.recipes import Recipe, find_recipe
from provisioner.fleet.rollout import GROUP, Rollout
from provisioner.fleet.slo import GOODPUT, parse_objective
from provisioner.fleet.suggest import did_you_mean
from provisioner.fleet.taxonomy import builtin

_SELECTORS = ("linux/amd64", "linux/arm64", "default")
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_OWN_KEYS = {
    "--host": "host",
    "--port": "port",
    "--api-key": "api_key",
    "--served-model-name": "served_model_name",
    "--tensor-parallel-size": "tensor_parallel_size",
}
"""flags that a key of the server stands for: given twice, checks would look at the wrong place"""
_BENCHMARK_KEYS = {"--ready-check-timeout-sec": "ready_check_timeout_s"} | {
    f"--{name.replace('_', '-')}": name
    for name in Benchmark.model_fields
    if name not in {"extra_args", "timeout_s", "time_budget_s", "ready_check_timeout_s"}
}
"""flags of the benchmark that a key stands for: given twice, what was measured would not be what is judged"""
_OUR_BENCHMARK_FLAGS = frozenset(
    {"--host", "--port", "--base-url", "--model", "--served-model-name", "--save-result", "--result-dir"}
    | {"--result-filename", "--append-result", "--trust-remote-code"}
)
_OUR_TARGETS = frozenset({"/root/.cache/huggingface"})
"""mount points of every server's container"""
_MODES = {"registry": "mirror", "hub": "mirror", "port": "peers", "limit_mib_s": "peers"}
"""keys of `distribution` and the mode that they belong to"""
_SECRET_ENV = {"HF_TOKEN": "hub.token", "HUGGING_FACE_HUB_TOKEN": "hub.token", "VLLM_API_KEY": "api_key"}


def check_text(document: Document) -> None:
    """No control characters anywhere: they could end a line of a unit or a name in what is made of them."""
    for path, text in _texts(document.data, ()):
        found = next((c for c in text if ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000), None)
        if found is not None:
            document.add(path, f"control character U+{ord(found):04X} is not allowed here")


def check_hosts(document: Document, hosts: Sequence[tuple[Host, Key]]) -> None:
    """Two names for one machine, and hardware that does not exist."""
    seen: dict[tuple[str, int], Host] = {}
    profiles = builtin().profiles
    for host, path in hosts:
        where = ((host.address or host.name).casefold(), host.port or 22)
        first = seen.setdefault(where, host)
        if first is not host:
            document.add(path, f"same address and port as host {quoted(first.name)}: {where[0]}, port {where[1]}")
        if host.hardware is not None and host.hardware not in profiles:
            reason = f"unknown hardware {quoted(host.hardware)}"
            document.add((*path, "hardware"), reason, did_you_mean(host.hardware, profiles))


def check_rollout(document: Document, rollout: Rollout, hosts: Sequence[Host]) -> None:
    """Canaries that are hosts, and hosts that have the label they are batched by."""
    names = [host.name for host in hosts]
    if isinstance(rollout.canary, tuple):
        for index, name in enumerate(rollout.canary):
            if name not in names:
                document.add(("rollout", "canary", index), f"unknown host {quoted(name)}", did_you_mean(name, names))
    label, path = rollout.batch_by, ("rollout", "batch_by")
    without = [host.name for host in hosts if label and host.batch(label) is None]
    if without:
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        hint = (
            "every host needs a group" if label == GROUP else f"give them one: hosts.{without[0]}.labels, or a group's"
        )
        document.add(path, f"hosts without {label}: {', '.join(without[:3])}{more}", hint)


def check_distribution(document: Document, written: Any, found: Any) -> None:
    """Keys that go with one mode alone."""
    if not isinstance(found, Distribution):
        return
    given = written if isinstance(written, Mapping) else {}
    for key, mode in _MODES.items():
        if given.get(key) is not None and found.mode != mode:
            document.add(("distribution", key), f"goes with mode: {mode} alone, and the mode is {found.mode}")
    if found.mode == "mirror" and not (found.registry or found.hub):
        document.add(("distribution",), "names no mirror", "say registry or hub, the addresses of your caches")


def check_servers(document: Document, alike: Sequence[Alike], recipes: Sequence[Path]) -> None:
    """Each place that says something about a server, each server as it is somewhere, and all servers of a host.

    Keys that are known to be wrong are not judged: their values here are defaults, which nobody wrote.
    """
    servers = {id(one): one for kind in alike for one in kind.servers}
    for layer in {id(layer): layer for one in servers.values() for layer in one.layers}.values():
        _check_layer(document, layer)
    find = _Finder(recipes)
    for one in servers.values():
        if not one.wrong & {"gpus", "tensor_parallel_size"}:
            _check_parallel(document, one)
        if "recipe" not in one.wrong:
            _check_recipe(document, one, find)
        if not one.wrong & {"benchmark", "slo"}:
            _check_benchmark(document, one)
    _check_together(document, alike)


def _check_layer(document: Document, layer: Layer) -> None:
    path, values = layer.path, layer.values
    gpus = values.get("gpus")
    if isinstance(gpus, tuple) and len(set(gpus)) < len(gpus):
        document.add((*path, "gpus"), "a GPU is there twice")
    known = (*_SELECTORS, *builtin().profiles)
    for name in ("image", "slo"):
        for key in values.get(name) or ():
            if key not in known:
                reason = "expected linux/amd64, linux/arm64, a hardware id or default"
                document.add((*path, name, key), reason, did_you_mean(key, known))
    for index, word in enumerate(values.get("extra_args") or ()):
        flag = word.partition("=")[0]
        if flag in _OWN_KEYS:
            document.add((*path, "extra_args", index), f"{flag} has a key of its own", f"use {_OWN_KEYS[flag]}")
    benchmark = values.get("benchmark")
    for index, word in enumerate(benchmark.extra_args if benchmark is not None else ()):
        flag = word.partition("=")[0]
        if flag in _BENCHMARK_KEYS:
            hint = f"use benchmark.{_BENCHMARK_KEYS[flag]}"
            document.add((*path, "benchmark", "extra_args", index), f"{flag} has a key of its own", hint)
        elif flag in _OUR_BENCHMARK_FLAGS:
            document.add((*path, "benchmark", "extra_args", index), f"{flag} follows from the server")
    for name in values.get("env") or ():
        if name in _SECRET_ENV:
            hint = f"use {_SECRET_ENV[name]} with a reference such as env:{name}"
            document.add((*path, "env", name), "a secret must not stand in a server's environment", hint)
    targets: set[str] = set()
    for index, mount in enumerate(values.get("mounts") or ()):
        target = mount.split(":")[1]
        if target in targets or target in _OUR_TARGETS:
            whose = "is mounted twice" if target in targets else "is where the weights are mounted"
            document.add((*path, "mounts", index), f"{target} {whose}")
        targets.add(target)


def _check_parallel(document: Document, one: Resolved) -> None:
    server = one.server
    if server.gpus == "all" or server.tensor_parallel_size is None:
        return
    count = server.gpus if isinstance(server.gpus, int) else len(server.gpus)
    if server.tensor_parallel_size > count:
        path, size = _stronger(one, "tensor_parallel_size", "gpus"), server.tensor_parallel_size
        if path[-1] == "gpus":
            document.add(path, f"gives the server {count}, and tensor_parallel_size needs {size}")
        else:
            document.add(path, f"needs {size} GPUs, and gpus gives the server {count}")


def _check_benchmark(document: Document, one: Resolved) -> None:
    benchmark = one.server.benchmark
    budget = benchmark.time_budget_s
    if budget is not None and budget > benchmark.timeout_s:
        reason = f"is more than timeout_s, after which the benchmark is ended: {budget} and {benchmark.timeout_s}"
        document.add(one.at("benchmark", "time_budget_s"), reason)
    if benchmark.goodput.model_dump(exclude_none=True):
        return
    for key, texts in one.server.slo.items():
        for index, text in enumerate(texts):
            if parse_objective(text).metric == GOODPUT:
                hint = "say it in benchmark.goodput, for example {ttft: 2000, tpot: 50}"
                document.add(one.at("slo", key, index), "nothing says which requests are good", hint)


class _Finder:
    """Recipes by name, each looked for once."""

    def __init__(self, search: Sequence[Path]) -> None:
        self._search = search
        self._found: dict[str, Recipe | ProvisionError] = {}

    def __call__(self, name: str) -> Recipe | ProvisionError:
        if name not in self._found:
            try:
                self._found[name] = find_recipe(name, self._search)
            except ProvisionError as error:
                self._found[name] = error
        return self._found[name]


def _check_recipe(document: Document, one: Resolved, find: _Finder) -> None:
    server, found = one.server, find(one.server.recipe)
    if isinstance(found, UsageError):
        document.add(one.at("recipe"), found.message, found.hint)
    elif isinstance(found, ProvisionError):
        document.add(one.at("recipe"), f"recipe {quoted(server.recipe)} is wrong: {found}")
    else:
        _check_named(document, found, server.variant, found.variants, _stronger(one, "variant", "recipe"), "variant")
        for index, name in enumerate(server.features):
            stronger = one.strength("recipe") > one.strength("features")
            path = one.at("recipe") if stronger else one.at("features", index)
            _check_named(document, found, name, found.features, path, "feature")


def _check_named(
    document: Document, recipe: Recipe, name: str | None, known: Mapping[str, Any], path: Key, what: str
) -> None:
    if name is not None and name not in known:
        reason = f"recipe {recipe.meta.slug} has no {what} {quoted(name)}"
        document.add(path, reason, did_you_mean(name, known))


_Clash = tuple[Key, str, str, str]
"""place, reason before the hosts, reason after them, hint"""


def _check_together(document: Document, alike: Sequence[Alike]) -> None:
    clashes: dict[_Clash, list[str]] = {}
    for kind in alike:
        for first, second in combinations(kind.servers, 2):
            for clash in (*_ports(first, second), *_gpus_apart(first, second)):
                clashes.setdefault(clash, []).extend(kind.hosts)
    for (path, before, after, hint), hosts in clashes.items():
        where = f"on {hosts[0]}" + (f" and {len(hosts) - 1} more" if len(hosts) > 1 else "")
        document.add(path, f"{before} {where}{after}", hint)


def _ports(first: Resolved, second: Resolved) -> Iterator[_Clash]:
    one, other = first.server, second.server
    same_address = one.host == other.host or {one.host, other.host} & set(_ANY_ADDRESS)
    if (first.wrong | second.wrong) & {"port", "host"} or one.port != other.port or not same_address:
        return
    said, whose = _later(first, second, "port")
    reason = f"port {other.port} is taken by server {quoted(whose.server.name)}"
    yield said.at("port"), reason, "", "give each server of a host a port of its own"


def _gpus_apart(first: Resolved, second: Resolved) -> Iterator[_Clash]:
    if "gpus" in first.wrong | second.wrong:
        return
    one, other = _indexes(first.server), _indexes(second.server)
    said, whose = _later(first, second, "gpus")
    if one is None or other is None:
        greedy = (first if one is None else second).server.name
        after = f": server {quoted(greedy)} takes all of them"
        yield said.at("gpus"), "GPUs are taken twice", after, "say which each server gets: gpus: [0]"
    elif one & other:
        names = ", ".join(map(str, sorted(one & other)))
        reason = f"GPU {names} is taken by server {quoted(whose.server.name)}"
        yield said.at("gpus"), reason, "", "give each server of a host GPUs of its own"


def _later(first: Resolved, second: Resolved, key: str) -> tuple[Resolved, Resolved]:
    """The one of two servers whose `key` is to be changed, and the other: the one that is said for fewer hosts."""
    return (first, second) if _is_override(first, key) and not _is_override(second, key) else (second, first)


def _is_override(one: Resolved, key: str) -> bool:
    return one.at(key)[0] in ("groups", "hosts")


def _stronger(one: Resolved, first: str, second: str) -> Key:
    """The place of that one of two keys that do not go together which a stronger place says; the first of equals."""
    return one.at(second) if one.strength(second) > one.strength(first) else one.at(first)


def _indexes(server: Server) -> frozenset[int] | None:
    """None: all of them."""
    if server.gpus == "all":
        return None
    return frozenset(range(server.gpus) if isinstance(server.gpus, int) else server.gpus)


def _texts(value: Any, path: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield (*path, key), key
            yield from _texts(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _texts(entry, (*path, index))
