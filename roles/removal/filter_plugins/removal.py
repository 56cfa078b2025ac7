"""What of a host goes and what stays, and why. Pure; the driver decides with the same code."""

from __future__ import annotations

ENGINES = ("docker.io", "docker-ce", "moby-engine")
NAMED = (*ENGINES, "nvidia-container-toolkit")
WEIGHTS, DOCKER, TOOLKIT, IMAGES = "model_weights", "docker_engine", "nvidia_container_toolkit", "vllm_image"
UNTIL_REBOOT = "its bridge docker0 and its firewall rules are gone after the next reboot"


def removal_plan(record, now, look, weights, docker):
    """{"goes": [words], "stays": [words], and for the tasks: "servers", "secrets", "images", "moved_images", "paths",
    "files", "undone", "services", "packages", "late_paths", "emptied", "groups", "ports", "manager"}.

    `record` and `now`: of host_record; `look`: of removal_look; `weights` and `docker`: whether these go as well.
    """
    plan = {
        **{key: [] for key in ("goes", "stays", "images", "moved_images", "paths", "emptied", "files", "undone")},
        **{"services": [], "packages": [], "late_paths": [], "groups": [], "ports": []},
        "servers": [_server(one) for one in look["servers"]],
        "secrets": [one["secret_path"] for one in look["servers"] if one["secret_path"]],
        "manager": look["manager"],
    }
    plan["goes"] += [f"server {one['name']}: {_names(one['unit'], one['secret_path'])}" for one in look["servers"]]
    plan["paths"] += look["own"]
    plan["goes"] += look["own"]
    engine_ours = any(_ours(record, now, DOCKER, name) for name in ENGINES)
    why = _staying_parts(record, now, look, engine_ours, weights, docker)
    going = [part for part in record["parts"] if part not in why]
    if DOCKER in going and engine_ours:
        images = set((look["docker"] or {"images": []})["images"]) - {
            *record["parts"].get(IMAGES, {}).get("images", {})
        }
        theirs = f", images of others too: {', '.join(sorted(images))}" if images else ""
        plan["goes"].append(f"Docker with everything in it{theirs} ({UNTIL_REBOOT})")
    _images(plan, record, now, look, all_go=DOCKER in going and engine_ours)
    _packages(plan, record, now, look, going)
    for part in going:
        _part(plan, part, record["parts"][part], now, look, late=part in (DOCKER, TOOLKIT))
    for part, reason in why.items():
        plan["stays"].append(f"{_subject(part, record, now, look)}: {reason}")
    return plan


def _server(one):
    return {
        "name": one["name"],
        "unit": f"vllm-{one['name']}.service",
        "container": f"vllm-{one['name']}",
    }


def _staying_parts(record, now, look, engine_ours, weights, docker):
    """part → why it stays."""
    why = {}
    if not weights and _brought(record["parts"].get(WEIGHTS, {}), now):
        why[WEIGHTS] = "not asked for (--purge-weights)"
    ours = {_server(one)["container"] for one in look["servers"]}
    containers = [one for one in (look["docker"] or {"containers": []})["containers"] if one["name"] not in ours]
    volumes = (look["docker"] or {"volumes": []})["volumes"]
    if DOCKER in record["parts"] and engine_ours:
        if not docker:
            why[DOCKER] = "not asked for (--purge-docker)"
        elif look["docker"] is None:
            why[DOCKER] = "it does not answer, so nobody can tell whose containers it has (systemctl start docker)"
        elif containers or volumes:
            kinds = (("container", [one["name"] for one in containers]), ("volume", volumes))
            held = " and ".join(f"{kind} {', '.join(sorted(names))}" for kind, names in kinds if names)
            why[DOCKER] = f"somebody else's {held} would go with it"
    if TOOLKIT in record["parts"] and _packages_there(record, now, TOOLKIT):
        users = [one["name"] for one in containers if one["gpus"]]
        if not docker:
            why[TOOLKIT] = "not asked for (--purge-docker)"
        elif DOCKER in why or users:
            why[TOOLKIT] = f"{', '.join(users) or 'Docker'} uses it"
    return why


def _images(plan, record, now, look, all_go):
    users = {}
    ours = {one["container"] for one in plan["servers"]}
    for one in (look["docker"] or {"containers": []})["containers"]:
        if one["name"] not in ours:
            users.setdefault(one["image"], []).append(one["name"])
    for reference, was in record["parts"].get(IMAGES, {}).get("images", {}).items():
        image = now["images"].get(reference)
        if all_go or image in (was, None):
            continue
        if was in now["image_ids"]:
            plan["moved_images"].append({"reference": reference, "id": was})
            plan["goes"].append(f"image {reference}: names again what it named before ({was[:19]})")
        elif image in users:
            plan["stays"].append(f"image {reference}: {', '.join(sorted(users[image]))} runs it")
        else:
            plan["images"].append(reference)
            plan["goes"].append(f"image {reference}")


