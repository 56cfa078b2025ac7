"""Facts + fleet → host plan. Pure: the same input gives the same plan, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

from provisioner.errors import HostError
from provisioner.fleet.base import Platform
from provisioner.fleet.models import Fleet, Host, Server
from provisioner.fleet.recipes import Command, Recipe, resolve
from provisioner.fleet.slo import Objective, parse_objective
from provisioner.fleet.taxonomy import HardwareProfile, match_hardware, profile_of
from provisioner.plan import flags, model, render, variables
from provisioner.plan.absent import ENV_DIR, UNIT_DIR, absent_files, absent_servers
from provisioner.plan.arguments import at_commit, server_argv
from provisioner.plan.bench import benchmark, default_max_num_seqs
from provisioner.plan.docker_config import certificate_path, docker_config
from provisioner.plan.docker_run import docker_run, gpu_flags, gpus_value
from provisioner.plan.exposure import exposure
from provisioner.plan.facts import Facts
from provisioner.plan.images import image_of
from provisioner.plan.lock import UNLOCKED, Lock, is_commit
from provisioner.plan.plugins import REVISION, plugins_of
from provisioner.plan.registries import logins
from provisioner.plan.release import current
from provisioner.plan.same import kept
from provisioner.plan.server_checks import check_server
from provisioner.plan.versions import gate_env, older

PLUGIN_DIR = "/var/lib/vllm/plugins"


def plan_host(
    fleet: Fleet, host: Host, facts: Facts, recipes: Mapping[str, Recipe], lock: Lock = UNLOCKED
) -> model.HostPlan:
    """What one host should have. `recipes` maps the names used in the fleet file to recipes. What `lock` does not hold
    is planned as it is written: `needs.needs` finds it.

    Raises HostError when the host's hardware cannot serve what the fleet asks of it.
    """
    profile = _hardware(host, facts)
    platform = facts.platform
    if platform is None:
        raise HostError(f"{host.name}: architecture {facts.machine} has no vLLM images")
    resolved = [
        _server(fleet, server, recipes[server.recipe], profile, platform, facts, lock)
        for server in fleet.servers_on(host.name)
    ]
    images = _images([image for _, image, _, _, _ in resolved])
    return model.HostPlan(
        host=host.name,
        platform=platform,
        hardware=profile.id,
        hardware_name=f"{len(facts.gpus)} × {facts.gpus[0].name}" + (" (simulated)" if facts.simulated else ""),
        simulated=facts.simulated,
        docker_source=fleet.docker.source,
        docker_config=docker_config(fleet.docker),
        docker_version=fleet.docker.version,
        docker_stop_others=fleet.docker.stop_others,
        gpu_mode=fleet.docker.gpus,
        check_cuda=not any("cuda-driver" in server.allow_known_bad for server in fleet.servers_on(host.name)),
        certificates=tuple(
            model.File(path=certificate_path(registry), content=text) for registry, text in fleet.certificates.items()
        ),
        images=images,
        image_min_free_gib=fleet.docker.min_free_gib,
        image_keep=fleet.docker.keep_images,
        image_protected=serving.images if (serving := current(facts)) else (),
        registries=logins(fleet.docker.registries, images),
        cache_dir=fleet.weights.cache_dir,
        weights_download=fleet.weights.download,
        plugin_dir=PLUGIN_DIR,
        hub_endpoint=fleet.hub.endpoint,
        hub_token=fleet.hub.token,
        weights=_weights([weights for _, _, weights, _, _ in resolved]),
        plugins=_unique([plugin for _, _, _, plugins, _ in resolved for plugin in plugins]),
        servers=tuple(server for server, _, _, _, _ in resolved),
        absent=absent_servers(facts, [server.name for server, _, _, _, _ in resolved]),
        absent_files=absent_files(facts, [server for server, _, _, _, _ in resolved]),
        warnings=(*host.notes, *(warning for _, _, _, _, warnings in resolved for warning in warnings)),
    )


def _hardware(host: Host, facts: Facts) -> HardwareProfile:
    if host.hardware:
        return profile_of(host.hardware)
    names = {gpu.name for gpu in facts.gpus}
    if len(names) > 1:
        raise HostError(
            f"{host.name}: GPUs of different kinds: {', '.join(sorted(names))}",
            hint=f"say which profile to use: hosts.{host.name}.hardware",
        )
    name = names.pop()
    profile = match_hardware(name, len(facts.gpus))
    if profile is None:
        raise HostError(
            f'{host.name}: no hardware profile for the GPU "{name}"',
            hint=f"name the nearest one: hosts.{host.name}.hardware",
        )
    return profile


_Resolved = tuple[model.Server, model.Image, model.Weights, tuple[model.Plugin, ...], tuple[str, ...]]


def _server(
    fleet: Fleet, server: Server, recipe: Recipe, profile: HardwareProfile, platform: Platform, facts: Facts, lock: Lock
) -> _Resolved:
    gpu_count = _gpu_count(server, facts)
    planned, image, weights, plugins, command, notes = _decided(
        server, recipe, profile, platform, gpu_count, fleet.weights.cache_dir, fleet.docker.gpus, lock
    )
    version, bench = image.vllm_version, planned.benchmark
    checked = check_server(server, recipe, command, profile, facts, version, planned.argv, bench.argv)
    return planned, image, weights, plugins, tuple(f"{server.name}: {note}" for note in (*notes, *checked))


_Decided = tuple[model.Server, model.Image, model.Weights, tuple[model.Plugin, ...], Command, tuple[str, ...]]


@kept(1024)
def _decided(
    server: Server,
    recipe: Recipe,
    profile: HardwareProfile,
    platform: Platform,
    gpu_count: int,
    cache_dir: str,
    gpu_mode: Literal["legacy", "cdi"],
    lock: Lock,
) -> _Decided:
    """All of a server that is the same on every host of a kind, with what an operator should know about it."""
    command = resolve(
        recipe, variant=server.variant, hardware=profile.id, gpu_count=gpu_count, features=server.features
    )
    image = image_of(server, command, profile, platform, lock)
    env, dropped = gate_env({**command.env, **server.env}, image.vllm_version)
    argv = server_argv(server, command)
    revision = lock.revision(command.model_id, flags.value_of(argv, "--revision") or REVISION)
    commit = revision if is_commit(revision) else None
    if commit:
        argv = at_commit(argv, commit)
    served = server.served_model_name or command.model_id
    plugins = plugins_of(argv, command, image.reference, lock)
    unit = f"vllm-{server.name}.service"
    container = f"vllm-{server.name}"
    secret_path = f"{ENV_DIR}/{server.name}.env" if server.api_key else None
    run = docker_run(
        container=container,
        image=image.reference,
        gpus=gpu_flags(server.gpus, gpu_mode),
        ipc=server.ipc,
        cache_dir=cache_dir,
        plugin_dir=PLUGIN_DIR,
        plugins=[plugin.file for plugin in plugins],
        # So that another file under the same name is another unit: the server must read it.
        labels={f"provision.plugin.{plugin.file}": plugin.sha256 for plugin in plugins if plugin.sha256},
        mounts=server.mounts,
        env=env,
        secret_path=secret_path,
        argv=argv,
        port=server.port,
        unified_memory=profile.unified_memory,
    )
    secret_file = None
    if server.api_key and secret_path:
        # The server reads VLLM_API_KEY; the benchmark client in the same image reads OPENAI_API_KEY.
        secret_file = model.SecretFile(
            path=secret_path, entries={"VLLM_API_KEY": server.api_key, "OPENAI_API_KEY": server.api_key}
        )
    element = variables.server_element(
        name=server.name,
        unit=unit,
        container=container,
        model_id=command.model_id,
        docker_argv=run,
        secret_path=secret_path,
        image=image.reference,
        argv=argv,
        port=server.port,
        drain_timeout_s=server.drain_timeout_s,
        open_firewall=server.open_firewall,
        unified_memory=profile.unified_memory,
    )
    max_len = flags.value_of(argv, "--max-model-len")
    max_seqs = flags.value_of(argv, "--max-num-seqs")
    slo = _objectives(server, profile, platform)
    bench = benchmark(
        server.benchmark,
        model_id=command.model_id,
        served_model_name=served,
        connect_to=model.connect_address(server.host),
        port=server.port,
        trust_remote_code=flags.any_flag(argv, "--trust-remote-code"),
        max_num_seqs=int(max_seqs)
        if max_seqs and max_seqs.isdecimal()
        else default_max_num_seqs(profile.display_name, profile.gpu_memory_gb),
        max_model_len=int(max_len) if max_len and max_len.isdecimal() else None,
        commit=commit,
        slo=slo,
        mounts=server.mounts,
    )
    planned = model.Server(
        name=server.name,
        unit=unit,
        container=container,
        recipe=server.recipe,
        variant=command.variant,
        precision=command.precision,
        model_id=command.model_id,
        served_model_name=served,
        image=image.reference,
        host=server.host,
        port=server.port,
        gpus=gpus_value(server.gpus),
        gpu_count=gpu_count,
        argv=argv,
        docker_argv=run,
        env=env,
        unit_file=model.File(path=f"{UNIT_DIR}/{unit}", content=render.unit_text(element)),
        secret_file=secret_file,
        api_key=server.api_key,
        health_timeout_s=server.health_timeout_s,
        drain_timeout_s=server.drain_timeout_s,
        open_firewall=server.open_firewall,
        unified_memory=profile.unified_memory,
        reasoning=flags.any_flag(argv, "--reasoning-parser"),
        tool_call_parser=_tool_call_parser(argv),
        log_stats=not flags.any_flag(argv, "--disable-log-stats"),
        slo=slo,
        benchmark=bench,
    )
    weights = model.Weights(repo=command.model_id, revision=revision, image=image.reference)
    return (
        planned,
        image,
        weights,
        plugins,
        command,
        (*exposure(server), *_notes(server, command, image, revision), *dropped),
    )


def _objectives(server: Server, profile: HardwareProfile, platform: Platform) -> tuple[Objective, ...]:
    """Those of the most exact entry: of the hardware, of the platform, of everything."""
    texts = next((server.slo[key] for key in (profile.id, platform, "default") if key in server.slo), ())
    return tuple(parse_objective(text) for text in texts)


def _tool_call_parser(argv: tuple[str, ...]) -> str | None:
    """How calls are read, where the model may decide to make them."""
    return flags.value_of(argv, "--tool-call-parser") if flags.any_flag(argv, "--enable-auto-tool-choice") else None


def _notes(server: Server, command: Command, image: model.Image, revision: str) -> tuple[str, ...]:
    # Who says how many GPUs a server is spread over needs no word about the recipe's own choice.
    notes = list(command.notes) if server.tensor_parallel_size is None else []
    if older(image.vllm_version, command.min_vllm_version):
        notes.append(f"vLLM {image.vllm_version} is older than {command.min_vllm_version}, which the recipe needs")
    if revision != REVISION and not is_commit(revision):
        notes.append(f"--revision {revision}: the benchmark cannot be told a branch; lock it, or name the commit")
    return tuple(notes)


def _gpu_count(server: Server, facts: Facts) -> int:
    indices = {gpu.index for gpu in facts.gpus}
    wanted = indices if server.gpus == "all" else _wanted(server.gpus)
    if wanted - indices:
        missing, there = sorted(wanted - indices), sorted(indices)
        raise HostError(
            f"{facts.host}: server {server.name} asks for GPU {_list(missing)}; the host has {_list(there)}"
        )
    if server.tensor_parallel_size and server.tensor_parallel_size > len(wanted):
        raise HostError(
            f"{facts.host}: server {server.name} has tensor_parallel_size {server.tensor_parallel_size}, "
            f"but gets {len(wanted)} GPU{'s' if len(wanted) > 1 else ''}"
        )
    return len(wanted)


def _list(indices: list[int]) -> str:
    return ", ".join(map(str, indices))


def _wanted(gpus: str | int | tuple[int, ...]) -> set[int]:
    return set(range(gpus)) if isinstance(gpus, int) else {int(index) for index in gpus}


def _images(images: list[model.Image]) -> tuple[model.Image, ...]:
    """Each image once. The deploy tag points at one image; with several on a host it stays with the first."""
    unique = _unique(images)
    return tuple(
        image if position == 0 else image.model_copy(update={"deploy_tag": None})
        for position, image in enumerate(unique)
    )


def _weights(weights: list[model.Weights]) -> tuple[model.Weights, ...]:
    """Each once. The cache says of a repository which one revision is complete, so there cannot be two."""
    unique = _unique(weights)
    by_repo: dict[str, str] = {}
    for one in unique:
        other = by_repo.setdefault(one.repo, one.revision)
        if other != one.revision:
            raise HostError(
                f"{one.repo} is asked for at {other} and at {one.revision} on one host",
                hint="give its servers the same --revision, or place them on different hosts",
            )
    return unique


T = TypeVar("T")


def _unique(items: list[T]) -> tuple[T, ...]:
    return tuple(item for position, item in enumerate(items) if item not in items[:position])
