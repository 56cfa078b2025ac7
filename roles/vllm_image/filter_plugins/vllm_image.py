"""Filters of the role: names of images, and the record of what it brought. Pure functions, tested without Ansible.

The record is a JSON object: `images`, by name, are those that this role fetched or built on the host, with their ids;
`sets` are the names that the host was given to run, all at once, the newest first.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

DOCKER_HUB = "docker.io"
# What Docker says of a pull that failed → what the operator can do. First match wins.
ADVICE = (
    (r"toomanyrequests|rate limit", "Docker Hub's limit for this address is reached: {log_in}, or use a mirror."),
    (r"denied|unauthorized|authentication required|no basic auth|incorrect username|\b401\b|\b403\b", "{refused}"),
    (
        r"manifest|not found|no such image|does not match the specified platform|no match(ing|ed)? ",
        "No such image, tag or platform there: check the reference (a typing error? a tag without this platform?).",
    ),
    (r"no space left", "The disk is full: free some (`docker image prune --all`), then run again."),
    (
        r"server gave HTTP response to HTTPS client",
        "{registry} has no TLS: name it in docker.insecure_registries, if that is meant.",
    ),
    (
        r"x509|certificate",
        "The host does not trust the certificate of {registry}: put its CA into /etc/docker/certs.d/{registry}/ca.crt.",
    ),
    (
        r"",
        "The network failed several times in a row: check name resolution, proxy and firewall of the host, run again.",
    ),
)
REFUSED = (
    'The registry refuses the login of user "{user}": check the password that docker.registries."{registry}" refers '
    "to, and that this user may read the image."
)
ASKS = "The registry asks for a login, or has no such image: {log_in}, or check the name."
LOG_IN = "give docker.registries a login for {registry}"


def registry(reference):
    """The registry that a reference means: its first part, where that could not be a user's name on Docker Hub."""
    first, slash, _ = reference.partition("/")
    return first if slash and (set(".:") & set(first) or first == "localhost") else DOCKER_HUB


