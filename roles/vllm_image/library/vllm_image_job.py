#!/usr/bin/python
"""Ansible module: a long docker command as a job of the host, started and waited for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: vllm_image_job
short_description: Pull, build or load an image as a job of the host
description:
  - Docker's modules say nothing before they end, and what they do ends with the connection. A job is a transient
    systemd unit, which does not mind a lost connection; whoever starts it again while it runs joins it.
  - C(started) starts it and returns. C(waited) waits for a sign of life and says how far it is, or how it ended.
options:
  name: {description: Name of the systemd unit., type: str, required: true}
  state: {description: What to do., type: str, choices: [started, waited], required: true}
  log: {description: File of the host that gets everything that the command says., type: path, required: true}
  program: {description: Text of the program that runs the command., type: str, default: ""}
  pipe:
    description: Argument lists of programs; each reads what the one before it writes.
    type: list
    elements: list
    default: []
  environment: {description: Environment of the programs., type: dict, default: {}}
  logins:
    description: Logins of registries, for these programs alone.
    type: list
    elements: dict
    default: []
    suboptions:
      registry: {description: The registry., type: str, required: true}
      username: {description: Who asks., type: str, required: true}
      password: {description: Password or token., type: str, required: true}
  attempts: {description: How often to try., type: int, default: 1}
  final: {description: Regular expression of words after which trying again is in vain., type: str, default: ""}
  timeout_s: {description: Seconds that all attempts may take together., type: int, default: 21600}
  wait_s: {description: Seconds to wait for the end., type: int, default: 10}
  notice: {description: "What it means when it fails, where that is no failure of the run.", type: str, default: ""}
author: provision
"""

EXAMPLES = r"""
- name: Start to pull
  vllm_image_job:
    name: vllm-image-1
    state: started
    log: /var/log/vllm/vllm-image-1.log
    program: "{{ lookup('ansible.builtin.file', 'fetch.py') }}"
    pipe: [[docker, pull, "vllm/vllm-openai:v0.12.0"]]

- name: Pull
  vllm_image_job:
    name: vllm-image-1
    state: waited
    log: /var/log/vllm/vllm-image-1.log
  register: job
  until: job.finished
  retries: 100
  delay: 0
"""

RETURN = r"""
finished: {description: Whether the job has ended., type: bool, returned: always}
rc: {description: Its exit code; -1 where there is none., type: int, returned: when it has ended}
progress: {description: How far it is., type: str, returned: waited}
output: {description: The end of its log., type: str, returned: when it has ended}
logins: {description: "By registry: who asks.", type: dict, returned: started}
notice: {description: "The notice, with the job's last words.", type: str, returned: when it failed and there is one}
"""

MARK = "provision: "
POLL_S = 0.5
LAST_BYTES = 65536
LAST_LINES = 60
ALIVE = ("active", "activating", "reloading", "deactivating")
REASONS = {None: "it was not done in time", -1: "it was ended from outside"}


def request_of(params):
    """What the program is told."""
    keys = ("log", "pipe", "environment", "logins", "attempts", "final", "timeout_s")
    return {key: params[key] for key in keys}


def stdin_of(program, request):
    """The program and its call, as Python reads them from its standard input."""
    return f"{program}\n\nmain(json.loads({json.dumps(request)!r}))\n"


def unit_argv(name, stdin, timeout_s, python):
    """`systemd-run` of the job. Its runtime directory is in memory, root's alone, and gone with it however it ends."""
    argv = ["systemd-run", "--quiet", "--collect", "--unit=" + name, "--service-type=exec"]
    argv += ["--property=RuntimeDirectory=" + name, "--property=RuntimeDirectoryMode=0700"]
    argv += [f"--property=RuntimeMaxSec={timeout_s + 60}", "--property=StandardInput=file:" + stdin]
    return [*argv, "--", python, "-I", "-"]


def is_alive(name):
    """Whether the unit of the job is there and has not ended."""
    asked = ["systemctl", "show", "--property=ActiveState", "--value", name + ".service"]
    return subprocess.run(asked, check=False, stdout=subprocess.PIPE).stdout.decode().strip() in ALIVE