def _packages(plan, record, now, look, going):
    """Packages of the parts that go, without those that somebody else's package needs."""
    ours = {
        name for part in going for name in record["parts"][part].get("packages", {}) if _ours(record, now, part, name)
    }
    fits = set(ours)
    while True:
        held = {name for name in fits if set(look["needed_by"].get(name, ())) - fits}
        if not held:
            break
        fits -= held
    plan["packages"] = sorted(fits)
    if fits:
        plan["goes"].append(f"package{'s' if len(fits) > 1 else ''} {', '.join(sorted(fits))}")
    for name in sorted(ours - fits):
        needing = sorted(set(look["needed_by"][name]) - fits)
        plan["stays"].append(f"package {name}: {', '.join(needing)} needs it")
    for part in going:
        for name, was in record["parts"][part].get("packages", {}).items():
            if was["before"] is not None and now["packages"].get(name) != was["before"]:
                found = now["packages"].get(name) or "not installed"
                plan["stays"].append(f"package {name}: {found}, {was['before']} before us; versions are not put back")


def _part(plan, part, told, now, look, late):
    """Paths, settings, groups and services of one part that goes."""
    # Docker's folder may have a disk of its own; what is mounted in other ones came there from somebody else.
    held = {} if late else look["mounts"]
    paths = [path for path in _brought(told, now) if path not in held]
    plan["late_paths" if late else "paths"] += paths
    empty = [path for path, was in told.get("paths", {}).items() if was == "empty" and now["paths"][path] == "kept"]
    emptied = [path for path in empty if path not in held]
    plan["emptied"] += emptied
    plan["stays"] += [
        f"{path}: mounted there: {', '.join(held[path])}" for path in (*_brought(told, now), *empty) if path in held
    ]
    plan["goes"] += [f"{path}{_size(look, path)}" for path in paths]
    plan["goes"] += [f"{path}: what is in it{_size(look, path)}" for path in emptied]
    for path, was in told.get("paths", {}).items():
        if isinstance(was, dict) and now["paths"][path] != was:
            plan["files"].append({"path": path, **was})
            plan["goes"].append(f"{path}: as it was")
    for path, was in told.get("settings", {}).items():
        if now["settings"].get(path) is not None:
            plan["goes"].append(f"{path}: {', '.join(sorted({**was['before'], **was['after']}))} as before us")
            plan["undone"].append(part)
    plan["groups"] += [name for name in told.get("groups", {}) if name in now["groups"]]
    opened = [port for port in told.get("ports", {}) if port in now["ports"]]
    plan["ports"] += opened
    plan["goes"] += [f"firewall: port {port} closed again" for port in opened]
    others = (look["docker"] or {"containers": []})["containers"]
    for name, was in told.get("services", {}).items():
        if was is None or now["services"].get(name) in (was, None):
            continue
        active = was["active"] or len(others) > len(plan["servers"])
        plan["services"].append({"name": name, "enabled": was["enabled"], "active": active})
        plan["goes"].append(f"{name}: {'enabled' if was['enabled'] else 'disabled'} as before us")


def _subject(part, record, now, look):
    """What a part that stays is, in words."""
    if part == WEIGHTS:
        return "weights " + ", ".join(f"{path}{_size(look, path)}" for path in _brought(record["parts"][part], now))
    first, *rest = sorted(_packages_there(record, now, part), key=lambda name: name not in NAMED)
    more = f" and {len(rest)} more package{'s' if len(rest) > 1 else ''}" if rest else ""
    return f"{'Docker' if part == DOCKER else 'container toolkit'} ({first}{more})"


def _packages_there(record, now, part):
    return [name for name in record["parts"][part].get("packages", {}) if _ours(record, now, part, name)]


def _ours(record, now, part, name):
    """Whether a package came with us and is there."""
    was = record["parts"].get(part, {}).get("packages", {}).get(name)
    return was is not None and was["before"] is None and name in now["packages"]


def _brought(told, now):
    """Paths of a part that are there and were not, without those inside others."""
    found = [
        path for path, was in told.get("paths", {}).items() if was == "missing" and now["paths"][path] != "missing"
    ]
    return [path for path in found if not any(path.startswith(f"{other}/") for other in found)]


def _size(look, path):
    mib = look["sizes"].get(path, 0) / 2**20
    return f" ({mib / 1024:.1f} GiB)" if mib >= 1024 else f" ({mib:.0f} MiB)" if mib >= 1 else ""


def _names(*names):
    return ", ".join(name for name in names if name) or "its files"


class FilterModule:
    """Ansible's way in."""

    def filters(self):
        return {"removal_plan": removal_plan}
