"""What every lab test needs: driving `provision` as a user does, and looking at what is on hosts, past SSH."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from provisioner.lab.docker import docker
from provisioner.lab.faults import on_host
from provisioner.lab.paths import cache_dir, state_dir
from provisioner.lab.registry import PULL_PORT

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PROVISION = BIN / "provision"
SIM_IMAGE = "vllm/vllm-openai:v0.12.0"
DEPLOY_TAG = "vllm/vllm-openai:deploy"
SLOW_VARIABLE = "PROVISION_LAB_TESTS_SLOW"
BF16 = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
FP8 = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
"""gated on the lab's hub; what an H100 or H200 gets by default"""
QUICK_BENCHMARK = {
    "random_input_len": 32,
    "random_output_len": 8,
    "num_prompts": 8,
    "max_concurrency": 8,
    "num_warmups": 1,
}


def slow_jobs() -> bool:
    """Whether tests run, too, that take too long for `make test` and are jobs of their own in `.ci/run`."""
    return bool(os.environ.get(SLOW_VARIABLE))


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def text(self) -> str:
        """Both streams, as a user sees them."""
        return self.stdout + self.stderr

    def __str__(self) -> str:
        return f"{' '.join(self.argv)}\nexit {self.rc} after {self.seconds:.1f} s\n{self.stdout}\n{self.stderr}"