def start(params):
    """Start the unit. "" when that went well, else why not."""
    text = stdin_of(params["program"], request_of(params)).encode("utf-8")
    memory = os.memfd_create("vllm-image-job")
    try:
        with os.fdopen(os.dup(memory), "wb") as stream:
            stream.write(text)
        place = f"/proc/{os.getpid()}/fd/{memory}"
        argv = unit_argv(params["name"], place, params["timeout_s"], sys.executable)
        # returns when the program has been started: it has the file open then
        done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        return str(error)
    finally:
        os.close(memory)
    return done.stdout.decode("utf-8", "replace").strip() or f"exit {done.returncode}" if done.returncode else ""


def log_end(path):
    """The end of the log."""
    try:
        with Path(path).open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - LAST_BYTES))
            return stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def ended(text):
    """(exit code, words) of a log whose job is over. A job that was ended from outside has not written how."""
    lines = text.rstrip("\n").split("\n")
    words = "\n".join(line for line in lines if not line.startswith(MARK))
    if not lines[-1].startswith(MARK):
        return -1, "\n".join([words.strip(), REASONS[-1]]).strip()
    told = json.loads(lines[-1][len(MARK) :])
    code, reason = told["rc"], told.get("error") or REASONS.get(told["rc"], "")
    return (-1 if code is None else code), "\n".join(filter(None, [words.strip(), reason]))


def progress(text):
    """How far a job is: layers of a pull, else its last line."""
    here = re.findall(r"^([0-9a-f]{12}): (?:Already exists|Pull complete)", text, re.MULTILINE)
    known = re.findall(r"^([0-9a-f]{12}): ", text, re.MULTILINE)
    if known:
        return f"{len(set(here))} of {len(set(known))} layers"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(MARK)]
    return lines[-1][:160] if lines else ""


def wait(params):
    """The job's end, or how far it is after `wait_s` seconds."""
    end = time.monotonic() + params["wait_s"]
    while is_alive(params["name"]):
        if time.monotonic() >= end:
            return {"changed": False, "finished": False, "progress": progress(log_end(params["log"]))}
        time.sleep(POLL_S)
    text = log_end(params["log"])
    code, words = ended(text)
    output = "\n".join(words.splitlines()[-LAST_LINES:])
    told = {"changed": code == 0, "finished": True, "rc": code, "progress": progress(text), "output": output}
    if code and params["notice"]:
        told["notice"] = f"{params['notice']}: {output.splitlines()[-1] if output else 'no reason given'}"
    return told


def main():
    """Ansible's way in."""
    login = {"registry": {"type": "str", "required": True}, "username": {"type": "str", "required": True}}
    login["password"] = {"type": "str", "required": True, "no_log": True}
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "required": True, "choices": ["started", "waited"]},
            "log": {"type": "path", "required": True},
            "program": {"type": "str", "default": ""},
            "pipe": {"type": "list", "elements": "list", "default": []},
            "environment": {"type": "dict", "default": {}},
            "logins": {"type": "list", "elements": "dict", "options": login, "default": []},
            "attempts": {"type": "int", "default": 1},
            "final": {"type": "str", "default": ""},
            "timeout_s": {"type": "int", "default": 21600},
            "wait_s": {"type": "int", "default": 10},
            "notice": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["state"] == "waited":
        module.exit_json(**wait(params))
    logins = {one["registry"]: one["username"] for one in params["logins"]}
    if module.check_mode or is_alive(params["name"]):
        module.exit_json(changed=module.check_mode, finished=False, logins=logins)
    log = Path(params["log"])
    log.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    problem = start(params)
    if problem:
        told = {"rc": -1, "error": f"systemd did not start {params['name']}: {problem}"}
        log.write_text(MARK + json.dumps(told) + "\n", encoding="utf-8")
    module.exit_json(changed=True, finished=bool(problem), logins=logins)


if __name__ == "__main__":
    main()
