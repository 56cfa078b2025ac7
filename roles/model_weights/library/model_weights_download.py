#!/usr/bin/python
"""Ansible module: one model repository, or one file of it, downloaded by the `hf` of a server image, and verified."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: model_weights_download
short_description: Download a model repository, or one file of it, in a one-off container
description:
  - Runs C(hf download) in a container of the server's image, compares every file with the hash that it is named by, and
    writes a marker once it is complete.
  - A module rather than tasks, because the lock must be held from the clean-up until the marker is written.
options:
  repo: {description: Model repository., type: str, required: true}
  revision: {description: Branch, tag or commit., type: str, required: true}
  image: {description: Image that holds C(hf)., type: str, required: true}
  cache_dir: {description: HF_HOME., type: str, required: true}
  plugin_dir: {description: Where a single file is placed., type: str, required: true}
  file: {description: One file of the repository in place of all of it., type: str, default: ""}
  sha256: {description: What that file must be; empty for whatever the revision has., type: str, default: ""}
  endpoint: {description: Address of the hub., type: str, default: ""}
  token: {description: Access token of the hub; the container gets it on its standard input., type: str, default: ""}
  proxies: {description: "Variables of the container: http_proxy, https_proxy, no_proxy.", type: dict, default: {}}
  download: {description: Whether to; else what somebody else brought is looked at., type: bool, default: true}
  peers:
    description: Hosts that are asked for a model before it is downloaded, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      host: {description: What it is called., type: str, required: true}
      address: {description: "Where it gives, ADDRESS:PORT.", type: str, required: true}
  peer_program: {description: Program of the host that takes from others., type: str, default: ""}
  attempts: {description: How often to try when the network fails., type: int, default: 4}
  timeout_s: {description: Seconds for one attempt., type: int, default: 21600}
  lock_timeout_s: {description: Seconds to wait for another download., type: int, default: 7200}
author: provision
"""

EXAMPLES = r"""
- name: Download a model
  model_weights_download:
    repo: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
    revision: main
    image: vllm/vllm-openai:v0.12.0
    cache_dir: /var/lib/vllm/huggingface
    plugin_dir: /var/lib/vllm/plugins
"""

RETURN = r"""
complete: {description: Whether it was there already., type: bool, returned: always}
commit: {description: Commit that the revision stands for., type: str, returned: when known}
notice: {description: Why it did not come from another host., type: str, returned: when it should have}
"""

CONTAINER_HOME = "/root/.cache/huggingface"
# In the container's own memory: it goes with the container, whoever else dies before.
MEMORY = "/run/provision-hub"
FROM_STDIN = 'cat > "$HF_TOKEN_PATH" && exec hf "$@"'
LAST_LINES = 15
HASHERS = 4
BLOCK = 1 << 20

# What the hub's client prints (class names up to 1.x, sentences of `hf` since) → what the operator can do.
# First match wins; nothing of it gets better by trying again.
FINAL = (
    (r"No space left on device", "the disk that holds {cache_dir} is full: free some and run again."),
    (r"No such image|Unable to find image", "the image {image} is not on the host: run the role vllm_image first."),
    (
        r"exec: \"hf\"|stat hf|hf.*executable file not found|exec: hf: not found|/bin/sh.*no such file",
        "the image {image} has no `hf` command (huggingface_hub before 0.34): use a newer image.",
    ),
    (
        r"GatedRepo|gated repo|awaiting a review|Access to model .* is restricted|requires approval",
        "{repo} is gated: {token_state}. Accept its licence on the hub with the token's account and give that token.",
    ),
    (
        r"RevisionNotFound|Revision Not Found|Invalid rev id",
        "{repo} has no revision {revision!r}: check the branch, tag or commit.",
    ),
    (
        r"RepositoryNotFound|RepoNotFound|(Repository|Model)( '[^']*')? not found",
        "there is no repository {repo} for this host: check the name; a private one needs a token ({token_state}).",
    ),
    # LocalEntryNotFound is what the client makes of a network that does not answer
    (
        r"(?<!Local)EntryNotFound|(?<!Local )Entry Not Found|File not found in",
        "{repo} has no file {file!r} at {revision!r}: check the name of the plugin.",
    ),
    (
        r"\b401\b|Unauthorized|Invalid user token|Invalid credentials",
        "the hub refuses this host for {repo} ({token_state}): give a valid token.",
    ),
    (r"\b403\b|Forbidden", "the hub refuses access to {repo} ({token_state})."),
)
NOT_WHOLE = (
    "{repo} is not whole in {cache_dir} ({missing}), and nothing may be downloaded there (model_weights_download): "
    "mount it, or fill it where it comes from: HF_HOME={cache_dir} hf download {repo} {file}"
)
BROKEN_HINT = "{count} files came broken, {attempts} times in a row: is there a proxy that changes them, or a bad disk?"
NETWORK_HINT = "the download failed {attempts} times: check that the host reaches {endpoint}."
DOCKER_HINT = "Docker did not answer, {attempts} times in a row: look at it with `journalctl -u docker`."
DOCKER_GONE = re.compile(r"Cannot connect to the Docker daemon|error during connect", re.IGNORECASE)

