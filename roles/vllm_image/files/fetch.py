"""One docker command on a host, as a systemd unit of its own: pull, build or load, with logins that end with it.

Its text and the request come together on stdin, from a file in memory, so that a password is in no argument list, no
environment and on no disk. The log ends with one line of JSON: how it went. Python 3.8 and later, nothing else.
"""

import base64
import json
import os
import pwd
import re
import subprocess
import sys
import time
from pathlib import Path

MARK = "provision: "
LAST_BYTES = 65536


def main(request):
    """Run the request's command as often as it makes sense; everything that it says goes to the log."""
    log = os.open(request["log"], os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    home = pwd.getpwuid(os.geteuid()).pw_dir
    environment = dict(os.environ, HOME=home, **request["environment"])
    if request["logins"]:
        environment["DOCKER_CONFIG"] = write_config(os.environ["RUNTIME_DIRECTORY"], home, request["logins"])
    end = time.monotonic() + request["timeout_s"]
    for attempt in range(1, request["attempts"] + 1):
        start = os.lseek(log, 0, os.SEEK_END)
        code = run(request["pipe"], environment, end - time.monotonic())
        if code == 0 or code is None or attempt == request["attempts"]:
            break
        if request["final"] and re.search(request["final"], text_since(log, start)):
            break
        pause = min(5 * attempt, 30)
        say(f"attempt {attempt} of {request['attempts']} failed; again in {pause} s")
        time.sleep(pause)
    say(MARK + json.dumps({"rc": code, "attempts": attempt}))


def run(pipe, environment, timeout):
    """Exit code of the first program of a pipe that failed, else 0; None when they were not done in time."""
    processes, before = [], subprocess.DEVNULL
    for argv in pipe:
        last = argv is pipe[-1]
        out = None if last else subprocess.PIPE
        try:
            process = subprocess.Popen(argv, stdin=before, stdout=out, env=environment)
        except OSError as error:
            say(f"{argv[0]}: {error.strerror}")
            for other in processes:
                other.kill()
            return 127
        if processes:
            before.close()
        processes.append(process)
        before = process.stdout
    end = time.monotonic() + timeout
    try:
        codes = [process.wait(max(0.0, end - time.monotonic())) for process in reversed(processes)]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.kill()
            process.wait()
        return None
    return next((code for code in reversed(codes) if code), 0)


def write_config(folder, home, logins):
    """A folder for DOCKER_CONFIG: what root's own says, and the logins. It is gone with the unit."""
    try:
        config = json.loads(Path(home, ".docker", "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    config = with_logins(config if isinstance(config, dict) else {}, home, logins)
    path = Path(folder, "config.json")
    path.touch(mode=0o600)
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def with_logins(config, home, logins):
    """Docker's client configuration with logins, which for their registries go before credential helpers of root's."""
    auths, helpers = dict(config.get("auths") or {}), dict(config.get("credHelpers") or {})
    for login in logins:
        key = "https://index.docker.io/v1/" if login["registry"] == "docker.io" else login["registry"]
        text = f"{login['username']}:{login['password']}"
        auths[key] = {"auth": base64.b64encode(text.encode("utf-8")).decode("ascii")}
        helpers[key] = ""
    plugins = [*(config.get("cliPluginsExtraDirs") or []), str(Path(home, ".docker", "cli-plugins"))]
    made = dict(config, auths=auths, credHelpers=helpers, cliPluginsExtraDirs=plugins)
    made.pop("currentContext", None)  # contexts are not in this folder; without one, it is the engine of this host
    return made


def text_since(log, start):
    """The end of what the log has got since `start`."""
    end = os.lseek(log, 0, os.SEEK_END)
    start = max(start, end - LAST_BYTES)
    return os.pread(log, end - start, start).decode("utf-8", "replace")


def say(text):
    """A line of our own in the log."""
    os.write(1, (text + "\n").encode("utf-8"))
    sys.stdout.flush()
