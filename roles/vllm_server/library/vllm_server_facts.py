#!/usr/bin/python
"""Ansible module, read-only: a server's container, image, unit and whoever else holds its port."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: vllm_server_facts
short_description: Look at one vLLM server of this host
description:
  - One look in place of six tasks. Changes nothing.
options:
  unit: {description: Name of the unit., type: str, required: true}
  container: {description: Name of the container., type: str, required: true}
  image: {description: Reference of the image., type: str, required: true}
  argv: {description: What the container must run; empty for no look., type: list, elements: str, default: []}
  port: {description: TCP port; 0 for no look., type: int, default: 0}
author: provision
"""

EXAMPLES = r"""
- name: Look at a server
  vllm_server_facts:
    unit: vllm-nemotron.service
    container: vllm-nemotron
    image: vllm/vllm-openai:v0.12.0
    port: 8000
"""

RETURN = r"""
running: {description: Whether the container runs., type: bool, returned: always}
current:
  description: Whether the container runs the image that the reference names now, with the arguments that it must have.
  type: bool
  returned: always
needs_reload: {description: Whether the unit's file changed since systemd read it., type: bool, returned: always}
container_image_id: {description: Image of the container; empty without one., type: str, returned: always}
image_id: {description: Image that the reference names now; empty without one., type: str, returned: always}
load_state: {description: The unit's LoadState., type: str, returned: always}
active_state: {description: The unit's ActiveState., type: str, returned: always}
address: {description: Where the running server is reached on its host; or empty., type: str, returned: always}
port_holder: {description: Who else listens on the port; empty for nobody., type: str, returned: always}
"""


def parse_unit(text):
    """`systemctl show` → dict of its properties."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_container(text):
    """`docker container inspect` → {"id", "running", "image_id", "argv"}; everything empty without a container."""
    try:
        found = json.loads(text)
    except ValueError:
        found = []
    if not found:
        return {"id": "", "running": False, "image_id": "", "argv": []}
    seen = found[0]
    running = bool(seen["State"]["Running"])
    return {"id": seen["Id"], "running": running, "image_id": seen["Image"], "argv": seen.get("Args") or []}


def address(argv):
    """Where a server with these arguments is reached from its own host (vLLM's defaults: every address, port 8000)."""
    host, port = flag(argv, "--host") or "0.0.0.0", flag(argv, "--port") or "8000"  # noqa: S104  compared, not bound
    host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def flag(argv, name):
    """Value of the last `NAME VALUE` or `NAME=VALUE`; "" without one."""
    found = ""
    for index, word in enumerate(argv):
        if word == name:
            found = argv[index + 1] if index + 1 < len(argv) else ""
        elif word.startswith(name + "="):
            found = word.partition("=")[2]
    return found


def parse_listeners(text):
    """`ss -Hltnp` → list of (process name, pid or None) that listen."""
    listeners = []
    for line in text.splitlines():
        processes = re.findall(r'\("([^"]*)",pid=(\d+)', line)
        listeners.extend((name, int(pid)) for name, pid in processes)
        if line.strip() and not processes:
            listeners.append(("unknown process", None))
    return listeners


def holder(listeners, publishers, container, container_id, cgroup_of):
    """Who holds the port and is not our container; "" for nobody.

    `publishers`: names of the containers that publish the port. `cgroup_of(pid)`: text of /proc/PID/cgroup, which
    holds the container's id for a server on the host's network.
    """
    others = [name for name in publishers if name != container]
    if others:
        return "container " + ", ".join(others)
    if container in publishers:
        return ""
    for name, pid in listeners:
        if pid is None or not container_id or container_id not in cgroup_of(pid):
            return name if pid is None else f"{name} (pid {pid})"
    return ""


def read_cgroup(pid):
    """Text of /proc/PID/cgroup; "" for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""


def main():
    """Ansible's way in."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "container": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "argv": {"type": "list", "elements": "str", "default": []},
            "port": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params

    def output(*argv):
        """stdout of a program; "" when it fails or is not there (a host that has nothing yet)."""
        if not module.get_bin_path(argv[0]):
            return ""
        code, out, _ = module.run_command(list(argv))
        return out if code == 0 else ""

    wanted = "--property=LoadState,ActiveState,SubState,Result,NeedDaemonReload"
    unit = parse_unit(output("systemctl", "show", params["unit"], wanted))
    container = parse_container(output("docker", "container", "inspect", params["container"]))
    image_id = output("docker", "image", "inspect", "--format", "{{.Id}}", params["image"]).strip()
    as_it_must = container["image_id"] == image_id and params["argv"] in ([], container["argv"])
    port_holder = ""
    if params["port"]:
        listeners = parse_listeners(output("ss", "-Hltnp", f"sport = :{params['port']}"))
        if listeners:
            names = output("docker", "ps", "--filter", f"publish={params['port']}", "--format", "{{.Names}}").split()
            port_holder = holder(listeners, names, params["container"], container["id"], read_cgroup)
    module.exit_json(
        changed=False,
        running=container["running"],
        current=container["running"] and as_it_must,
        container_image_id=container["image_id"],
        image_id=image_id,
        load_state=unit.get("LoadState", ""),
        active_state=unit.get("ActiveState", ""),
        sub_state=unit.get("SubState", ""),
        result=unit.get("Result", ""),
        needs_reload=unit.get("NeedDaemonReload") == "yes",
        address=address(container["argv"]) if container["running"] else "",
        port_holder=port_holder,
    )


if __name__ == "__main__":
    main()
