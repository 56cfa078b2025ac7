#!/usr/bin/python
"""Ansible module: what was on this host before us, written down before it changes.

Standard library alone apart from Ansible's own way in, so that `provision destroy` reads the record with the same code.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

DOCUMENTATION = r"""
module: host_record
short_description: Remember what a host had before it is changed
description:
  - The record is V(/var/lib/vllm/installed.json), plain JSON. What it holds about a thing is never replaced, since only
    the first look saw the host as it was.
  - O(state=before) goes before a change and O(state=after) after it; a run that dies between them loses nothing.
  - Nothing is written in check mode.
options:
  file: {description: The record., type: path, default: /var/lib/vllm/installed.json}
  part: {description: Who changes something; the name of a role., type: str, default: ""}
  state:
    description:
      - V(before) and V(after) stand around a change; V(after) is only needed for packages and settings.
      - V(read) changes nothing.
      - V(undone) takes what we wrote out of the settings files, and leaves what others wrote there.
      - V(settled) drops what is as it was, and folders of ours that are empty, at last the record itself.
    type: str
    choices: [before, after, read, undone, settled]
    default: before
  packages: {description: Whether packages (and groups of users) may come or go., type: bool, default: false}
  asked: {description: Names of the packages that are asked for., type: list, elements: str, default: []}
  settings: {description: JSON files that others write to as well., type: list, elements: str, default: []}
  paths: {description: Files and folders that are written whole., type: list, elements: str, default: []}
  folders: {description: Folders that go when they are empty., type: list, elements: str, default: []}
  services: {description: Units that may be started or enabled., type: list, elements: str, default: []}
  images: {description: References that may be pulled or built or moved., type: list, elements: str, default: []}
  ports: {description: "TCP ports that may be opened in the host's firewall.", type: list, elements: str, default: []}
author: provision
"""

EXAMPLES = r"""
- name: Remember what is there
  host_record:
    part: docker_engine
    packages: true
    asked: [docker.io]
    paths: [/var/lib/docker]

- name: Remember what came
  host_record:
    part: docker_engine
    state: after
"""

RETURN = r"""
record: {description: The record; in check mode as it would be., type: dict, returned: always}
now: {description: Everything in the record as it is now., type: dict, returned: when state is read}
settings: {description: Settings files that were changed., type: list, elements: str, returned: when state is undone}
"""

RECORD = "/var/lib/vllm/installed.json"
VERSION = 1
GONE = object()
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class RecordError(Exception):
    """The record cannot be read."""


def read(file=RECORD):
    """The record: {"version", "folders": [path], "parts": {part: {kind: {name: as it was}}}, "pending": {part: ...}}.

    As it was, by kind: packages {"before", "after"}, versions or None; paths "missing", "empty" (a folder), "kept" (not
    ours to remove) or {"text", "mode"}; settings {"text", "before", "after"}; services {"enabled", "active"} or None;
    images an id or None; groups and ports None. `folders` are those that were made for the rest.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
        version = found["version"]
    except FileNotFoundError:
        return {"version": VERSION, "folders": [], "parts": {}, "pending": {}}
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{file} cannot be read ({error}): repair it, or move it away to start anew") from error
    if version != VERSION:
        raise RecordError(f"{file} is of version {version}, this program knows {VERSION}: use the newer program")
    return found


