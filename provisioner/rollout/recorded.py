"""Planning from recorded facts: the same plans as from a probe, without reaching any host."""

from __future__ import annotations

from collections.abc import Mapping

from provisioner.errors import Exit, ProvisionError
from provisioner.fleet.models import Fleet, Host
from provisioner.fleet.recipes import Recipe
from provisioner.plan.facts import Facts
from provisioner.plan.lock import UNLOCKED, Lock
from provisioner.plan.preflight import fitness
from provisioner.plan.resolve import plan_host
from provisioner.rollout.survey import HostSurvey, Survey


def recorded_survey(
    fleet: Fleet, recipes: Mapping[str, Recipe], facts: Mapping[str, Facts], lock: Lock | None = None
) -> Survey:
    """Every host with its facts and its plan, or why it has none. Nothing is compared."""
    hosts = tuple(_planned(fleet, host, facts.get(host.name), recipes, lock or UNLOCKED) for host in fleet.hosts)
    return Survey(fleet=fleet, hosts=hosts, secrets={}, lock=lock)


def _planned(fleet: Fleet, host: Host, seen: Facts | None, recipes: Mapping[str, Recipe], lock: Lock) -> HostSurvey:
    if seen is None:
        return HostSurvey(host, problems=("no facts of it are recorded",), exit_code=Exit.BAD_INPUT)
    problems = fitness(host, seen)
    if problems:
        return HostSurvey(host, facts=seen, problems=problems, exit_code=Exit.HOST_FAILED)
    try:
        return HostSurvey(host, facts=seen, plan=plan_host(fleet, host, seen, recipes, lock))
    except ProvisionError as error:
        return HostSurvey(host, facts=seen, problems=(str(error),), exit_code=Exit(error.exit_code))
