#!/usr/bin/python
"""Ansible module, read-only: what on this host is ours by its mark, and what stands in the way of taking things away.

Standard library alone apart from Ansible's own way in, so that `provision destroy` looks with the same code.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

DOCUMENTATION = r"""
module: removal_look
short_description: Look at what can be taken away from this host
options:
  record: {description: What M(host_record) has read., type: dict, required: true}
author: provision
"""

EXAMPLES = r"""
- name: Look at what can be taken away
  removal_look:
    record: "{{ host_record_read.record }}"
"""

RETURN = r"""
look: {description: "See look() of this module.", type: dict, returned: always}
"""

MARK = "# Written by provision"
UNITS = Path("/etc/systemd/system")
SECRETS = Path("/etc/vllm")
OWN = (
    "/var/lib/vllm/proofs",
    "/var/lib/vllm/benchmarks",
    "/var/lib/vllm/bundle",
    "/var/lib/vllm/release",
    "/var/lib/vllm/releases",
    "/run/vllm-provision",
)
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def look(record):
    """{"servers": [{"name", "unit", "secret_path"}], "own": [path], "docker": {...} or None, "manager": "apt" or "dnf",
    "needed_by": {package of ours: [packages]}, "sizes": {path: bytes}, "mounts": {path: [what is mounted in it]}};
    without a unit or a secret file its path is "".
    """
    parts = record["parts"].values()
    ours = [name for part in parts for name, was in part.get("packages", {}).items() if was["before"] is None]
    paths = [path for part in parts for path, was in part.get("paths", {}).items() if was in ("missing", "empty")]
    return {
        "servers": servers(UNITS, SECRETS),
        "own": [path for path in OWN if os.path.lexists(path)],
        "docker": docker(),
        "manager": "apt" if shutil.which("apt-get", path=PATH) else "dnf",
        "needed_by": {name: needed_by(name) for name in ours},
        "sizes": {path: size(path) for path in paths if os.path.lexists(path)},
        "mounts": {path: found for path in paths if (found := mounted(path, Path("/proc/mounts").read_text()))},
    }


def servers(units, secrets):
    """Servers whose unit or secret file bears our mark, by name."""
    found = {}
    for kind, folder, pattern in (("unit", units, r"vllm-(.+)\.service"), ("secret_path", secrets, r"(.+)\.env")):
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = re.fullmatch(pattern, file.name)
            if name and file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith(MARK):
                told = found.setdefault(name.group(1), {"name": name.group(1), "unit": "", "secret_path": ""})
                told[kind] = str(file)
    return [found[name] for name in sorted(found)]


def docker():
    """{"containers": [{"name", "image", "gpus"}], "volumes": [name], "images": [name]}; None where none answers."""
    if not run("docker", "version")[1]:
        return None
    ids = run("docker", "ps", "--all", "--quiet", "--no-trunc")[1].split()
    told = json.loads(run("docker", "container", "inspect", *ids)[1] or "[]") if ids else []
    containers = [
        {
            "name": one["Name"].lstrip("/"),
            "image": one["Image"],
            "gpus": bool(one["HostConfig"].get("DeviceRequests")) or one["HostConfig"].get("Runtime") == "nvidia",
        }
        for one in told
    ]
    images = run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")[1].split()
    return {"containers": containers, "volumes": run("docker", "volume", "ls", "--quiet")[1].split(), "images": images}


def needed_by(name):
    """Installed packages that could not stay without this one."""
    if shutil.which("dpkg", path=PATH):
        return dependents_of_dpkg(run("dpkg", "--simulate", "--purge", name)[2])
    return dependents_of_rpm(run("rpm", "--erase", "--test", name)[2])


def dependents_of_dpkg(text):
    """Names out of ` bar depends on libfoo.`"""
    return sorted(set(re.findall(r"^ (\S+?)(?::\S+)? (?:pre-)?depends on ", text, re.MULTILINE)))


def dependents_of_rpm(text):
    """Names out of `libfoo.so is needed by (installed) bar-1.0-2.x86_64`."""
    return sorted(set(re.findall(r"is needed by \(installed\) (\S+?)-[^-\s]+-[^-\s]+$", text, re.MULTILINE)))


def mounted(path, mounts):
    """Mount points at a path and below it; `mounts` is the text of /proc/mounts, where spaces are \\040."""
    points = [line.split()[1].replace("\\040", " ") for line in mounts.splitlines()]
    return sorted({point for point in points if f"{point}/".startswith(f"{path}/")})


def size(path):
    """Bytes on the disk; 0 where they cannot be counted."""
    told = run("du", "-skx", path)[1].split()
    return int(told[0]) * 1024 if told else 0


def run(*argv):
    """(exit code, stdout, stderr) of a program; 127 when it is not there."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": PATH}
    try:
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False, env=environment)
    except OSError as error:
        return 127, "", str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def main():
    """Ansible's way in."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(argument_spec={"record": {"type": "dict", "required": True}}, supports_check_mode=True)
    module.exit_json(changed=False, look=look(module.params["record"]))


if __name__ == "__main__":
    main()