WRONG_FILE = (
    "{file} has the SHA-256 {found}, not {sha256}, as it is locked: the hub gives another file for the same commit. "
    "Find out why; `provision lock FLEET --update-lock` accepts it."
)


class InterruptedDownloadError(Exception):
    """A signal asked us to end: containers and files are cleaned up first."""


def markers(params):
    """(path of the marker, path whose existence it vouches for or None) of what is asked for."""
    if params["file"]:
        plugins, name = Path(params["plugin_dir"]), Path(params["file"]).name
        return plugins / ".provision" / f"{name}.json", plugins / name
    return Path(params["cache_dir"]) / ".provision" / (params["repo"].replace("/", "--") + ".json"), None


def repo_dir(cache_dir, repo):
    """Directory of a model repository in the hub client's cache."""
    return Path(cache_dir) / "hub" / ("models--" + repo.replace("/", "--"))


def completed(params):
    """The marker's content if what it says is still true, else None."""
    marker, placed = markers(params)
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if found.get("repo") != params["repo"]:
        return None
    if placed is not None and params["sha256"]:
        # Whatever it came from: the content is what was asked for.
        return found if placed.is_file() and sha256(placed) == params["sha256"] else None
    # A commit is complete too when it came as what a branch stood for.
    if params["revision"] not in (found.get("revision"), found.get("commit")):
        return None
    if placed is None:
        snapshot = repo_dir(params["cache_dir"], params["repo"]) / "snapshots" / (found.get("commit") or "-")
        return found if snapshot.is_dir() else None
    if found.get("file") != params["file"] or not placed.is_file():
        return None
    return found if found.get("sha256") == sha256(placed) else None


def sha256(path):
    """Hash of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def docker_argv(params, name, download_dir):
    """The whole `docker run`. The token comes on standard input: argv and environment can be read by others."""
    argv = ["docker", "run", "--rm", "--name", name, "--pull", "never", "--network", "host", "--user", "0"]
    argv += ["--interactive", "--entrypoint", "/bin/sh"] if params["token"] else ["--entrypoint", "hf"]
    argv += ["-v", f"{params['cache_dir']}:{CONTAINER_HOME}", "-e", f"HF_HOME={CONTAINER_HOME}"]
    argv += ["-e", "HF_HUB_DISABLE_TELEMETRY=1", "-e", "HF_HUB_DISABLE_PROGRESS_BARS=1"]
    argv += ["-e", "NO_COLOR=1"]
    # Images made for serving may switch the hub off.
    argv += ["-e", "HF_HUB_OFFLINE=0", "-e", "TRANSFORMERS_OFFLINE=0"]
    if params["endpoint"]:
        argv += ["-e", f"HF_ENDPOINT={params['endpoint']}"]
    # by name: values may hold a password, and the argv can be read by others
    for variable in sorted(params["proxies"]):
        argv += ["-e", variable]
    if params["token"]:
        argv += ["--tmpfs", f"{MEMORY}:size=64k,mode=0700", "-e", f"HF_TOKEN_PATH={MEMORY}/token"]
    if download_dir:
        argv += ["-v", f"{download_dir}:/download"]
    argv += [params["image"], *(["-c", FROM_STDIN, "hf"] if params["token"] else []), "download", params["repo"]]
    if params["file"]:
        argv += [params["file"], "--local-dir", "/download"]
    return [*argv, "--revision", params["revision"]]


def explain(output, params):
    """What a failure means for the operator when trying again cannot help, else None."""
    for pattern, text in FINAL:
        if re.search(pattern, output, re.IGNORECASE):
            return text.format(token_state=token_state(params), **params)
    return None


def gave_up(output, broken, params):
    """What the operator can do when the last attempt failed as well, with this output or so many broken files."""
    hint = BROKEN_HINT if broken else DOCKER_HINT if DOCKER_GONE.search(output) else NETWORK_HINT
    endpoint = params["endpoint"] or "https://huggingface.co"
    return hint.format(attempts=params["attempts"], endpoint=endpoint, count=broken)


def token_state(params):
    """Whether a token was given: the first question with every refusal."""
    return "the given token was refused" if params["token"] else "no token was given"


def resolved_commit(output, params):
    """Commit that was downloaded: from the snapshot's path that `hf` prints, else from the cache's own reference."""
    found = re.search(r"snapshots/([0-9a-f]{40})\b", output)
    if found:
        return found.group(1)
    if re.fullmatch(r"[0-9a-f]{40}", params["revision"]):
        return params["revision"]
    try:
        return (repo_dir(params["cache_dir"], params["repo"]) / "refs" / params["revision"]).read_text().strip()
    except OSError:
        return ""


def tail(text):
    """The last lines of an output."""
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])


def take_lock(path, timeout_s):
    """Open file that holds the lock, or None when someone else kept it for `timeout_s`."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    stream = path.open("a")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return stream
        except OSError:
            if time.monotonic() > deadline:
                stream.close()
                return None
            time.sleep(1)


