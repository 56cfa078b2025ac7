"""Looking before acting: probe every host, plan it, and tell what would change and what stands in the way."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from provisioner.apply.inventory import secret_references
from provisioner.errors import Exit, HostError, ProvisionError
from provisioner.fleet.models import Fleet, Host
from provisioner.fleet.recipes import Recipe
from provisioner.history.events import Event, OnEvent
from provisioner.hosts import lease
from provisioner.hosts.probe import ProbeRequest, ProbeResult, probe_all
from provisioner.plan.absent import ENV_DIR, MARK, PATTERNS, UNIT_DIR
from provisioner.plan.bundle import Bundled, Manifest, bundled, from_bundle
from provisioner.plan.diff import DAEMON_JSON, IMAGE_RECORD, changes
from provisioner.plan.docker_config import certificate_path
from provisioner.plan.facts import Facts
from provisioner.plan.lock import UNLOCKED, Lock
from provisioner.plan.model import Changes, HostPlan, connect_address
from provisioner.plan.model import Server as PlannedServer
from provisioner.plan.peers import Given
from provisioner.plan.plugins import plugin_names
from provisioner.plan.preflight import DOCKER_ROOT, fitness, obstacles
from provisioner.plan.proof import doubt
from provisioner.plan.release import CURRENT, current, release_id
from provisioner.plan.removal import RECORD
from provisioner.plan.resolve import PLUGIN_DIR, plan_host
from provisioner.rollout.connections import Connections
from provisioner.rollout.proofs import proof_path, proven
from provisioner.rollout.secrets import resolve_secrets


@dataclass(frozen=True)
class HostSurvey:
    """One host as it is and as it should be."""

    host: Host
    facts: Facts | None = None
    plan: HostPlan | None = None
    changes: Changes | None = None
    unproven: Mapping[str, str] = field(default_factory=dict)
    """servers that have not passed validation as what they are now → why it is not known that they serve"""
    unaccepted: bool = False
    """it is as planned and proven, and the plan is not yet its release: a run ended before its wave had passed"""
    problems: tuple[str, ...] = ()
    """what stands in the way, before anything is changed"""
    exit_code: Exit = Exit.OK
    bundled: Bundled | None = None
    """what it gets from a bundle"""
    given: Given | None = None
    """what it gets from other hosts (`sharing.with_peers`)"""

    @property
    def fit(self) -> bool:
        return not self.problems

    @property
    def work(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.changes) or bool(self.unproven) or self.unaccepted

    @property
    def release(self) -> str | None:
        """Id of the release that it serves; None before the first."""
        serving = current(self.facts) if self.facts else None
        return serving.id if serving else None

    @property
    def leased(self) -> lease.Holder | None:
        """Whose lease it had when it was looked at."""
        return lease.seen(self.facts.content(lease.FILE), self.facts.uptime_s) if self.facts else None

    @property
    def lease_mark(self) -> str | None:
        """What tells later whether it was leased since; None where nobody can tell."""
        return lease.mark(self.facts.content(lease.FILE)) if self.facts else None


@dataclass(frozen=True)
class Survey:
    """The whole fleet, looked at."""

    fleet: Fleet
    hosts: tuple[HostSurvey, ...]
    secrets: Mapping[str, str]
    lock: Lock | None = None
    """what the plans were made with"""
    environment: Mapping[str, str] | None = None
    """where `env:` references looked, instead of our own"""
    bundle: Path | None = None
    """where hosts get what they lack from, in place of fetching it"""

    @property
    def command(self) -> str:
        """What brings the fleet to its plan, as it stands in messages."""
        return self._command()

    @property
    def plan_command(self) -> str:
        """What shows why the fleet is not as planned."""
        return self._command("plan")

    def _command(self, *words: str) -> str:
        bundle = ["--bundle", str(self.bundle)] if self.bundle else []
        return shlex.join(["provision", *words, str(self.fleet.path), *bundle])

    @property
    def fit(self) -> tuple[HostSurvey, ...]:
        return tuple(host for host in self.hosts if host.fit)

    @property
    def unfit(self) -> tuple[HostSurvey, ...]:
        return tuple(host for host in self.hosts if not host.fit)

    @property
    def work(self) -> tuple[HostSurvey, ...]:
        return tuple(host for host in self.fit if host.work)


def survey(
    fleet: Fleet,
    recipes: Mapping[str, Recipe],
    connections: Connections,
    *,
    on_event: OnEvent,
    compare: bool = True,
    environment: Mapping[str, str] | None = None,
    lock: Lock | None = None,
    bundle: tuple[Path, Manifest] | None = None,
) -> Survey:
    """Probes all hosts at once, one round trip each, and plans each as soon as its facts are there.

    `compare` False leaves out what differs, for which alone secrets are needed. Raises UsageError when one cannot be
    resolved; everything else is said per host. `environment`: where `env:` references look, instead of our own.
    `lock`: what the plans are made with; what it lacks is planned as it is written (`locking.check_survey`).
    `bundle`: a host that lacks something which is not in it is not fit.
    """
    for host in fleet.hosts:
        on_event(Event(host=host.name, phase="probe", status="running", task="looking at the host"))
    requests = {
        host.name: probe_request(fleet, host, _plugins(fleet, host, recipes), _models(fleet, host, recipes))
        for host in fleet.hosts
    }
    found: dict[str, HostSurvey] = {}
    for result in probe_all(fleet.hosts, connections.connect, requests):
        seen = _plan(fleet, fleet.host(result.host), result, recipes, lock or UNLOCKED)
        seen = with_bundle(seen, bundle[1]) if bundle else seen
        found[result.host] = seen
        connections.release(seen.host)
        on_event(_event(seen))
    hosts = [found[host.name] for host in fleet.hosts]
    whole = Survey(fleet=fleet, hosts=tuple(hosts), secrets={}, lock=lock, bundle=bundle[0] if bundle else None)
    return _compared(whole, environment) if compare else whole


def planned_again(
    seen: Survey,
    recipes: Mapping[str, Recipe],
    lock: Lock,
    *,
    compare: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Survey:
    """The same hosts as they were found, planned with this lock; no host is asked again."""
    hosts = tuple(
        _planned(seen.fleet, host.host, host.facts, recipes, lock) if host.facts else host for host in seen.hosts
    )
    whole = replace(seen, hosts=hosts, lock=lock)
    return _compared(whole, environment) if compare else whole


def probe_request(
    fleet: Fleet,
    host: Host,
    plugins: Iterable[str],
    models: Iterable[str] = (),
    servers: Iterable[PlannedServer] = (),
) -> ProbeRequest:
    """What the probe must look at: everything that any plan of this host could manage. `plugins`: names of files;
    `models`: repositories that somebody else brings; `servers`: those of a plan that the fleet file may not have."""
    written = fleet.servers_on(host.name)
    archives = [image.archive for server in written for image in server.image.values() if image.archive]
    served = [(one.name, one.port, one.host) for one in written] + [(one.name, one.port, one.host) for one in servers]
    names = dict.fromkeys(name for name, _, _ in served)
    health = dict.fromkeys((port, connect_address(address)) for _, port, address in served)
    units = tuple(f"vllm-{name}.service" for name in names)
    public = [DAEMON_JSON, IMAGE_RECORD, CURRENT, lease.FILE, *(f"{UNIT_DIR}/{unit}" for unit in units)]
    public += [proof_path(name) for name in names]
    public += [certificate_path(registry) for registry in fleet.certificates]
    private = [f"{ENV_DIR}/{name}.env" for name in names]
    private += [f"{PLUGIN_DIR}/{plugin}" for plugin in plugins]
    return ProbeRequest(
        files=(*public, *private),
        public_files=tuple(public),
        mark=MARK,
        marked=PATTERNS,
        units=units,
        images=(),
        cache_dir=fleet.weights.cache_dir,
        cached=tuple(dict.fromkeys(models)),
        paths=tuple(dict.fromkeys(str(archive.path) for archive in archives if archive.at == "host")),
        disk_paths=(DOCKER_ROOT, fleet.weights.cache_dir),
        ports=tuple(dict.fromkeys(port for port, _ in health)),
        firewall=any(server.open_firewall for server in written),
        record=RECORD,
        health=tuple(health),
    )


def request_for(fleet: Fleet, host: Host, plan: HostPlan) -> ProbeRequest:
    """What the probe must look at for a host to be compared with this plan, which may be older than the fleet file."""
    models = [] if plan.weights_download else [*(one.repo for one in plan.weights), *(one.repo for one in plan.plugins)]
    request = probe_request(fleet, host, [one.file for one in plan.plugins], models, servers=plan.servers)
    return request.model_copy(update={"cache_dir": plan.cache_dir, "disk_paths": (DOCKER_ROOT, plan.cache_dir)})


def with_bundle(seen: HostSurvey, manifest: Manifest) -> HostSurvey:
    """The same host, given what a bundle has."""
    if seen.plan is None or seen.facts is None or seen.problems:
        return seen
    found, lacking = bundled(seen.plan, seen.facts, manifest)
    code = Exit.BAD_INPUT if lacking else Exit.OK
    return replace(seen, bundled=found, problems=lacking, exit_code=code)


def look_again(seen: HostSurvey, facts: Facts, secrets: Mapping[str, str]) -> HostSurvey:
    """The same host with fresh facts."""
    return _compare(replace(seen, facts=facts), secrets)


def _plugins(fleet: Fleet, host: Host, recipes: Mapping[str, Recipe]) -> tuple[str, ...]:
    return tuple(
        name for server in fleet.servers_on(host.name) for name in plugin_names(server, recipes[server.recipe])
    )


def _models(fleet: Fleet, host: Host, recipes: Mapping[str, Recipe]) -> tuple[str, ...]:
    """Every model repository that the host may need, on whatever hardware; none where runs download them."""
    if fleet.weights.download:
        return ()
    used = dict.fromkeys(server.recipe for server in fleet.servers_on(host.name))
    return tuple(dict.fromkeys(repo for recipe in used for repo in recipes[recipe].repos))


def _plan(fleet: Fleet, host: Host, result: ProbeResult, recipes: Mapping[str, Recipe], lock: Lock) -> HostSurvey:
    if result.facts is None:
        error = result.error or HostError(f"{host.name}: no facts")
        return HostSurvey(host, problems=(str(error),), exit_code=Exit(error.exit_code))
    return _planned(fleet, host, result.facts, recipes, lock)


def _planned(fleet: Fleet, host: Host, facts: Facts, recipes: Mapping[str, Recipe], lock: Lock) -> HostSurvey:
    problems = fitness(host, facts)
    if problems:
        return HostSurvey(host, facts=facts, problems=problems, exit_code=Exit.HOST_FAILED)
    try:
        plan = plan_host(fleet, host, facts, recipes, lock)
    except ProvisionError as error:
        return HostSurvey(host, facts=facts, problems=(str(error),), exit_code=Exit(error.exit_code))
    problems = obstacles(plan, facts, fleet.servers_on(host.name))
    code = Exit.HOST_FAILED if problems else Exit.OK
    return HostSurvey(host, facts=facts, plan=plan, problems=problems, exit_code=code)


def _compared(seen: Survey, environment: Mapping[str, str] | None) -> Survey:
    # Secrets are resolved once the plans say which; values stay in memory.
    secrets = resolve_secrets(secret_references([host.plan for host in seen.hosts if host.plan]), environment)
    hosts = tuple(_compare(host, secrets) for host in seen.hosts)
    return replace(seen, hosts=hosts, secrets=secrets, environment=environment)


def _compare(seen: HostSurvey, secrets: Mapping[str, str]) -> HostSurvey:
    if seen.plan is None or seen.facts is None:
        return seen
    differing = changes(seen.plan, seen.facts, secrets)
    differing = from_bundle(differing, seen.bundled) if seen.bundled else differing
    doubts = {
        server.name: doubt(seen.plan, server, seen.facts, proven(seen.facts, server.name))
        for server in seen.plan.servers
    }
    unproven = {name: why for name, why in doubts.items() if why}
    unaccepted = not differing and not unproven and seen.release != release_id(seen.plan)
    return replace(seen, changes=differing, unproven=unproven, unaccepted=unaccepted)


def _event(seen: HostSurvey) -> Event:
    if seen.problems:
        return Event(host=seen.host.name, phase="failed", status="failed", task="probe", detail=seen.problems[0])
    return Event(host=seen.host.name, phase="plan", status="ok", task=seen.plan.hardware_name if seen.plan else "")
