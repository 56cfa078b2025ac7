"""Every module that our roles use, under Mitogen's strategy and under Ansible's own: the same result from both.

Hosts are this machine, and what the modules are told to do leaves it as it is: files in a folder of the test, a
stand-in for Docker's engine, check mode. What cannot be asked so is in NOT_HERE, with the reason.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_engine import Engine
from plays import run_playbook

from provisioner import assets

SYSTEM_PYTHON = "/usr/bin/python3"
"""what hosts have: Debian's own modules need it"""
WORDS_OF_A_TASK = frozenset(
    """name register when loop loop_control changed_when failed_when check_mode no_log environment vars until retries
    delay ignore_errors block rescue always diff become tags module_defaults""".split()  # noqa: SIM905 - a page as a list
)
INCLUDES = frozenset(f"ansible.builtin.{name}" for name in ("import_tasks", "include_tasks", "include_role"))
SILENT = frozenset(("ansible.builtin.meta",))
"""answers nothing: what comes after it does"""
COMMITTED = {**os.environ, "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
VARIES = frozenset(
    """start end delta atime mtime ctime inode version dev src date cookies invocation warnings deprecations
    exception""".split()  # noqa: SIM905 - a page as a list
)
"""of a result: times, numbers and places of files, and what is not the module's"""


@dataclass(frozen=True)
class Asked:
    """One module and what it is asked. `@` stands for the folder of the run."""

    arguments: Any
    fails: str = ""
    """what it says where it must fail here, under both alike"""
    check: bool = False
    """in check mode"""
    debian: bool = False
    """by a host whose Python is the system's, as hosts' is: it alone has Debian's own modules. Mitogen cannot start a
    module again under another Python, as Ansible's apt does where it must."""


ENGINE = {"docker_host": "unix://{{ engine }}"}
HARMLESS: dict[str, Asked] = {
    "ansible.builtin.assert": Asked({"that": ["1 == 1"], "quiet": True}),
    "ansible.builtin.apt": Asked({"name": "base-files", "state": "present"}, check=True, debian=True),
    "ansible.builtin.command": Asked({"argv": ["sh", "-c", "echo said; echo größe >&2"]}),
    "ansible.builtin.copy": Asked({"content": "one\ntwo größe\n", "dest": "@/copied", "mode": "0640"}),
    "ansible.builtin.debug": Asked({"msg": "{{ ansible_play_hosts }}"}),
    "ansible.builtin.fail": Asked({"msg": "as it must"}, fails="as it must"),
    "ansible.builtin.fetch": Asked({"src": "@/there", "dest": "@/fetched/", "flat": True}),
    "ansible.builtin.file": Asked({"path": "@/folder/inner", "state": "directory", "mode": "0750"}),
    "ansible.builtin.find": Asked({"paths": "@/tree", "patterns": "*.conf", "contains": "deb .*"}),
    "ansible.builtin.git": Asked({"repo": "@/repository", "dest": "@/checkout", "version": "main"}),
    "ansible.builtin.group": Asked({"name": "no-such-group", "state": "absent"}),
    "ansible.builtin.import_tasks": Asked("@/more.yml"),
    "ansible.builtin.include_role": Asked({"name": "more"}),
    "ansible.builtin.include_tasks": Asked("@/more.yml"),
    "ansible.builtin.meta": Asked("reset_connection"),
    "ansible.builtin.package": Asked({"name": "base-files", "state": "present", "use": "apt"}, check=True, debian=True),
    "ansible.builtin.package_facts": Asked({"manager": "auto"}, check=True, debian=True),
    "ansible.builtin.set_fact": Asked({"told": "{{ 20 + 1 }}"}),
    "ansible.builtin.setup": Asked({"gather_subset": ["!all", "!min", "distribution", "pkg_mgr", "platform"]}),
    "ansible.builtin.shell": Asked("set -e; printf '%s' one | tr e E; exit 3", fails="non-zero return code"),
    "ansible.builtin.slurp": Asked({"src": "@/there"}),
    "ansible.builtin.stat": Asked({"path": "@/there", "checksum_algorithm": "sha256"}),
    "ansible.builtin.systemd_service": Asked({"name": "no-such.service", "state": "started"}, fails=".", check=True),
    "ansible.builtin.template": Asked({"src": "@/template.j2", "dest": "@/rendered", "mode": "0644"}),
    "ansible.builtin.uri": Asked({"url": "http://127.0.0.1:{{ answering_port }}/health", "return_content": True}),
    "ansible.builtin.yum_repository": Asked(
        {"name": "more", "description": "More", "baseurl": "http://127.0.0.1/", "reposdir": "@"}
    ),
    "community.docker.docker_container": Asked({"name": "no-such", "state": "absent", **ENGINE}, fails="."),
    "community.docker.docker_host_info": Asked({"images": True, **ENGINE}),
    "community.docker.docker_image_info": Asked({"name": "there:v1", **ENGINE}),
    "community.docker.docker_image_remove": Asked({"name": "sha256:none", **ENGINE}),
    "community.docker.docker_image_tag": Asked({"name": "there:v1", "repository": ["here:v2"], **ENGINE}),
    "host_record": Asked({"file": "@/installed.json", "part": "docker", "paths": ["@/there", "@/none"]}),
    "model_weights_download": Asked(
        {"repo": "o/m", "revision": "main", "image": "i:1", "cache_dir": "@/cache", "plugin_dir": "@/plugins"},
        check=True,
    ),
    "model_weights_place": Asked(
        {
            "repo": "o/m",
            "revision": "main",
            "commit": "c" * 40,
            "folder": "@/model",
            "cache_dir": "@/cache",
            "plugin_dir": "@/plugins",
        }
    ),
    "removal_look": Asked({"record": {"parts": {}}}),
    "vllm_image_archive": Asked({"path": "@/archive.tar"}),
    "vllm_image_job": Asked({"name": "pull", "state": "started", "log": "@/job.log", "program": "true"}, check=True),
    "vllm_server_facts": Asked({"unit": "no-such.service", "container": "none", "image": "none"}),
}
NOT_HERE = {
    "ansible.builtin.deb822_repository": "needs python3-debian, which hosts get first, and writes to /etc/apt",
    "ansible.builtin.dnf": "needs a system with dnf",
    "ansible.posix.firewalld": "needs firewalld and its Python",
    "community.general.ufw": "needs ufw",
}


def used() -> dict[str, set[str]]:
    """By module: the files of roles and playbooks that use it."""
    found: dict[str, set[str]] = {}
    root = assets.ansible_dir()
    for file in sorted([*root.glob("roles/*/tasks/*.yml"), *root.glob("roles/*/handlers/*.yml")]):
        for task in _tasks(yaml.load(file.read_text(), _Loader)):  # noqa: S506 - our own files, texts alone
            for module in task.keys() - WORDS_OF_A_TASK:
                found.setdefault(module, set()).add(str(file.relative_to(root)))
    return found


class _Loader(yaml.SafeLoader):
    """Takes Ansible's own tags for texts."""


_Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


def _tasks(given: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
    for task in given or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from _tasks(task.get(part))


def test_every_module_of_the_roles_is_here_or_has_a_reason() -> None:
    assert HARMLESS.keys() & NOT_HERE.keys() == set()
    modules = used()
    unknown = {name: sorted(modules[name]) for name in modules.keys() - HARMLESS.keys() - NOT_HERE.keys()}
    assert unknown == {}, "ask them in HARMLESS, or say in NOT_HERE why not"
    assert (HARMLESS.keys() | NOT_HERE.keys()) - modules.keys() == set(), "no role uses them any more"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By strategy and module: what it answered."""
    return {strategy: _run(strategy, tmp_path_factory.mktemp(strategy)) for strategy in ("linear", "mitogen_free")}


@pytest.mark.parametrize("module", sorted(HARMLESS.keys() - SILENT))
def test_both_strategies_give_the_same(module: str, results: dict[str, dict[str, Any]]) -> None:
    if HARMLESS[module].debian and subprocess.run([SYSTEM_PYTHON, "-c", "import apt"], check=False).returncode:
        pytest.skip(f"{SYSTEM_PYTHON} of this machine has no apt")
    plain, quick = results["linear"][module], results["mitogen_free"][module]
    fails = HARMLESS[module].fails
    assert bool(plain.get("failed")) == bool(fails), plain
    if fails and fails != ".":
        assert fails in plain["msg"]
    assert quick == plain


def _run(strategy: str, folder: Path) -> dict[str, Any]:
    _prepare(folder)
    plays, answers = [], {}
    for host, python in (("gpu-01", sys.executable), ("debian", SYSTEM_PYTHON)):
        tasks: list[dict[str, Any]] = []
        for number, (module, asked) in enumerate(HARMLESS.items()):
            if asked.debian is (host == "debian"):
                tasks.append(_task(number, module, asked, folder))
                answers[module] = f"{{{{ hostvars['{host}'].answer{number} | default(none) }}}}"
        variables = {"ansible_python_interpreter": python}
        plays.append({"name": host, "hosts": host, "gather_facts": False, "vars": variables, "tasks": tasks})
    answers |= {module: {"included": f"{{{{ '{module}' in hostvars['gpu-01'].included }}}}"} for module in INCLUDES}
    keep = {"content": "{{ answers | to_json }}", "dest": str(folder / "answers.json"), "mode": "0600"}
    tasks = [{"name": "Keep the answers", "ansible.builtin.copy": keep, "vars": {"answers": answers}}]
    # on the host whose connection was reset
    variables = {"ansible_python_interpreter": sys.executable}
    plays.append({"name": "Answers", "hosts": "gpu-01", "gather_facts": False, "vars": variables, "tasks": tasks})
    (folder / "playbook.yml").write_text(json.dumps(plays))
    with Engine(folder) as engine, _answering() as port:
        engine.have("there:v1")
        done = _ansible(strategy, folder, {"engine": str(engine.socket), "answering_port": port})
    assert (folder / "answers.json").is_file(), f"{strategy}:\n{done}"
    told = json.loads((folder / "answers.json").read_text().replace(str(folder), "@").replace(f":{port}", ":0"))
    return {name: _lasting(answer) for name, answer in told.items()}


def _task(number: int, module: str, asked: Asked, folder: Path) -> dict[str, Any]:
    arguments = json.loads(json.dumps(asked.arguments).replace("@", str(folder)))
    task = {"name": module, module: arguments, "ignore_errors": True}
    if asked.check:
        task["check_mode"] = True
    if module in INCLUDES:
        return {**task, "vars": {"mark": module}}
    return task if module in SILENT else {**task, "register": f"answer{number}"}


def _prepare(folder: Path) -> None:
    """What modules are to find."""
    more = [{"name": "More", "ansible.builtin.set_fact": {"included": "{{ included | default([]) + [mark] }}"}}]
    for file, text in {
        "there": "content\n",
        "tree/a.conf": "deb http://127.0.0.1 x main\n",
        "tree/b.conf": "nothing\n",
        "template.j2": "{{ 20 + 1 }} größe\n",
        "more.yml": json.dumps(more),
        "roles/more/tasks/main.yml": json.dumps(more),
        "model/config.json": "{}",
    }.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    with tarfile.open(folder / "archive.tar", "w") as archive:
        archive.add(folder / "there", "manifest.json")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "main"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        (folder / "repository").mkdir(exist_ok=True)
        subprocess.run(["git", *words], cwd=folder / "repository", env=COMMITTED, check=True)


def _ansible(strategy: str, folder: Path, variables: Mapping[str, Any]) -> str:
    libraries = [str(path) for path in sorted((assets.ansible_dir() / "roles").glob("*/library"))]
    environment = {
        "DOCKER_HOST": f"unix://{variables['engine']}",
        "ANSIBLE_LIBRARY": os.pathsep.join(libraries),
        "ANSIBLE_ROLES_PATH": str(folder / "roles"),
    }
    words = ("-i", "gpu-01,debian", "-c", "local", "-e", json.dumps(variables), "playbook.yml")
    done = run_playbook(folder, *words, strategy=strategy, **environment)
    return done.stdout + done.stderr


@contextmanager
def _answering() -> Iterator[int]:
    """The port of a server on loopback that is well."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def _lasting(answer: Any) -> Any:
    """What must be the same each time."""
    if isinstance(answer, dict):
        return {key: _lasting(value) for key, value in answer.items() if key not in VARIES}
    return [_lasting(one) for one in answer] if isinstance(answer, list) else answer
