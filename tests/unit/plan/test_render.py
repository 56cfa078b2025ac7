from __future__ import annotations

import re

import pytest
from builders import plan
from jinja2 import UndefinedError

from provisioner.plan import render, variables

from .systemd_words import read


def test_a_unit_runs_exactly_the_planned_command() -> None:
    server = plan().servers[0]
    (line,) = re.findall(r"^ExecStart=(.*)$", server.unit_file.content, re.MULTILINE)
    assert tuple(read(line)) == server.docker_argv


def test_the_unit_of_an_element_is_that_of_the_plan() -> None:
    the_plan = plan()
    (element,) = variables.role_variables(the_plan)["vllm_server_list"]
    assert render.unit_text(element) == the_plan.servers[0].unit_file.content


def test_a_unit_needs_every_value() -> None:
    with pytest.raises(UndefinedError, match="'dict object' has no attribute"):
        render.unit_text({"name": "x"})


def test_values_are_not_templates() -> None:
    element = variables.server_element(
        name="n",
        unit="vllm-n.service",
        container="vllm-n",
        model_id="{{ evil }}",
        docker_argv=["docker", "{{ 1 + 1 }}", "{% raw %}"],
        secret_path=None,
        image="i",
        argv=[],
        port=1,
    )
    text = render.unit_text(element)
    assert "Description=vLLM server n ({{ evil }})\n" in text
    assert 'ExecStart=docker "{{ 1 + 1 }}" "{%% raw %%}"\n' in text


def test_secrets_are_lines_sorted_by_key() -> None:
    head = "# Written by provision: changes by hand are replaced at the next run.\n"
    assert render.secrets_text({"B": "{{ 2 }}", "A": "a b=c"}) == f"{head}A=a b=c\nB={{{{ 2 }}}}\n"
    assert render.secrets_text({}) == head