def remove_orphans(cache_dir, repo):
    """Delete what killed downloads left and nobody goes on with: clients from 1.x on start such files again from zero,
    under other names. Older ones name them by the hash alone and do go on; the hashes tell whether that went well."""
    for path in (repo_dir(cache_dir, repo) / "blobs").glob("*.incomplete"):
        if not re.fullmatch(r"([0-9a-f]{40}|[0-9a-f]{64})\.incomplete", path.name):
            path.unlink()


def wrong_blobs(snapshot):
    """Files that a snapshot links to and whose content is not what they are named by: (wrong ones, how many are right).

    The hub's client names a file by its SHA-256 where the hub keeps it in LFS, else by git's id of a blob. Files named
    in another way, as some mirrors of the hub do, cannot be told to be wrong.
    """
    blobs = sorted({path.resolve() for path in snapshot.rglob("*") if path.is_symlink()})
    with ThreadPoolExecutor(HASHERS) as pool:  # hashing large blocks leaves the other threads free
        verdicts = dict(pool.map(lambda blob: (blob, is_right(blob)), blobs))
    return [blob for blob in blobs if verdicts[blob] is False], list(verdicts.values()).count(True)


def is_right(blob):
    """Whether a blob is what it is named by; None for a name that is no hash."""
    if not blob.exists():
        return False
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return hash_of(blob, hashlib.sha256()) == blob.name
    if re.fullmatch(r"[0-9a-f]{40}", blob.name):
        return hash_of(blob, hashlib.sha1(b"blob %d\0" % blob.stat().st_size)) == blob.name  # noqa: S324 - git's ids are
    return None


