"""`provision render` and Ansible write the same bytes: the role's own templates and filters, run by Ansible itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from builders import RECIPE, facts, file
from plays import run_playbook

from provisioner.fleet.load import load_fleet
from provisioner.fleet.recipes import find_recipe
from provisioner.rollout.recorded import recorded_survey
from provisioner.rollout.rendered import write_rendered

ROOT = Path(__file__).parents[2]
FLEET = """\
docker: {registry_mirrors: ['https://mirror.example.com', 'https://x.example/{{1+1}}$(id)`id`%n"\\']}
hosts: [gpu-01]
servers:
  nemotron:
    recipe: nemotron-3-nano
    api_key: env:KEY
    mounts: ['/srv/with space:/data:ro']
    env: {A: '{{ lookup("pipe", "id") }}', B: "$(id) `id` $HOME %n %%", C: 'a " b', D: ''}
    extra_args: [--chat-template, '{{ 1 + 1 }}', --root-path, "it's a\\\\b #jinja2: x é €", '--response-role={% raw %}']
"""
PLAYBOOK = """\
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - name: Units
      ansible.builtin.template:
        src: "{{ role_folder }}/vllm_server/templates/vllm.service.j2"
        dest: "{{ out }}/{{ server.unit }}"
        mode: "0644"
      loop: "{{ vllm_server_list }}"
      loop_control: {loop_var: server}
    - name: daemon.json
      ansible.builtin.copy:
        dest: "{{ out }}/daemon.json"
        content: "{{ read.config | docker_engine_merge(docker_engine_config) | docker_engine_json }}"
        mode: "0644"
      vars:
        read: "{{ current | docker_engine_parse }}"
"""
CURRENT = '{"log-driver": "journald", "registry-mirrors": ["https://other.example.com"]}'


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """What `provision render --facts` writes."""
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    seen = facts(files=(file("/etc/docker/daemon.json", CURRENT),))
    fleet = load_fleet(tmp_path / "fleet.yaml")
    survey = recorded_survey(fleet, {RECIPE: find_recipe(RECIPE)}, {"gpu-01": seen})
    assert survey.unfit == ()
    assert write_rendered(tmp_path / "rendered", survey) == 3
    return tmp_path / "rendered"


def test_ansible_writes_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "site.yml").write_text(PLAYBOOK, encoding="utf-8")
    extra = {"out": str(out), "role_folder": str(ROOT / "roles"), "current": CURRENT}
    (tmp_path / "extra.yml").write_text(yaml.safe_dump(extra), encoding="utf-8")
    filters = str(ROOT / "roles/docker_engine/filter_plugins")
    words = ("-e", "@extra.yml", "-e", f"ansible_python_interpreter={sys.executable}", "site.yml")
    done = run_playbook(tmp_path, "-i", rendered / "inventory", *words, ANSIBLE_FILTER_PLUGINS=filters, KEY="sEcReT")
    assert done.returncode == 0, done.stdout + done.stderr
    files = rendered / "files/gpu-01/etc"
    unit = "vllm-nemotron.service"
    assert (out / unit).read_bytes() == (files / "systemd/system" / unit).read_bytes()
    assert (out / "daemon.json").read_bytes() == (files / "docker/daemon.json").read_bytes()


def test_of_a_secret_there_is_a_stand_in(rendered: Path) -> None:
    secret = rendered / "files/gpu-01/etc/vllm/nemotron.env"
    assert secret.read_text(encoding="utf-8").splitlines()[2:] == ["OPENAI_API_KEY=<env:KEY>", "VLLM_API_KEY=<env:KEY>"]
    assert secret.stat().st_mode & 0o777 == 0o600


def test_what_an_earlier_rendering_left_goes_away(rendered: Path, tmp_path: Path) -> None:
    old = rendered / "files/gpu-01/etc/systemd/system/vllm-old.service"
    old.write_text("old", encoding="utf-8")
    fleet = load_fleet(tmp_path / "fleet.yaml")
    write_rendered(rendered, recorded_survey(fleet, {RECIPE: find_recipe(RECIPE)}, {"gpu-01": facts()}))
    assert not old.exists()