def write(record, file):
    """For root alone, since settings may hold passwords of proxies."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(record, indent=1, sort_keys=True) + "\n", 0o600)


def before(record, part, wanted, file):
    """Takes down what a change may touch. `wanted`: the module's options."""
    # What an interrupted run left half told is told now: a fresh look would count it as there before.
    after(record, part)
    told = record["parts"].get(part, {})
    if wanted["packages"] or wanted["settings"]:
        record["pending"][part] = {
            "packages": packages() if wanted["packages"] else None,
            "groups": groups() if wanted["packages"] else [],
            "asked": wanted["asked"],
            "settings": {path: text_of(path) for path in wanted["settings"]},
        }
    made = [*wanted["folders"], *(str(Path(path).parent) for path in (file, *wanted["settings"], *wanted["paths"]))]
    # the record's own folder bears our name, whoever made it
    own = str(Path(file).parent)
    record["folders"] = sorted(
        {own, *record["folders"], *(folder for path in made for folder in missing_folders(path))}
    )
    if wanted["ports"] or told.get("ports"):
        told["ports"] = ports_told(told.get("ports", {}), wanted["ports"], open_ports())
    looks = {"paths": path_as_it_is, "services": service, "images": image_id}
    for kind, look in looks.items():
        for name in wanted[kind]:
            known = told.setdefault(kind, {})
            if name not in known:
                known[name] = look(name)
    keep(record, part, told)


def after(record, part):
    """Takes down what has changed since `before` of this part; nothing where nothing is pending."""
    pending = record["pending"].pop(part, None)
    if pending is None:
        return
    told = record["parts"].get(part, {})
    new = packages() if pending["packages"] is not None else None
    # asking for marks takes a slow host longer than asking for names
    if new != pending["packages"]:
        known = told.setdefault("packages", {})
        for name, change in came(pending["packages"], new, pending["asked"], chosen_by_hand()).items():
            known[name] = {"before": known.get(name, change)["before"], "after": change["after"]}
        told.setdefault("groups", {}).update({name: None for name in groups() if name not in pending["groups"]})
    for path, old in pending["settings"].items():
        new = text_of(path)
        if new != old:
            known = told.setdefault("settings", {}).setdefault(path, {"text": old, "before": {}, "after": {}})
            merge_keys(known, parsed(old), parsed(new))
    keep(record, part, told)


def ports_told(known, wanted, opened):
    """The ports that were closed before they were opened for us. One that is closed again is told no more: who opens
    it later may be somebody else. `opened`: None where no firewall is active.
    """
    if opened is None:
        return known
    return dict.fromkeys(
        [*(port for port in known if port in opened), *(port for port in wanted if port not in opened)]
    )


def keep(record, part, told):
    """A part as it is told now; nothing of it where nothing is told."""
    record["parts"].pop(part, None)
    if found := {kind: names for kind, names in told.items() if names}:
        record["parts"][part] = found


def came(old, new, asked, by_hand):
    """Packages that came, went or changed: name → {"before", "after"}, versions or None.

    A new one that somebody chose by hand, and that was not asked for here, is theirs.
    """
    return {
        name: {"before": old.get(name), "after": new.get(name)}
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
        # package managers take a version behind the name
        and (
            name in old or name not in by_hand or any(re.fullmatch(re.escape(name) + r"([=-]\d.*)?", a) for a in asked)
        )
    }


def merge_keys(known, old, new):
    """Adds the keys in which two JSON objects differ; what a key was at first stays."""
    for key in sorted({*old, *new}):
        if old.get(key, GONE) == new.get(key, GONE):
            continue
        if key in old and key not in known["after"]:
            known["before"].setdefault(key, old[key])
        known["after"].pop(key, None)
        if key in new:
            known["after"][key] = new[key]


def undone(was, text):
    """The text of a settings file without what we wrote into it; None: no file is left, as there was none.

    What somebody has changed since is theirs and stays.
    """
    now = parsed(text)
    left = dict(now)
    for key in {**was["before"], **was["after"]}:
        value = without(was["before"].get(key, GONE), was["after"].get(key, GONE), now.get(key, GONE))
        left.pop(key, None)
        if value is not GONE:
            left[key] = value
    if left == parsed(was["text"]):
        return was["text"]
    return text if left == now else json.dumps(left, indent=4) + "\n"


