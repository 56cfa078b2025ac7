"""Our half of Ansible against Ansible itself: `apply` runs a small playbook on this machine, as it would run site.yml.

Nothing here needs root or a network: hosts are this machine, one of them behind a closed port of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders import facts, plan, server
from builders import fleet as fleet_of

from provisioner import assets
from provisioner.apply import play
from provisioner.apply.runner import HostResult, apply
from provisioner.fleet.models import Fleet, Host, Hub
from provisioner.history.events import Event
from provisioner.plan import render
from provisioner.plan.model import HostPlan

SECRETS = {
    "env:API_KEY": "planted-api-key {{ 1 + 1 }}",
    "command:printf '%s' hf_x": "planted-hub-token",
}
PLAYBOOK = """
- name: A stand-in for site.yml
  hosts: all
  gather_facts: false
  vars:
    ansible_connection: "{{ 'ssh' if inventory_hostname == 'lost' else 'local' }}"
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    roles: "{{ playbook_dir }}/../roles"
    out: "{{ playbook_dir }}/../out/{{ inventory_hostname }}"
  tasks:
    - name: Folder
      ansible.builtin.file: {path: "{{ out }}", state: directory, mode: "0755"}
    - name: Units
      ansible.builtin.template:
        src: "{{ roles }}/vllm_server/templates/vllm.service.j2"
        dest: "{{ out }}/{{ server.unit }}"
        mode: "0644"
      loop: "{{ vllm_server_list }}"
      loop_control: {loop_var: server}
    - name: Secrets
      ansible.builtin.template:
        src: "{{ roles }}/vllm_server/templates/secrets.env.j2"
        dest: "{{ out }}/{{ item.key }}.env"
        mode: "0600"
      vars: {secrets: "{{ item.value }}"}
      loop: "{{ vllm_server_secrets | dict2items }}"
      no_log: true
      diff: false
    - name: Token
      ansible.builtin.copy: {content: "{{ model_weights_token }}", dest: "{{ out }}/token", mode: "0600"}
      no_log: true
      diff: false
    - name: Ignored
      ansible.builtin.fail: {msg: of no account}
      ignore_errors: true
    - name: Rescued
      block:
        - name: Trips
          ansible.builtin.fail: {msg: caught}
      rescue:
        - name: Recovers
          ansible.builtin.debug: {msg: fine}
    - name: Check the image
      ansible.builtin.command: {argv: [sh, -c, "echo said; echo why >&2; exit 3"]}
      changed_when: false
      when: inventory_hostname == 'broken'
