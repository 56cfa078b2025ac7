"""Bringing a server that was tuned back to what its host's plan says."""

from __future__ import annotations

from provisioner.apply.runner import HostResult, apply
from provisioner.errors import HostError, ProvisionError, UnreachableError
from provisioner.hosts.probe import probe
from provisioner.plan.bundle import bundle_variables
from provisioner.plan.roles import roles_to_run
from provisioner.rollout.points import Work, event, fresh, server_of, teller
from provisioner.rollout.proofs import proven, write_proof
from provisioner.rollout.sending import bring, clear
from provisioner.rollout.survey import look_again, request_for
from provisioner.validate.health import wait_healthy

SERVER_ROLES = ("vllm_server",)
"""a point is other settings of one server: images, models and plugins stay"""


def put_back(work: Work, name: str, *, proof: bool = True) -> None:
    """Brings the host to its plan again, and waits until the server answers. Its proof counts again where it had one
    (`proof`): it runs what was proven. Raises HostError."""
    host, plan = work.host, work.host.plan
    if plan is None or host.facts is None:
        raise HostError(f"{host.host.name}: there is no plan to go back to")
    work.on_event(event(plan.host, "apply", "putting the server back", "started", work.server))
    server, bundle = server_of(plan, work.server), work.seen.bundle
    brought = host.bundled if host.changes and bundle else None
    if brought and bundle:
        bring(fresh(work, host.host), bundle, brought, teller(work, server, "apply"))
    # Nobody's Ctrl-C: this is what it waits for.
    (result,) = apply(
        work.run.directory(f"tune/{name}"),
        work.seen.fleet,
        [plan],
        work.seen.secrets,
        on_event=work.on_event,
        interrupted=lambda: False,
        more={plan.host: bundle_variables(plan, brought)} if brought else {},
        roles=roles_to_run([host.changes]) if host.changes else SERVER_ROLES,
    )
    if result.state != "ok":
        raise applied(result)
    transport = fresh(work, host.host)
    if brought and brought.blobs():
        clear(transport)
    wait_healthy(
        transport, server, on_progress=teller(work, server, "health"), secrets=tuple(work.seen.secrets.values())
    )
    facts = probe(transport, request_for(work.seen.fleet, host.host, plan))
    if left := look_again(host, facts, work.seen.secrets).changes:
        words = "; ".join(f"{change.subject}: {change.reason}" for change in left.changes)
        raise HostError(f"{plan.host}: still not as planned after the tuning: {words}")
    before = proven(host.facts, server.name)
    if proof and before is not None:
        write_proof(transport, server.name, before, work.run.record.id)


def applied(result: HostResult) -> ProvisionError:
    """What Ansible could not do."""
    return (UnreachableError if result.state == "unreachable" else HostError)(result.message)