def known_as(reference):
    """The name under which Docker lists the image: by its digest where it has one, else with a tag."""
    name = re.sub(r":[^:/@]+(?=@)", "", reference)
    if registry(name) == DOCKER_HUB:
        name = name.removeprefix(f"{DOCKER_HUB}/").removeprefix("library/")
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def record(text):
    """The record of its text; one that cannot be read is as good as none, which only means that nothing is ours."""
    try:
        found = json.loads(text or "{}")
        images = {str(name): {"id": str(seen["id"])} for name, seen in found.get("images", {}).items()}
        sets = [[str(name) for name in names] for names in found.get("sets", [])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return {"images": {}, "sets": []}
    return {"images": images, "sets": sets}


def given(known, references, brought=()):
    """The record once the host has `references` to run; `brought`, {name, id} each, came by this role."""
    names = sorted({known_as(reference) for reference in references})
    images = {**known["images"], **{one["name"]: {"id": one["id"]} for one in brought}}
    return {"images": dict(sorted(images.items())), "sets": [names, *(one for one in known["sets"] if one != names)]}


def outdated(known, references, keep, protected=()):
    """Names that go when the host is given `references`: ours, in none of the `keep` sets before that, not `protected`.

    None where it is given what it had.
    """
    after = given(known, references)
    if after["sets"][:1] == known["sets"][:1]:
        return []
    kept = {name for names in after["sets"][: 1 + keep] for name in names} | {known_as(name) for name in protected}
    return [name for name in after["images"] if name not in kept]


def still_ours(known, names, seen):
    """Those of `names` that are the very images that came by this role; `seen`: what Docker says of all of them."""
    ids = {name: one["Id"] for one in seen for name in [*(one["RepoTags"] or []), *(one["RepoDigests"] or [])]}
    return [name for name in names if name in ids and ids[name] == known["images"][name]["id"]]


def in_use(results):
    """Names that a loop of removals could not take away, each with Docker's reason."""
    return [
        {"name": one["vllm_image_name"], "reason": one.get("stderr") or one.get("msg") or "no reason given"}
        for one in results
        if not ("untagged" in one or one.get("rc") == 0 or one.get("skipped"))
    ]


def without(known, names, keep):
    """The record without images that are gone or are not ours any more, and without sets that cannot come back."""
    images = {name: one for name, one in known["images"].items() if name not in names}
    return {"images": images, "sets": known["sets"][: 1 + keep]}


def missing(results):
    """Those images of a loop of docker_image_info that the host does not have, or has for another platform."""
    return [
        one["vllm_image"]
        for one in results
        if not any(
            seen["Architecture"] == one["vllm_image"]["platform"].partition("/")[2] for seen in one.get("images", [])
        )
    ]


def ids(results):
    """Names and ids of those images of such a loop that are there."""
    return [
        {"name": known_as(one["vllm_image"]["reference"]), "id": seen["Id"]}
        for one in results
        for seen in one.get("images", [])
    ]


def build_argv(image, folder, variables=()):
    """The build of an image from its source in `folder`. Of `variables` the build sees what they are where it is begun:
    proxies, which BuildKit takes without a word in the Dockerfile and leaves out of the image."""
    build = image["build"]
    argv = ["docker", "buildx", "build", "--progress", "plain", "--platform", image["platform"]]
    argv += ["--tag", image["reference"], "--file", str(Path(folder) / (build.get("dockerfile") or "Dockerfile"))]
    argv += ["--target", build["target"]] if build.get("target") else []
    for name, value in sorted((build.get("args") or {}).items()):
        argv += ["--build-arg", f"{name}={value}"]
    for name in sorted(variables):
        argv += ["--build-arg", name]
    return [*argv, str(folder)]


def peers_argv(image, program):
    """The copy of an image from other hosts."""
    argv = ["/usr/bin/env", "python3", "-I", program, "image", known_as(image["reference"])]
    argv += ["--platform", image["platform"]]
    return argv + [word for peer in image["peers"] for word in ("--from", f"{peer['host']}={peer['address']}")]


def advice(answer, reference, logins, lacking=()):
    """What an operator can do about a pull that failed with `answer`. `logins`: by registry, the user whose password
    was given; `lacking`: mirrors that say that they do not have the image."""
    if lacking:
        there = ", ".join(lacking)
        return (
            f'The image is not there: {there} answered "not found". Check the reference, or put it into that registry.'
        )
    where = registry(reference)
    log_in = LOG_IN.format(registry=where)
    refused = REFUSED.format(user=logins[where], registry=where) if where in logins else ASKS.format(log_in=log_in)
    text = next(text for words, text in ADVICE if re.search(words, answer, re.IGNORECASE))
    return text.format(registry=where, log_in=log_in, refused=refused)


def archive_problem(told, path, reference, platform):
    """Why an archive is not the one that was meant; "" when it is. `told`: what vllm_image_archive found in it."""
    if told["problem"]:
        return f"{path} is no archive of images as `docker save` writes it: {told['problem']}."
    names = [known_as(name) for image in told["images"] for name in image["names"]]
    held = ", ".join(names) or "an image without a name"
    if len(told["images"]) != 1:
        return f"{path} holds {len(told['images'])} images ({held}); one archive has one image."
    if known_as(reference) not in names:
        return f"{path} holds {held}, not {reference}: say so in the fleet file, or save the image under that name."
    found = told["images"][0]["platform"]
    if found != platform:
        return f"{path} holds {reference} for {found}; this host is {platform}: give it an archive of its own platform."
    return ""


def size(path):
    """Bytes of a file on the control machine; 0 for one that is not there, of which the copy says so."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def dump(known):
    """The text of the record: the same record is always the same bytes."""
    return json.dumps(plain(known), indent=1, sort_keys=True) + "\n"


def plain(value):
    """Ordinary dicts and lists: Ansible hands over lazy ones, whose elements C code would see unrendered."""
    if isinstance(value, dict):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


class FilterModule:
    """Ansible's way in."""

    def filters(self):
        names = (registry, known_as, missing, ids, build_argv, peers_argv, advice, archive_problem, size)
        record_of = (record, given, outdated, still_ours, in_use, without, dump)
        return {f"vllm_image_{function.__name__}": function for function in (*names, *record_of)}