"""


@dataclass(frozen=True)
class Ran:
    run_dir: Path
    out: Path
    plans: tuple[HostPlan, ...]
    results: dict[str, HostResult]
    events: list[Event]


@pytest.fixture(scope="module")
def ansible_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real roles with a playbook of ours in place of site.yml."""
    folder = tmp_path_factory.mktemp("ansible")
    (folder / "playbooks").mkdir()
    (folder / "playbooks" / "site.yml").write_text(PLAYBOOK)
    (folder / "roles").symlink_to(assets.ansible_dir() / "roles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "ansible_dir", lambda: folder)
        patch.setenv("HF_TOKEN", "planted-in-the-environment")
        yield folder


def fleet() -> Fleet:
    """Values with everything that a template or systemd could take for its own."""
    settings = {
        "env": {"ODD": '{{ 7 * 6 }} $HOME %h "it\'s" größe \\ #jinja2:'},
        "extra_args": ("--chat-template", "{% if x %}\u2028{# y #}"),
        "api_key": "env:API_KEY",
    }
    made = fleet_of(server(**settings), hub=Hub(token="command:printf '%s' hf_x"), hosts=("well", "broken"))
    lost = Host(name="lost", address="127.0.0.1", port=1, user="nobody")
    return made.model_copy(update={"hosts": (*made.hosts, lost)})


@pytest.fixture(scope="module", params=["mitogen_free"])
def ran(request: pytest.FixtureRequest, ansible_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    run_dir = tmp_path_factory.mktemp("run")
    the_fleet, events = fleet(), list[Event]()
    plans = tuple(plan(the_fleet, facts(host.name)) for host in the_fleet.hosts)
    results = apply(
        run_dir,
        the_fleet,
        plans,
        SECRETS,
        on_event=events.append,
        interrupted=lambda: False,
        strategy=request.param,
    )
    return Ran(run_dir, ansible_dir / "out", plans, {result.host: result for result in results}, events)


def test_a_host_that_is_well(ran: Ran) -> None:
    assert ran.results["well"] == HostResult(host="well", state="ok", changed=4)


def test_a_host_that_fails_says_why(ran: Ran) -> None:
    result = ran.results["broken"]
    assert (result.state, result.changed) == ("failed", 4)
    # the words between are ansible-core's own: 2.19 and 2.20 say the first, 2.21 the second
    assert result.message in {
        "Check the image: non-zero return code\nwhy\nsaid",
        "Check the image: The command exited with a non-zero return code.\nwhy\nsaid",
    }


def test_a_host_that_cannot_be_reached_holds_up_no_other(ran: Ran) -> None:
    result = ran.results["lost"]
    assert (result.state, result.changed) == ("unreachable", 0)
    assert result.message.startswith("lost during “Folder”: ")


def test_events_tell_what_happens(ran: Ran) -> None:
    of_well = [(event.task, event.status) for event in ran.events if event.host == "well"]
    assert [one for one in of_well if one[1] == "changed"] == [("Folder", "changed"), ("Units", "changed")]
    assert ("Token", "ok") in of_well  # no_log hides whether it changed something
    assert ("Units", "running") in of_well
    assert ("Ignored", "failed") not in of_well
    assert ("Recovers", "ok") in of_well
    assert {event.phase for event in ran.events} == {"apply"}


@pytest.mark.parametrize("host", ["well", "broken"])
def test_ansible_and_the_plan_render_the_same_bytes(ran: Ran, host: str) -> None:
    of_host = next(one for one in ran.plans if one.host == host).servers[0]
    assert (ran.out / host / of_host.unit).read_bytes() == of_host.unit_file.content.encode()
    assert of_host.secret_file is not None
    text = render.secrets_text({key: SECRETS[ref] for key, ref in of_host.secret_file.entries.items()})
    assert (ran.out / host / "nemotron.env").read_bytes() == text.encode()
    assert (ran.out / host / "token").read_text() == "planted-hub-token"


def test_no_secret_is_left_in_the_run_directory(ran: Ran) -> None:
    files = [path for path in ran.run_dir.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if b"planted" in path.read_bytes()] == []


def test_a_check_changes_nothing_and_says_what_would(ansible_dir: Path, tmp_path: Path) -> None:
    the_fleet, out = fleet_of(server(), hosts=("well",)), ansible_dir / "out"
    shutil.rmtree(out, ignore_errors=True)
    (out / "well").mkdir(parents=True)
    (only,) = apply(
        tmp_path,
        the_fleet,
        [plan(the_fleet, facts("well"))],
        {},
        on_event=lambda _: None,
        interrupted=lambda: False,
        check=True,
    )
    assert list((out / "well").iterdir()) == []
    assert (only.state, only.message) == ("ok", "")
    assert [one.task for one in only.would] == ["Units"]  # Ansible tells nothing of tasks that are not logged
    lines = only.would[0].diff.splitlines()
    assert "+ExecStart=" in only.would[0].diff
    assert lines[0].startswith("--- before")
    shutil.rmtree(out)


def test_an_interrupted_run_says_so(ansible_dir: Path, tmp_path: Path) -> None:
    the_fleet = fleet_of(server(), hosts=("well",))
    shutil.rmtree(ansible_dir / "out", ignore_errors=True)
    results = apply(
        tmp_path,
        the_fleet,
        [plan(the_fleet, facts("well"))],
        {},
        on_event=lambda _: None,
        interrupted=lambda: True,
        strategy="linear",
    )
    assert [(result.host, result.state) for result in results] == [("well", "interrupted")]


def test_a_run_that_goes_without_mitogen_tells_why(
    ansible_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ansible_dir.is_dir()
    monkeypatch.setattr(play, "_mitogen_plugins", lambda: None)
    the_fleet, events = fleet_of(server(), hosts=("well",)), list[Event]()
    plans = [plan(the_fleet, facts("well"))]
    (only,) = apply(
        tmp_path, the_fleet, plans, {}, on_event=events.append, interrupted=lambda: False, strategy="mitogen_free"
    )
    assert only.state == "ok"
    why = "Ansible goes through the hosts in its own, slower way: mitogen is not installed"
    assert (events[0].host, events[0].phase, events[0].task) == ("well", "apply", why)