def without(first, mine, now):
    """A JSON value `now` without what we made of `first`; GONE stands for none, on every side."""
    if now == mine:
        return first
    if isinstance(mine, list) and isinstance(now, list):
        was = first if isinstance(first, list) else []
        left = [item for item in now if item in was or item not in mine]
        return left if left or first is not GONE else GONE
    if isinstance(mine, dict) and isinstance(now, dict):
        was = first if isinstance(first, dict) else {}
        left = {key: without(was.get(key, GONE), mine.get(key, GONE), now.get(key, GONE)) for key in {**mine, **now}}
        left = {key: value for key, value in left.items() if value is not GONE}
        return left if left or first is not GONE else GONE
    return now


def parsed(text):
    """A JSON object; empty for none, and for what is none (the roles refuse to write into that)."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def now(record):
    """Everything in the record as it is now: {kind: {name: ...}}; groups, ports and images as they were, as lists."""
    looks = {"paths": path_as_it_is, "services": service, "images": image_id, "settings": text_of}
    seen = {
        kind: {name: look(name) for told in record["parts"].values() for name in told.get(kind, {})}
        for kind, look in looks.items()
    }
    old = [was for told in record["parts"].values() for was in told.get("images", {}).values() if was]
    told = [port for one in record["parts"].values() for port in one.get("ports", {})]
    opened = (open_ports() if told else None) or ()
    return {
        **seen,
        "ports": [port for port in told if port in opened],
        "packages": packages(),
        "groups": groups(),
        "image_ids": [one for one in old if image_id(one)],
    }


def undo(record, part):
    """Writes the settings files of a part as they would be without us; the paths of those that changed."""
    changed = []
    for path, was in record["parts"].get(part, {}).get("settings", {}).items():
        old = text_of(path)
        new = undone(was, old)
        if new == old:
            continue
        changed.append(path)
        if new is None:
            Path(path).unlink()
        else:
            write_text(path, new, Path(path).stat().st_mode & 0o7777 if old is not None else 0o644)
    return changed


def settle(record, file):
    """Drops what is as it was before us and folders of ours that are empty; True when nothing is left."""
    for part in list(record["pending"]):
        after(record, part)
    seen = now(record)
    silent = bool(shutil.which("docker", path=PATH)) and not output("docker", "version")
    ours = {
        "packages": lambda name, was: was["before"] is None and name in seen["packages"],
        "groups": lambda name, _: name in seen["groups"],
        "paths": lambda path, was: was != "kept" and seen["paths"][path] != was,
        "settings": lambda path, was: undone(was, seen["settings"][path]) != seen["settings"][path],
        "ports": lambda port, _: port in seen["ports"],
        "services": lambda name, was: was is not None and seen["services"][name] not in (was, None),
        # a Docker that is there but does not answer has its images still
        "images": lambda name, was: seen["images"][name] not in (was, None) or silent,
    }
    parts = {
        part: {kind: {name: was for name, was in of.items() if ours[kind](name, was)} for kind, of in told.items()}
        for part, told in record["parts"].items()
    }
    record["parts"] = {part: kept for part, told in parts.items() if (kept := {k: of for k, of in told.items() if of})}
    if not record["parts"]:
        Path(file).unlink(missing_ok=True)
    for folder in sorted(record["folders"], key=len, reverse=True):
        with contextlib.suppress(OSError):  # somebody has something in it, or it is gone
            Path(folder).rmdir()
    record["folders"] = [folder for folder in record["folders"] if Path(folder).is_dir()]
    return not record["parts"]


def packages():
    """Installed packages: name → version; none where neither dpkg nor rpm keeps them."""
    if shutil.which("dpkg-query", path=PATH):
        lines = output(
            "dpkg-query", "-W", "-f", "${Package}\t${Version}\t${db:Status-Status}\n", must=True
        ).splitlines()
        rows = [line.split("\t") for line in lines]
        return {name: version for name, version, state in rows if state == "installed"}
    if not shutil.which("rpm", path=PATH):
        return {}
    lines = output("rpm", "-qa", "--qf", "%{NAME}\t%{VERSION}-%{RELEASE}\n", must=True).splitlines()
    return dict(line.split("\t") for line in lines)


def chosen_by_hand():
    """Packages that somebody asked for, by their marks."""
    if shutil.which("apt-mark", path=PATH):
        return set(output("apt-mark", "showmanual").split())
    return set(output("dnf", "--cacheonly", "--quiet", "repoquery", "--userinstalled", "--qf", "%{name}\n").split())


def groups():
    """Names of the host's own groups of users."""
    return [line.split(":")[0] for line in Path("/etc/group").read_text(encoding="utf-8").splitlines() if line]


