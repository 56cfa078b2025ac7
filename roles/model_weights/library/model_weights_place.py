#!/usr/bin/python
"""Ansible module: a model, or one file of it, from a folder of the host into the cache, as a download leaves it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: model_weights_place
short_description: Place files of a model repository that are on the host already
description:
  - Files are linked where the cache is on the same file system, else copied. The folder stays as it is.
  - A marker says that the model is complete, as after a download.
options:
  repo: {description: Model repository., type: str, required: true}
  revision: {description: Branch or tag or commit that is asked for., type: str, required: true}
  commit: {description: Commit that the files are of., type: str, required: true}
  folder: {description: Where they lie, named as in the repository., type: str, required: true}
  file: {description: One file of the repository in place of all of it., type: str, default: ""}
  cache_dir: {description: HF_HOME., type: str, required: true}
  plugin_dir: {description: Where a single file is placed., type: str, required: true}
author: provision
"""

EXAMPLES = r"""
- name: Place a model
  model_weights_place:
    repo: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
    revision: main
    commit: 0123456789abcdef0123456789abcdef01234567
    folder: /mnt/models/nano
    cache_dir: /var/lib/vllm/huggingface
    plugin_dir: /var/lib/vllm/plugins
"""

RETURN = r"""
path: {description: Where the model or the file is now., type: str, returned: always}
"""


def place_model(repo, revision, commit, folder, cache_dir):
    """The snapshot's path and whether anything was done."""
    home = Path(cache_dir) / "hub" / ("models--" + repo.replace("/", "--"))
    snapshot = home / "snapshots" / commit
    marker = Path(cache_dir) / ".provision" / (repo.replace("/", "--") + ".json")
    told = {"repo": repo, "revision": revision, "commit": commit}
    if snapshot.is_dir() and read(marker) == told:
        return snapshot, False
    if not snapshot.is_dir():
        fresh = snapshot.with_name(f".{commit}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        for path in sorted(Path(folder).rglob("*")):
            # what a hub's client leaves beside the files of a model is no part of it
            if path.is_file() and ".cache" not in path.relative_to(folder).parts:
                link(path, fresh / path.relative_to(folder))
        fresh.rename(snapshot)
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        (home / "refs").mkdir(parents=True, exist_ok=True)
        write(home / "refs" / revision, commit)
    write(marker, json.dumps(told) + "\n")
    return snapshot, True


def place_file(repo, revision, commit, folder, file, plugin_dir):
    """The file's path and whether anything was done."""
    placed = Path(plugin_dir) / Path(file).name
    marker = Path(plugin_dir) / ".provision" / f"{placed.name}.json"
    content = (Path(folder) / Path(file).name).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    told = {"repo": repo, "revision": revision, "file": file, "commit": commit, "sha256": sha256}
    if placed.is_file() and placed.read_bytes() == content and read(marker) == told:
        return placed, False
    placed.parent.mkdir(parents=True, exist_ok=True)
    fresh = placed.with_name(f".{placed.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.rename(placed)
    write(marker, json.dumps(told) + "\n")
    return placed, True


def link(source, target):
    """The same file under another name; a copy of it on another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(str(source), str(target))
    except OSError:
        shutil.copyfile(str(source), str(target))


def read(path):
    """A JSON file; None without one that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write(path, text):
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(path)


def main():
    """Ansible's way in."""
    names = ("repo", "revision", "commit", "folder", "cache_dir", "plugin_dir")
    module = AnsibleModule(
        argument_spec={
            **{name: {"type": "str", "required": True} for name in names},
            "file": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False, path="")
    given = [params[name] for name in ("repo", "revision", "commit", "folder")]
    try:
        if params["file"]:
            path, changed = place_file(*given, params["file"], params["plugin_dir"])
        else:
            path, changed = place_model(*given, params["cache_dir"])
    except OSError as error:
        module.fail_json(msg=f"{params['repo']} cannot be placed from {params['folder']}: {error}")
    module.exit_json(changed=changed, path=str(path))


if __name__ == "__main__":
    main()