@dataclass(frozen=True)
class Lab:
    """The lab, and a folder of this session's own: fleet files, and the state of every run started through it."""

    folder: Path
    fleet: Path
    """written by `provision lab up`"""
    gateway: str
    real_vllm: bool
    """amd64 hosts of the lab's fleet run real vLLM"""

    @property
    def state(self) -> Path:
        """XDG_STATE_HOME of the runs."""
        return self.folder / "state"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of a user who has nothing but the lab: no agent, no state of other runs."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "SSH_", "HF_"))}
        paths = {"PROVISION_LAB_STATE": str(state_dir()), "PROVISION_LAB_CACHE": str(cache_dir())}
        return {**kept, **paths, "XDG_STATE_HOME": str(self.state), "COLUMNS": "200", **(extra or {})}

    def run(
        self,
        *words: str | Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
        cwd: Path = ROOT,
        program: Path = PROVISION,
    ) -> Done:
        """`provision WORDS` to its end, without a terminal; prints what it took."""
        return run([str(program), *map(str, words)], env=self.environment(env), timeout=timeout, cwd=cwd)

    @contextmanager
    def started(self, *words: str | Path, env: Mapping[str, str] | None = None) -> Iterator[Started]:
        """`provision WORDS` in a session of its own; killed at the end of the block if it still runs."""
        words_out, words_err = (self.folder / f"started-{time.monotonic_ns()}.{name}" for name in ("out", "err"))
        with words_out.open("wb") as out, words_err.open("wb") as err:
            process = subprocess.Popen(
                [str(PROVISION), *map(str, words)],
                env=self.environment(env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        try:
            yield Started(process, tuple(map(str, words)), words_out, words_err, self)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def write_fleet(self, name: str, hosts: Sequence[str] | Mapping[str, Any], **changes: Any) -> Path:
        """A fleet of the sim engine. `changes`: keys of the server, or of the file with `top_` before them."""
        top = {key.removeprefix("top_"): value for key, value in changes.items() if key.startswith("top_")}
        server = {key: value for key, value in changes.items() if not key.startswith("top_")}
        server["env"] = {"SIM_STARTUP_SECONDS": "0.1", **server.get("env", {})}
        content = {
            "name": name,
            "ssh": {"config": str(self.fleet.parent / "ssh_config")},
            "docker": {
                "source": "distribution",
                "registry_mirrors": [f"http://{self.gateway}:5000"],
                "insecure_registries": [f"{self.gateway}:{PULL_PORT}"],
                "min_free_gib": 2,
            },
            "hub": {
                "endpoint": f"http://{self.gateway}:8800",
                "token": f"file:{self.fleet.parent / 'hf_token'}",
            },
            "hosts": dict(hosts) if isinstance(hosts, Mapping) else {host: {} for host in hosts},
            "servers": {
                "sim": {
                    "recipe": "nemotron-3-nano",
                    "image": {"default": SIM_IMAGE},
                    "max_num_seqs": 8,
                    "max_model_len": 2048,
                    "benchmark": QUICK_BENCHMARK,
                    "baseline": {"against": "nothing"},  # so short a benchmark says nothing about speed
                    **server,
                }
            },
            **top,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def latest_run(self, fleet: str) -> Path:
        """Directory of a fleet's newest run."""
        return (self.state / "provision" / "runs" / fleet / "latest").resolve()

    def record(self, fleet: str) -> dict[str, Any]:
        """record.json of a fleet's newest run."""
        record: dict[str, Any] = read_json(self.latest_run(fleet) / "record.json")
        return record

    def runs(self, fleet: str) -> list[str]:
        """Names of all runs of a fleet."""
        folder = self.state / "provision" / "runs" / fleet
        return sorted(path.name for path in folder.iterdir() if path.name != "latest") if folder.is_dir() else []


@dataclass
class Started:
    """A `provision` that may still run. Its events are read from the run directory, as they are on the disk."""

    process: subprocess.Popen[bytes]
    words: tuple[str, ...]
    out: Path
    err: Path
    lab: Lab
    began: float = field(default_factory=time.monotonic)

    @property
    def text(self) -> str:
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")

    def done(self, timeout: float) -> Done:
        """The command when it has ended; fails with its words when it does not in time."""
        code = self.wait(timeout)
        seconds = time.monotonic() - self.began
        return Done((str(PROVISION), *self.words), code, self.out.read_text(), self.err.read_text(), seconds)

    def wait(self, timeout: float) -> int:
        """Its exit code; fails with its words when it does not end in time."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {timeout:.0f} s:\n{self.text}") from None
        show(f"exit {code} after {time.monotonic() - self.began:.1f} s")
        return code

    def wait_for_task(self, fleet: str, before: Sequence[str], task: str, timeout: float = 240) -> None:
        """Until a run that is not among `before` says that a task with this text is under way."""

        def under_way() -> bool:
            fresh = [name for name in self.lab.runs(fleet) if name not in before]
            if not fresh:
                return False
            events = self.lab.latest_run(fleet).parent / fresh[-1] / "events.jsonl"
            lines = events.read_text().splitlines() if events.exists() else []
            return bool(lines) and task in lines[-1] and '"status":"running"' in lines[-1]

        ready = lambda: under_way() or self.process.poll() is not None  # noqa: E731  one line, used once
        wait_for(ready, timeout, lambda: f"task {task!r}; so far:\n{self.text}", every=0.03)
        assert self.process.poll() is None, f"ended before task {task!r}:\n{self.text}"


def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 600, cwd: Path = ROOT) -> Done:
    """A command to its end, without a terminal; prints what it took."""
    began = time.monotonic()
    ended = subprocess.run(
        list(argv),
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
    )
    done = Done(tuple(argv), ended.returncode, ended.stdout, ended.stderr, time.monotonic() - began)
    show(f"{done.seconds:6.1f} s  exit {done.rc}  {' '.join([Path(argv[0]).name, *argv[1:]])}")
    return done


def show(text: str) -> None:
    """A line for whoever watches the tests (shown with -s, or when the test fails)."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def wait_for(ready: Callable[[], bool], timeout: float, what: Callable[[], str] | str, every: float = 0.2) -> None:
    """Poll; AssertionError saying what was waited for."""
    end = time.monotonic() + timeout
    while not ready():
        if time.monotonic() >= end:
            words = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {timeout:.0f} s for {words}")
        time.sleep(every)


def main_fleet(lab: Lab) -> Path:
    """The lab's own fleet file without the hosts of the other tests."""
    lines = lab.fleet.read_text().splitlines()
    path = lab.fleet.parent / "main.yaml"
    path.write_text("\n".join(line for line in lines if not line.startswith("  lab-h100-")) + "\n")
    return path


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def shell(host: str, command: str, timeout: float = 60) -> str:
    """A shell command as root on a host, past SSH; its stdout. LabError when it fails."""
    return on_host(host, ["sh", "-c", command], timeout=timeout)


def container(host: str, name: str = "vllm-sim") -> tuple[str, str]:
    """Id and start time of a running container on a host."""
    told = shell(host, f"docker container inspect --format '{{{{.Id}}}} {{{{.State.StartedAt}}}}' {name}")
    identity, started = told.split()
    return identity, started


def fingerprint(host: str) -> str:
    """All that a run could change on a host, as text: for `nothing was changed`."""
    return shell(
        host,
        "find /etc/docker /etc/vllm /etc/systemd/system /var/lib/vllm /usr/bin /usr/lib/systemd /etc/apt "
        r"-newermt 2000-01-01 \( -path '*/blobs/*' -o -path '*/.locks/*' -o -path /var/lib/vllm/proofs \) -prune -o "
        "-printf '%p %s %T@ %m\\n' 2>/dev/null | sort; "
        "docker ps --no-trunc --format '{{.ID}} {{.Names}}' 2>/dev/null; docker image ls --no-trunc 2>/dev/null | "
        "awk '{print $1, $2, $3}' | sort; true",
    )


def health(host: str, port: int = 8000) -> bool:
    """Whether a server on the host answers /health."""
    return (
        shell(host, f"curl -sf -m 5 -o /dev/null http://127.0.0.1:{port}/health && echo yes || true").strip() == "yes"
    )


def chat(host: str, model: str, port: int = 8000, key: str = "") -> tuple[int, str]:
    """HTTP status and body of one chat request, sent on the host."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8})
    header = f"-H 'Authorization: Bearer {key}'" if key else ""
    told = shell(
        host,
        f"curl -s -m 120 -w '\\n%{{http_code}}' {header} -H 'Content-Type: application/json' -d '{body}' "
        f"http://127.0.0.1:{port}/v1/chat/completions",
        timeout=150,
    )
    text, _, status = told.rpartition("\n")
    return int(status), text


def fresh(hosts: Sequence[str]) -> None:
    """Remove lab hosts, so that the next `lab up` makes them anew."""
    docker(["rm", "--force", "--volumes", *hosts], what=f"removing {', '.join(hosts)}", timeout=180)