def hash_of(path, digest):
    """The digest with a file's content added, in hexadecimal."""
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def missing_of(snapshot):
    """What a snapshot of a model lacks; "" for a whole one. The probe of `provision` says the same before a run."""
    names = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if not path.is_dir()}
    wanted = {"config.json"}
    for index in [name for name in names if name.endswith(".safetensors.index.json")]:
        try:
            wanted |= set(json.loads((snapshot / index).read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return f"{index} cannot be read"
    gone = sorted(name for name in names | wanted if not (snapshot / name).exists())
    if gone:
        return f"{gone[0]} is missing" + (f" and {len(gone) - 1} more files" if gone[1:] else "")
    return "" if any(name.endswith((".safetensors", ".bin", ".gguf")) for name in names) else "it has no weights"


def present(params):
    """(commit, what is missing) of what is asked for in a cache that is somebody else's."""
    place = repo_dir(params["cache_dir"], params["repo"])
    commit = params["revision"]
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        try:
            commit = (place / "refs" / commit).read_text(encoding="utf-8").strip()
        except OSError:
            return "", f"it has no {commit}" if place.is_dir() else "it is not there"
    snapshot = place / "snapshots" / commit
    if not snapshot.is_dir():
        return commit, f"it has no {commit}"
    if params["file"]:
        return commit, "" if (snapshot / params["file"]).is_file() else f"{params['file']} is missing"
    return commit, missing_of(snapshot)


def look(module, params):
    """End with what is in a cache that is somebody else's, and a plugin's file taken from there."""
    commit, missing = present(params)
    if missing:
        module.fail_json(msg=NOT_WHOLE.format(missing=missing, **params).strip())
    marker, placed = markers(params)
    if placed is None:
        module.exit_json(changed=False, complete=True, commit=commit)
    source = repo_dir(params["cache_dir"], params["repo"]) / "snapshots" / commit / params["file"]
    if params["sha256"] and sha256(source) != params["sha256"]:
        module.fail_json(msg=WRONG_FILE.format(found=sha256(source), **params))
    there = placed.is_file() and sha256(placed) == sha256(source)
    if not there and not module.check_mode:
        temporary = placed.with_name(placed.name + ".new")
        temporary.write_bytes(source.read_bytes())
        temporary.chmod(0o644)
        temporary.replace(placed)
        content = {key: params[key] for key in ("repo", "revision", "file")}
        write_marker(marker, dict(content, sha256=sha256(placed)))
    module.exit_json(changed=not there, complete=there, commit=commit)


def write_marker(path, content):
    """Replace the marker in one step, so that nobody reads half of it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(content, sort_keys=True) + "\n", encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(path)


def run_container(argv, name, timeout_s, token="", variables=None):
    """(exit code or None after a timeout, output). No container of that name is left, whatever happens."""
    # An earlier run that lost its connection may have left one, which still writes.
    remove_container(name)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(argv, env={**os.environ, **(variables or {})}, text=True, **pipes)
    try:
        output, _ = process.communicate(input=token, timeout=timeout_s)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        remove_container(name)
        output, _ = process.communicate()
        return None, output
    except InterruptedDownloadError:
        remove_container(name)
        raise


def remove_container(name):
    """`docker rm -f`, which says nothing useful where there is none."""
    subprocess.run(["docker", "rm", "-f", name], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def download(module, params):
    """Try until it works, cannot work, or has failed often enough. Returns the marker's content."""
    key = hashlib.sha256((params["repo"] + "\0" + params["file"]).encode()).hexdigest()[:12]
    name = "provision-download-" + key
    directory = tempfile.mkdtemp(prefix=".download-", dir=params["plugin_dir"]) if params["file"] else ""
    try:
        for attempt in range(1, params["attempts"] + 1):
            wrong = []
            remove_orphans(params["cache_dir"], params["repo"])
            argv = docker_argv(params, name, directory)
            code, output = run_container(argv, name, params["timeout_s"], params["token"], params["proxies"])
            if code == 0:
                content, wrong = finish(module, params, output, directory)
                if not wrong:
                    return content
                output = "\n".join(f"{blob} is not what it is named by" for blob in wrong)
            if code is None:
                fail(module, params, f"the download was not done after {params['timeout_s']} s.", output)
            reason = explain(output, params) if code else None
            if reason:
                fail(module, params, reason, output)
            if attempt < params["attempts"]:
                time.sleep(min(2**attempt, 30))
        return fail(module, params, gave_up(output, len(wrong), params), output)
    finally:
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


def from_peers(params):
    """(the marker's content or None, why it does not come from another host). It holds no lock: the host that is waited
    for may need it, where they share the directory."""
    argv = [sys.executable, "-I", params["peer_program"], "weights", params["repo"], params["revision"]]
    argv += ["--cache-dir", params["cache_dir"]]
    for peer in params["peers"]:
        argv += ["--from", f"{peer['host']}={peer['address']}"]
    try:
        done = subprocess.run(
            argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=params["timeout_s"]
        )
    except subprocess.TimeoutExpired:
        return None, f"it was not there after {params['timeout_s']} s"
    last = (done.stdout.strip().splitlines() or ["no reason given"])[-1]
    if done.returncode:
        return None, last
    snapshot = repo_dir(params["cache_dir"], params["repo"]) / "snapshots" / json.loads(last)["commit"]
    wrong, verified = wrong_blobs(snapshot)
    if wrong:
        return None, f"{wrong[0]} is not what it is named by"
    content = {"repo": params["repo"], "revision": params["revision"], "commit": snapshot.name, "verified": verified}
    write_marker(markers(params)[0], content)
    return content, ""


def finish(module, params, output, directory):
    """Place a plugin, or verify a model, and write the marker. Returns its content, and files that are not what they
    should be: they are gone then, and there is no marker."""
    marker, placed = markers(params)
    content = {"repo": params["repo"], "revision": params["revision"]}
    if placed is None:
        content["commit"] = resolved_commit(output, params)
        if not content["commit"]:
            fail(module, params, "`hf download` ended well but named no snapshot: which commit is unknown.", output)
        snapshot = repo_dir(params["cache_dir"], params["repo"]) / "snapshots" / content["commit"]
        wrong, content["verified"] = wrong_blobs(snapshot)
        for blob in wrong:
            blob.unlink(missing_ok=True)
        if wrong:
            return content, wrong
    else:
        source = Path(directory) / params["file"]
        if params["sha256"] and sha256(source) != params["sha256"]:
            fail(module, params, WRONG_FILE.format(found=sha256(source), **params), output)
        source.chmod(0o644)
        source.replace(placed)
        content.update(file=params["file"], sha256=sha256(placed))
    write_marker(marker, content)
    return content, []


def fail(module, params, reason, output):
    """End with everything the operator needs."""
    what = f"{params['file']} of {params['repo']}" if params["file"] else params["repo"]
    words = f"{reason}\nLast lines of `hf`:\n{tail(output)}"
    module.fail_json(msg=f"{what} ({params['revision']}) was not downloaded: {words}")


def main():
    """Ansible's way in."""
    peer = {"host": {"type": "str", "required": True}, "address": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "repo": {"type": "str", "required": True},
            "revision": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "cache_dir": {"type": "str", "required": True},
            "plugin_dir": {"type": "str", "required": True},
            "file": {"type": "str", "default": ""},
            "sha256": {"type": "str", "default": ""},
            "endpoint": {"type": "str", "default": ""},
            "token": {"type": "str", "default": "", "no_log": True},
            "proxies": {"type": "dict", "default": {}},
            "download": {"type": "bool", "default": True},
            "peers": {"type": "list", "elements": "dict", "options": peer, "default": []},
            "peer_program": {"type": "str", "default": ""},
            "attempts": {"type": "int", "default": 4},
            "timeout_s": {"type": "int", "default": 21600},
            "lock_timeout_s": {"type": "int", "default": 7200},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not params["download"]:
        look(module, params)
    found = completed(params)
    if found:
        module.exit_json(changed=False, complete=True, commit=found.get("commit", ""))
    if module.check_mode:
        module.exit_json(changed=True, complete=False)
    notice = {}
    if params["peers"]:
        content, why = from_peers(params)
        if content:
            module.exit_json(changed=True, complete=True, commit=content["commit"])
        notice["notice"] = f"{params['repo']} does not come from another host: {why}"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    lock_path = Path(params["cache_dir"]) / ".provision" / "lock"
    lock = take_lock(lock_path, params["lock_timeout_s"])
    if lock is None:
        module.fail_json(
            msg=f"{lock_path} was held by another download for {params['lock_timeout_s']} s: wait for it, or see who "
            f"holds it with `fuser {lock_path}`, and run again."
        )
    with lock:
        # Whoever held the lock may have done the work.
        found = completed(params)
        if found:
            module.exit_json(changed=False, complete=True, commit=found.get("commit", ""))
        try:
            content = download(module, params)
        except FileNotFoundError as error:
            module.fail_json(msg=f"{error.filename} is missing on the host: is Docker installed?")
        except InterruptedDownloadError:
            module.fail_json(msg=f"{params['repo']}: the download was interrupted; run again.")
    module.exit_json(changed=True, complete=True, commit=content.get("commit", ""), **notice)


def interrupt(_number, _frame):
    """Turn a signal into an exception, so that `finally` and the clean-up run."""
    raise InterruptedDownloadError


if __name__ == "__main__":
    main()