def service(name):
    """{"enabled", "active"} of a unit; None where there is none."""
    told = output("systemctl", "show", name, "--property=LoadState,UnitFileState,ActiveState")
    state = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    if state.get("LoadState") != "loaded":
        return None
    return {"enabled": state.get("UnitFileState") == "enabled", "active": state.get("ActiveState") == "active"}


def image_id(reference):
    """Id of the image behind a reference; None without one, or without Docker."""
    return output("docker", "image", "inspect", "--format", "{{.Id}}", reference).strip() or None


def open_ports():
    """TCP ports that the active firewall lets through, named one by one; None without one."""
    if output("firewall-cmd", "--state"):
        return set(re.findall(r"\b(\d+)/tcp\b", output("firewall-cmd", "--list-ports")))
    rules = output("ufw", "status")
    if "Status: active" not in rules.splitlines():
        return None
    return set(re.findall(r"^(\d+)(?:/tcp)? +ALLOW", rules, re.MULTILINE))


def path_as_it_is(path):
    """What stands at a path, as the record tells it."""
    place = Path(path)
    if not os.path.lexists(path):
        return "missing"
    if place.is_dir() and not any(place.iterdir()):
        return "empty"
    if not place.is_file() or place.is_symlink():
        return "kept"
    text = text_of(path)
    return "kept" if text is None else {"text": text, "mode": f"{place.stat().st_mode & 0o7777:04o}"}


def text_of(path):
    """Text of a file; None where there is no file, or none of text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):
        return None


def write_text(path, text, mode):
    """Writes a file whole or not at all."""
    fresh = f"{path}.provision-new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    Path(fresh).replace(path)


def missing_folders(path):
    """Those of a folder and the ones above it that are not there."""
    return [str(folder) for folder in (Path(path), *Path(path).parents) if not folder.exists()]


def output(*argv, must=False):
    """stdout of a program; "" when it fails or is not there, which is an error where it `must` not."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": PATH}
    try:
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False, env=environment)
    except OSError as error:
        if must:
            raise RecordError(f"{argv[0]} cannot be started: {error}") from error
        return ""
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "replace")
    if must:
        raise RecordError(
            f"{argv[0]} failed (exit {done.returncode}): {done.stderr.decode('utf-8', 'replace').strip()}"
        )
    return ""


def main():
    """Ansible's way in."""
    from ansible.module_utils.basic import AnsibleModule

    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "file": {"type": "path", "default": RECORD},
            "part": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["before", "after", "read", "undone", "settled"], "default": "before"},
            "packages": {"type": "bool", "default": False},
            **dict.fromkeys(("asked", "settings", "paths", "folders", "services", "images", "ports"), names),
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**answer(module.params, module.check_mode))
    except RecordError as error:
        module.fail_json(msg=str(error))


def answer(params, check_mode):
    """What the module returns, after doing it."""
    file = params["file"]
    record, state, part = read(file), params["state"], params["part"]
    if state == "read":
        for pending in list(record["pending"]):
            after(record, pending)
        return {"changed": False, "record": record, "now": now(record)}
    if state == "before":
        before(record, part, params, file)
    if check_mode:
        return {"changed": False, "record": record}
    if state == "after":
        after(record, part)
    elif state == "undone":
        settings = undo(record, part)
        return {"changed": bool(settings), "record": record, "settings": settings}
    elif state == "settled":
        was = bool(record["parts"])
        if settle(record, file):
            return {"changed": was, "record": record}
    write(record, file)
    # keeping books is no change of the host
    return {"changed": False, "record": record}


if __name__ == "__main__":
    main()
