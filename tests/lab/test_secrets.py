"""A planted token and API key: used by a run, and afterwards found nowhere but where they must be."""

from __future__ import annotations

import json
import secrets
import stat
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import FP8, Done, Lab, chat, shell, show

from provisioner.lab.paths import cache_dir, state_dir
from provisioner.lab.supply import token_file

KEY_FILE = "/etc/vllm/sim.env"
SINCE = "planted-since"
PLACES = "/etc /var /run /root /home /tmp /dev/shm /opt /usr/local /srv"


@dataclass
class Planted:
    """What was planted, the run that used it, and what a watcher saw of processes meanwhile."""

    token: str = field(repr=False)
    key: str = field(repr=False)
    home: Path
    fleet: Path
    done: Done
    seen: set[str] = field(default_factory=set)
    looks: int = 0


@pytest.fixture(scope="module")
def planted(lab: Lab, served: str) -> Planted:
    token, key = f"hf_planted{secrets.token_hex(12)}", f"key-planted-{secrets.token_hex(12)}"
    # A file that holds them has been changed since now, whatever it says itself of its age (ctime): on this machine and
    # on the host only such files need be read.
    (lab.folder / SINCE).touch()
    shell(served, f"touch /run/{SINCE}")
    home = lab.folder / "secret-home"
    for folder in (home, home / "tmp", lab.folder / "references"):
        folder.mkdir()
    key_file = lab.folder / "references" / "api_key"
    key_file.touch(mode=0o600)
    key_file.write_text(f"{key}\n")
    fleet = lab.write_fleet(
        "secrets",
        [served],
        api_key=f"file:{key_file}",
        features=["tool_calling", "reasoning"],
        top_hub={"endpoint": f"http://{lab.gateway}:8800", "token": "env:PLANTED_TOKEN"},
        top_weights={"cache_dir": "/var/lib/vllm/secret-cache"},  # so that the token is needed
    )
    accepted = token_file(state_dir())
    before = accepted.read_text()
    accepted.write_text(f"{before}{token}\n")
    told = Planted(token, key, home, fleet, Done((), -1, "", "", 0.0))
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(told, stop))
    watcher.start()
    try:
        told.done = lab.run(fleet, "--yes", env=_environment(told))
    finally:
        stop.set()
        watcher.join()
        accepted.write_text(before)
    return told


def _environment(told: Planted) -> dict[str, str]:
    return {"PLANTED_TOKEN": told.token, "HOME": str(told.home), "TMPDIR": str(told.home / "tmp")}


def test_the_run_used_them(planted: Planted, served: str) -> None:
    assert planted.done.rc == 0, str(planted.done)
    assert chat(served, FP8)[0] == 401
    assert chat(served, FP8, key="something-else")[0] == 401
    assert chat(served, FP8, key=planted.key)[0] == 200
    assert "API key" in (planted.done.text + _report(planted))


def test_every_promise_of_a_server_with_key_and_parsers_is_checked(planted: Planted, served: str) -> None:
    (server,) = json.loads(_report(planted))["hosts"][served]["servers"]
    checks = {check["name"]: check for check in server["checks"]}
    for name in ("API key", "wrong API key", "reasoning", "streamed reasoning", "tool call", "metrics"):
        assert checks[name]["passed"], checks[name]
        assert not checks[name]["skipped"], checks[name]
    assert checks["tool call"]["detail"].endswith("read by qwen3_coder")


def test_a_second_run_and_all_other_commands_keep_quiet(
    lab: Lab, planted: Planted, served: str, tmp_path: Path
) -> None:
    env = _environment(planted)
    for words, code in (
        ((planted.fleet, "--yes"), 0),
        (("plan", planted.fleet, "--diff"), 0),
        (("plan", planted.fleet, "--json"), 0),
        (("probe", planted.fleet, "--json"), 0),
        (("render", planted.fleet, "-o", tmp_path / "rendered"), 0),
    ):
        done = lab.run(*words, env=env)
        assert done.rc == code, str(done)
        _clean(planted, done.text, " ".join(map(str, words)))
    assert _files_with(lab, planted, tmp_path) == []
    stand_in = (tmp_path / f"rendered/files/{served}{KEY_FILE}").read_text()
    reference = f"<file:{lab.folder / 'references' / 'api_key'}>"
    as_it_stands = "".join(stand_in.splitlines(True)[1:]).replace(reference, planted.key)
    assert as_it_stands == shell(served, f"cat {KEY_FILE}"), "byte for byte, with the value in it"


def test_nothing_was_said(planted: Planted) -> None:
    _clean(planted, planted.done.text, "the run's words")


def test_no_process_showed_them(planted: Planted) -> None:
    show(f"looked {planted.looks} times at all processes of this machine and the hosts")
    assert planted.looks > 5
    assert not planted.seen


