"""Ansible gets the roles that have something to do, and its facts only where a role reads them."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provisioner import assets
from provisioner.plan.model import Change, Changes
from provisioner.plan.roles import NEED_FACTS, ROLES, roles_to_run


def changes(*roles: str) -> Changes:
    return Changes(
        host="a", changes=tuple(Change.model_validate({"role": r, "subject": "", "reason": ""}) for r in roles)
    )


@pytest.mark.parametrize(
    ("roles", "run"),
    [
        (["vllm_server"], ["vllm_server"]),
        (["model_weights"], ["model_weights", "vllm_server"]),
        (["vllm_server", "vllm_image"], ["vllm_image", "model_weights", "vllm_server"]),
        ([], []),
    ],
)
def test_roles(roles: list[str], run: list[str]) -> None:
    assert list(roles_to_run([changes(*roles)])) == run


@given(st.lists(st.lists(st.sampled_from(ROLES))))
def test_no_role_with_changes_is_left_out_and_all_hosts_count(hosts: list[list[str]]) -> None:
    run = roles_to_run(changes(*roles) for roles in hosts)
    wanted = {role for roles in hosts for role in roles}
    assert wanted <= set(run)
    assert bool(run) == bool(wanted)
    assert run == ROLES[len(ROLES) - len(run) :]


def test_the_order_is_that_of_the_playbook() -> None:
    (play,) = yaml.safe_load((assets.ansible_dir() / "playbooks" / "site.yml").read_text())
    tags = [tag for task in play["tasks"] for tag in task["tags"]]
    assert list(dict.fromkeys(tags)) == [*ROLES, "always"]


def test_no_other_role_reads_ansibles_facts() -> None:
    fact = re.compile(
        r"ansible_facts\b|ansible_(distribution|os_family|pkg_mgr|architecture|system|kernel|python_version)\b"
    )
    reading = {
        role
        for role in ROLES
        for file in (assets.ansible_dir() / "roles" / role).rglob("*")
        if file.suffix in (".yml", ".j2") and not {"molecule", "tests"} & set(file.parts)
        if fact.search(file.read_text(encoding="utf-8"))
    }
    assert reading == NEED_FACTS
