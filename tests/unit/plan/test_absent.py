"""Servers that left the fleet file: seen by the mark in their files, named by the plan, in nobody's way."""

from __future__ import annotations

from builders import converged, facts, fleet, plan, server

from provisioner.plan.absent import MARK, PATTERNS
from provisioner.plan.diff import changes
from provisioner.plan.facts import Container, Facts, Port
from provisioner.plan.preflight import obstacles
from provisioner.plan.render import secrets_text
from provisioner.plan.variables import role_variables
from provisioner.rollout.survey import probe_request

OLD = ("/etc/systemd/system/vllm-old.service", "/etc/vllm/old.env")


def seen(*marked: str, **more: object) -> Facts:
    return facts(marked=marked, **more)


def test_a_server_that_left_the_fleet_is_to_go() -> None:
    the_plan = plan(fleet(server("new", api_key="env:K")), seen(*OLD, "/etc/vllm/new.env"))
    assert [one.name for one in the_plan.absent] == ["old"]
    assert the_plan.absent_files == ("/etc/vllm/old.env",)
    variables = role_variables(the_plan)
    assert variables["vllm_server_absent"] == [
        {"name": "old", "unit": "vllm-old.service", "container": "vllm-old"},
    ]
    assert variables["vllm_server_absent_files"] == ["/etc/vllm/old.env"]


def test_it_is_a_change_of_an_otherwise_converged_host() -> None:
    the_fleet = fleet(server("new"))
    before = converged(plan(the_fleet)).model_copy(update={"marked": (*OLD, "/etc/systemd/system/vllm-new.service")})
    the_plan = plan(the_fleet, before)
    found = changes(the_plan, before, {}).changes
    assert [(one.role, one.subject, one.reason) for one in found] == [
        ("vllm_server", "vllm-old.service", "no longer in the fleet: will be stopped and removed"),
        ("vllm_server", "/etc/vllm/old.env", "no longer in the fleet: will be removed (secret)"),
    ]
    after = before.model_copy(update={"marked": before.marked[2:]})
    assert not changes(the_plan, after, {})


def test_a_server_that_needs_no_key_any_more_loses_its_file() -> None:
    the_plan = plan(fleet(server("new")), seen("/etc/systemd/system/vllm-new.service", "/etc/vllm/new.env"))
    assert the_plan.absent == ()
    assert the_plan.absent_files == ("/etc/vllm/new.env",)


def test_its_port_is_free_for_another_server() -> None:
    """A server that gets another name in the fleet file keeps its port."""
    old = Container(
        name="vllm-old", id="c", image_id="i", argv=("serve", "--port", "8000"), running=True, started_at=""
    )
    held = (Port(port=8000, address="127.0.0.1", process="vllm", container="vllm-old"),)
    at = seen(*OLD, ports=held, containers=(old,))
    assert obstacles(plan(fleet(server("new")), at), at) == ()
    theirs = seen(ports=held, containers=(old,))  # without our mark it is somebody else's
    assert len(obstacles(plan(fleet(server("new")), theirs), theirs)) == 1


def test_the_probe_looks_for_our_mark() -> None:
    the_fleet = fleet()
    request = probe_request(the_fleet, the_fleet.hosts[0], ())
    assert (request.mark, request.marked) == (MARK, PATTERNS)
    assert plan().servers[0].unit_file.content.startswith(f"{MARK}: ")
    assert secrets_text({}).startswith(f"{MARK}: ")
