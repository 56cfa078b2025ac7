#!/usr/bin/python
"""Ansible module, read-only: what is in an archive of images, read without loading it."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: vllm_image_archive
short_description: Look into a tar archive of images
description:
  - Reads an archive that C(docker save) or another tool wrote in its format, once from its beginning to its end.
  - Looking first matters, because C(docker load) takes every name in an archive away from the image that has it.
options:
  path: {description: The archive on the host., type: path, required: true}
author: provision
"""

EXAMPLES = r"""
- name: Look into an archive
  vllm_image_archive:
    path: /mnt/images/vllm.tar.zst
"""

RETURN = r"""
compression: {description: How it is compressed; empty for not at all., type: str, returned: always}
missing: {description: Program that reads it and is not on the host; empty for none., type: str, returned: always}
images:
  description: The images in it.
  type: list
  elements: dict
  returned: always
  contains:
    names: {description: Names of the image., type: list, elements: str}
    platform: {description: "What it is for: os/architecture.", type: str}
problem: {description: Why it cannot be read; empty when it can., type: str, returned: always}
"""

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
LARGEST = 4 << 20  # of a manifest or an image's configuration; layers are larger, or are no JSON


def compression(path):
    """How a file is compressed, by its first bytes."""
    with Path(path).open("rb") as stream:
        head = stream.read(6)
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def documents(stream, mode):
    """By name: every member of a tar that is JSON and small. Members come in any order, the manifest often last."""
    found = {}
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for member in archive:
            if not member.isfile() or not 0 < member.size <= LARGEST:
                continue
            content = archive.extractfile(member).read()
            if content[:1] not in (b"{", b"["):
                continue
            try:
                found[re.sub(r"^\./", "", member.name)] = json.loads(content.decode("utf-8"))
            except ValueError:
                continue
    return found


def images(found):
    """The images of an archive's JSON documents. ValueError for what is no archive of images."""
    if not isinstance(found.get("manifest.json"), list):
        raise ValueError("it has no manifest.json")
    told = []
    for entry in found["manifest.json"]:
        config = found.get(entry.get("Config", ""))
        if not isinstance(config, dict):
            raise ValueError(f"it lacks the configuration of {', '.join(entry.get('RepoTags') or ['an image'])}")
        platform = f"{config.get('os', '?')}/{config.get('architecture', '?')}"
        told.append({"names": entry.get("RepoTags") or [], "platform": platform})
    return told


def read(path, how):
    """The images of an archive. ValueError when it cannot be read."""
    if how != "zstd":
        with Path(path).open("rb") as stream:
            return images(documents(stream, "r:" if how == "" else "r|" + {"gzip": "gz", "bzip2": "bz2"}.get(how, how)))
    with subprocess.Popen(["zstd", "-dcq", "--", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            found = documents(process.stdout, "r|")
        finally:
            process.kill()
    return images(found)


def main():
    """Ansible's way in."""
    module = AnsibleModule(argument_spec={"path": {"type": "path", "required": True}}, supports_check_mode=True)
    path = module.params["path"]
    answer = {"compression": "", "missing": "", "images": [], "problem": ""}
    try:
        answer["compression"] = how = compression(path)
        if how == "zstd" and shutil.which("zstd") is None:
            answer["missing"] = "zstd"
        else:
            answer["images"] = read(path, how)
    except OSError as error:
        answer["problem"] = f"it cannot be read: {error.strerror or error}"
    except (EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        answer["problem"] = f"it is no tar archive, or not all of it: {error}"
    except ValueError as error:
        answer["problem"] = str(error)
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