def test_nothing_is_left_on_this_machine(lab: Lab, planted: Planted) -> None:
    """Run directories, Ansible's artifacts, home and temporary folders; the reference's own file is elsewhere."""
    latest = lab.latest_run("secrets")
    assert (latest / "artifacts").is_dir()
    assert stat.S_IMODE(latest.stat().st_mode) == 0o700
    # the disks of lab hosts may be under /tmp too; what is on them is looked at below
    temporary = [place for place in Path("/tmp").iterdir() if place not in (*cache_dir().parents, cache_dir())]
    assert _files_with(lab, planted, lab.state, planted.home, state_dir() / "log", *temporary) == []
    assert _files_with(lab, planted, lab.folder / "references", skip="nothing"), "grep finds what is there"


def test_only_the_root_only_file_on_the_host_has_the_key(planted: Planted, served: str) -> None:
    assert shell(served, f"stat -c '%a %U:%G' {KEY_FILE}").strip() == "600 root:root"
    assert shell(served, "stat -c '%a' /etc/vllm").strip() == "700"
    assert planted.key in shell(served, f"cat {KEY_FILE}")
    found = _grep(served, planted.key)
    # Docker keeps a running container's environment in its own folder, which root alone can enter.
    allowed = [path for path in found if path == KEY_FILE or _in_dockers_folder(path)]
    assert found == allowed, found
    assert KEY_FILE in found, "grep finds what is there"
    for path in found:
        told = shell(served, f"namei -l '{path}'").splitlines()[1:]
        closed = [line for line in told if line.split()[0].endswith("---") and line.split()[1:3] == ["root", "root"]]
        assert closed, told
    assert planted.key not in shell(served, "cat /etc/systemd/system/vllm-sim.service; systemctl show vllm-sim")


def test_the_token_is_nowhere_on_the_host(planted: Planted, served: str) -> None:
    assert _grep(served, planted.token) == []
    told = shell(served, "docker inspect $(docker ps -aq) $(docker image ls -q)")
    told += shell(served, "docker image ls -q | sort -u | xargs -n 1 docker history --no-trunc")
    assert planted.token not in told


def test_no_journal_has_them(planted: Planted, served: str) -> None:
    journal = shell(served, "journalctl --no-pager --all --output=export", timeout=120)
    assert "vllm-sim" in journal
    _clean(planted, journal, "the host's journal")
    _clean(planted, (state_dir() / "log" / "hub.log").read_text(), "the hub's log")


def _clean(planted: Planted, text: str, where: str) -> None:
    assert planted.token not in text, f"the token is in {where}"
    assert planted.key not in text, f"the API key is in {where}"


def _report(planted: Planted) -> str:
    line = next(line for line in planted.done.stdout.splitlines() if line.startswith("record: "))
    return (Path(line.removeprefix("record: ")) / "report.json").read_text()


def _files_with(lab: Lab, planted: Planted, *places: Path, skip: str = "references") -> list[str]:
    """Files under folders of this machine that hold either secret."""
    words = ["find", *map(str, places), "-xdev", "-name", skip, "-prune", "-o", "-type", "f"]
    words += ["-cnewer", str(lab.folder / SINCE)]
    words += ["-exec", "grep", "-lF", "-e", planted.token, "-e", planted.key, "{}", "+"]
    found = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300).stdout.splitlines()
    # The lab's caches hold the disks of its hosts, which have tests of their own below.
    return [path for path in found if not path.startswith(f"{cache_dir()}/")]


def _grep(host: str, value: str) -> list[str]:
    """Files of the host that hold the value; layers of running containers are seen in their own folders."""
    changed = f"find {PLACES} -name merged -prune -o -type f -cnewer /run/{SINCE}"
    command = f"{changed} -exec grep -lF -e '{value}' {{}} + 2>/dev/null; true"
    return sorted(shell(host, command, timeout=180).splitlines())


def _in_dockers_folder(path: str) -> bool:
    homes = ("/var/lib/docker/containers/", "/var/lib/containerd/", "/run/containerd/", "/run/docker/")
    return path.startswith(homes)


def _watch(told: Planted, stop: threading.Event) -> None:
    """Command lines and environments of every process: lab hosts' are this machine's too."""
    token, key = told.token.encode(), told.key.encode()
    while not stop.is_set():
        told.looks += 1
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            line = words.replace(b"\0", b" ").decode(errors="replace").strip()
            if token in words or key in words:
                told.seen.add(f"command line: {line}")
            # Who starts provision with env: has the token in its environment, and so has provision.
            if token in environment and "bin/provision" not in line:
                told.seen.add(f"token in the environment of: {line}")
            # The server and the benchmark client must have the key; both are in a container of the engine's image.
            if key in environment and not (place / "root" / "vllm-workspace").is_dir():
                told.seen.add(f"key in the environment of: {line}")
        time.sleep(0.02)
