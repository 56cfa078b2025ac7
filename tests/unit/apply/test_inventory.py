from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from builders import facts, fleet, plan, server
from hypothesis import given
from hypothesis import strategies as st

from provisioner.apply.inventory import connection, dump, extra_variables, secret_references, write_inventory
from provisioner.fleet.models import Host, Hub, Ssh
from provisioner.plan.variables import Expression

SECRETS = {"env:API_KEY": "planted-key", "file:/run/token": "planted-token"}
THE_FLEET = fleet(
    server(api_key="env:API_KEY", env={"PROMPT": "{{ 7 * 6 }}"}),
    hub=Hub(endpoint="http://hub.lan", token="file:/run/token"),
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Text → what a task would see of it: read as Ansible reads variables, templates in it evaluated."""
    path = tmp_path_factory.mktemp("vars") / "vars.yml"

    def evaluate(text: str) -> Any:
        path.write_text(text, encoding="utf-8")
        loader = DataLoader()
        data = loader.load_from_file(str(path), cache="none", trusted_as_template=True)
        return Templar(loader=loader, variables={"x": "evaluated"}).template(data)

    return evaluate


def test_ansible_evaluates_what_is_written_as_an_expression(evaluated: Any) -> None:
    assert evaluated('a: "{{ x }}"\n') == {"a": "evaluated"}
    assert evaluated(dump({"a": Expression("{{ x }}"), "b": "{{ x }}"})) == {"a": "evaluated", "b": "{{ x }}"}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# fmt: off
TRICKY = st.sampled_from([
    "{{ x }}", "{{", "{% if x %}", "{#", "#}", "#jinja2: x", "!unsafe x", "{{ lookup('pipe', 'id') }}",
    "yes", "null", "~", "1e3", "0x10", "1_000", "2026-01-01", "- a", "a: b", "# no", "&a", "*a", "|", ">", "'", '"',
    "a\nb", " a ", "\ta", "a\\nb", "\x85", "\u2028", "\ufeff", "%TAG", "---", "...", "=", "<<",
])
# fmt: on
STRINGS = TEXT | TRICKY | st.lists(TRICKY).map(" ".join)
DATA = st.recursive(
    STRINGS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS.filter(bool), inner, max_size=4),
    max_leaves=12,
)


@given(data=DATA)
def test_data_comes_back_as_it_was_and_is_never_evaluated(evaluated: Any, data: Any) -> None:
    assert evaluated(dump({"data": data})) == {"data": data}


def test_data_with_template_marks_is_unsafe() -> None:
    assert dump({"a": "{{ x }}", "b": "x", "c": Expression("{{ x }}")}) == 'a: !unsafe "{{ x }}"\nb: x\nc: "{{ x }}"\n'


def test_the_files_of_an_inventory(tmp_path: Path) -> None:
    the_plan = plan(THE_FLEET)
    assert write_inventory(tmp_path / "inventory", THE_FLEET, [the_plan]) == tmp_path / "inventory"
    files = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.yml")}
    assert sorted(files) == [
        "inventory/group_vars/all.yml",
        "inventory/host_vars/gpu-01.yml",
        "inventory/hosts.yml",
    ]
    assert files["inventory/hosts.yml"] == (
        "all:\n  hosts:\n    gpu-01:\n      ansible_python_interpreter: /usr/bin/python3\n"
    )
    assert files["inventory/group_vars/all.yml"] == (
        "provision_secrets:\n"
        "  file:/run/token: \"{{ lookup('ansible.builtin.file', '/run/token') }}\"\n"
        "  env:API_KEY: \"{{ lookup('ansible.builtin.env', 'API_KEY') }}\"\n"
    )
    host = files["inventory/host_vars/gpu-01.yml"]
    assert "model_weights_token: \"{{ provision_secrets['file:/run/token'] }}\"\n" in host
    assert 'exec_start: !unsafe "/usr/bin/docker' in host


def test_an_inventory_can_be_written_over_another(tmp_path: Path) -> None:
    for _ in range(2):
        write_inventory(tmp_path, THE_FLEET, [plan(THE_FLEET)])
    assert len(list(tmp_path.rglob("*.yml"))) == 3


@pytest.mark.parametrize("text", [extra_variables("/proc/1/fd/3", Path("/runs/1/logs")), dump(SECRETS)])
def test_what_is_written_is_yaml_for_others_too(text: str) -> None:
    assert yaml.safe_load(text)


def test_extra_variables_say_where_secrets_are() -> None:
    assert extra_variables("/proc/1/fd/3", Path("/runs/1/logs")) == (
        "provision_secrets: \"{{ lookup('ansible.builtin.pipe', 'cat /proc/1/fd/3') | from_json }}\"\n"
        "vllm_image_control_log_dir: /runs/1/logs\n"
    )


def test_secret_references_once_each() -> None:
    assert secret_references([plan(THE_FLEET), plan(THE_FLEET)]) == ("file:/run/token", "env:API_KEY")
    assert secret_references([plan()]) == ()


def test_a_command_that_no_expression_can_spell_stands_beside_it(tmp_path: Path) -> None:
    command = r"""printf '%s' "it's \\" """.strip()
    the_fleet = fleet(server(api_key=f"command:{command}"))
    write_inventory(tmp_path, the_fleet, [plan(the_fleet)])
    found = yaml.safe_load((tmp_path / "group_vars" / "all.yml").read_text())
    (name,) = found["provision_secrets"]
    assert found == {
        "provision_secrets": {name: f"{{{{ lookup('ansible.builtin.pipe', provision_secret_sources['{name}']) }}}}"},
        "provision_secret_sources": {name: command},
    }
    assert f"provision_secrets['{name}']" in (tmp_path / "host_vars" / "gpu-01.yml").read_text()


@pytest.mark.parametrize(
    ("host", "ssh", "expected"),
    [
        (Host(name="gpu-01"), Ssh(), {}),
        (
            Host(name="gpu-01", address="10.0.0.1", port=2222, user="ops", identity_file=Path("/keys/my key")),
            Ssh(config=Path("/etc/my ssh/größe")),
            {
                "ansible_host": "10.0.0.1",
                "ansible_port": 2222,
                "ansible_user": "ops",
                "ansible_ssh_private_key_file": "/keys/my key",
                "ansible_ssh_common_args": "-F '/etc/my ssh/größe'",
            },
        ),
    ],
)
def test_connection_variables(host: Host, ssh: Ssh, expected: dict[str, Any]) -> None:
    the_fleet = fleet(ssh=ssh)
    assert connection(the_fleet, host) == expected | {"ansible_python_interpreter": "/usr/bin/python3"}
    files = {"ansible_ssh_private_key_file", "ansible_ssh_common_args"}
    elsewhere = connection(the_fleet, host, own_ssh=True)
    assert elsewhere == {key: value for key, value in expected.items() if key not in files} | {
        "ansible_python_interpreter": "/usr/bin/python3"
    }


def test_a_plan_of_every_host(tmp_path: Path) -> None:
    the_fleet = fleet(hosts=("a", "b", "c"))
    write_inventory(tmp_path, the_fleet, [plan(the_fleet, facts(name)) for name in ("c", "a")])
    assert list(yaml.safe_load((tmp_path / "hosts.yml").read_text())["all"]["hosts"]) == ["c", "a"]
    assert sorted(path.name for path in (tmp_path / "host_vars").iterdir()) == ["a.yml", "c.yml"]
