"""`vllm bench serve` on the host, from the image that serves: every figure is measured where the server is."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from provisioner.errors import GateError, HostError, ProvisionError
from provisioner.history.redact import redact
from provisioner.history.verdict import BenchmarkResult
from provisioner.hosts.transport import Result, Transport
from provisioner.plan.bench import RESULT_FILE, RESULTS_DIR
from provisioner.plan.docker_run import HF_HOME, MODULES_CACHE
from provisioner.plan.model import Server
from provisioner.validate.interrupt import Interrupted, stop_if
from provisioner.validate.remote import COMMAND_TIMEOUT_S, as_root
from provisioner.validate.results import parse_result

HOST_RESULTS_DIR = "/var/lib/vllm/benchmarks"
"""on the host; one directory a server, emptied before a benchmark and removed after it"""
ATTEMPTS = 3
"""`docker run` itself fails now and then before anything has started (runc: connection reset by peer)"""
DOCKER_FAILED = 125
TIMED_OUT = (124, 137)
"""exit codes of timeout(1): ended in time, or killed"""
GRACE_S = 30
MEASURING = "Starting main benchmark run"
"""what the client prints after its warm-ups"""
LOG_CHARACTERS = 4000
OUTPUT_LINES = 40

Progress = Callable[[str], None]


def bench_docker_argv(server: Server, cache_dir: str, results_dir: str, *, env_file: str | None = None) -> list[str]:
    """The whole `docker run …` of the benchmark. `cache_dir` and `results_dir` are on the host; `env_file` holds
    OPENAI_API_KEY of a server that asks for a key."""
    argv = ["docker", "run", "--rm", "--name", container_name(server), "--network", "host", "--entrypoint", "vllm"]
    # The image is on the host: it serves. Never pull another one for the measurement.
    argv += ["--pull", "never", "--volume", f"{cache_dir}:{HF_HOME}:ro", "--volume", f"{results_dir}:{RESULTS_DIR}"]
    argv += [word for mount in server.benchmark.mounts for word in ("--volume", mount)]
    argv += ["--env", f"HF_HOME={HF_HOME}", "--env", "HF_HUB_OFFLINE=1", "--env", f"HF_MODULES_CACHE={MODULES_CACHE}"]
    if env_file is not None:
        argv += ["--env-file", env_file]
    return [*argv, server.image, *server.benchmark.argv]


def bench_command(argv: Sequence[str], limit_s: int) -> str:
    """`argv` as root, ended after `limit_s` seconds on the host too, where it outlives a lost connection. SIGINT,
    because Python as the first process of a container ignores SIGTERM. The progress bar is turned into lines."""
    bounded = shlex.join(["timeout", "--signal=INT", f"--kill-after={GRACE_S}", str(limit_s), *argv])
    return as_root(["bash", "-o", "pipefail", "-c", f"{bounded} 2>&1 | stdbuf -oL tr '\\r' '\\n'"])


def container_name(server: Server) -> str:
    """Not `vllm-…`: those are servers."""
    return f"provision-bench-{server.name}"


def run_benchmark(
    transport: Transport,
    server: Server,
    *,
    cache_dir: str,
    save_to: Path,
    api_key: str | None = None,
    secrets: Iterable[str] = (),
    on_progress: Progress = lambda _text: None,
    on_measuring: Callable[[], None] = lambda: None,
    interrupted: Interrupted = lambda: False,
) -> BenchmarkResult:
    """Run the server's benchmark, at most `server.benchmark.timeout_s` seconds an attempt, and write its whole JSON to
    the file `save_to`. `on_measuring` is called when the client has warmed the server up. GateError when it ends
    without a result; HostError when Docker cannot run it. The container is gone afterwards, however this ends."""
    secrets = (*secrets, *([api_key] if api_key else []))
    results_dir = f"{HOST_RESULTS_DIR}/{server.name}"
    env_file = f"{results_dir}.env" if api_key else None
    try:
        _prepare(transport, server, results_dir)
        if env_file:
            _write_secret(transport, env_file, f"OPENAI_API_KEY={api_key}\n")
        argv = bench_docker_argv(server, cache_dir, results_dir, env_file=env_file)
        _run(transport, server, argv, secrets, on_progress, on_measuring, interrupted)
        text = _fetch(transport, f"{results_dir}/{RESULT_FILE}")
    except BaseException as error:
        _clean_after(error, transport, server, results_dir, env_file)
        raise
    _clean(transport, server, results_dir, env_file)
    save_to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_to.write_text(text, encoding="utf-8")
    return parse_result(text)


def progress_text(line: str) -> str:
    """What a line of the benchmark's output says about how far it is: `12/32 requests`, or the line itself."""
    if line.startswith("Namespace("):
        return ""  # its whole command line, as Python prints it
    counts = re.search(r"(\d+)/(\d+) \[", line)
    return f"{counts[1]}/{counts[2]} requests" if counts else line.strip()


def _run(
    transport: Transport,
    server: Server,
    argv: list[str],
    secrets: tuple[str, ...],
    on_progress: Progress,
    on_measuring: Callable[[], None],
    interrupted: Interrupted,
) -> None:
    limit = server.benchmark.timeout_s
    command = bench_command(argv, limit)

    def tell(line: str) -> None:
        stop_if(interrupted)
        if line.startswith(MEASURING):
            on_measuring()
        if text := progress_text(line):
            on_progress(redact(text, secrets))

    for attempt in range(1, ATTEMPTS + 1):
        start = time.monotonic()
        result = transport.run(command, timeout_s=limit + 2 * GRACE_S, on_line=tell)
        if result.rc != DOCKER_FAILED:
            break
        on_progress(f"docker run failed before it started anything (attempt {attempt} of {ATTEMPTS})")
        _remove_container(transport, server)
    if result.rc == 0:
        return
    output = redact(_tail(result), secrets)
    if result.rc == DOCKER_FAILED:
        raise HostError(f"docker could not run the benchmark of {server.name} ({ATTEMPTS} attempts)", log=output)
    if result.rc in TIMED_OUT and time.monotonic() - start >= limit:
        raise GateError(
            f"the benchmark of {server.name} did not end within {limit} s; its last output:\n{output}",
            hint="give it more time (benchmark.timeout_s) or fewer prompts (benchmark.num_prompts)",
        )
    raise GateError(f"the benchmark of {server.name} ended with exit code {result.rc}; its last output:\n{output}")


def _prepare(transport: Transport, server: Server, results_dir: str) -> None:
    # What an earlier run left behind must not be taken for this one's result.
    _remove_container(transport, server)
    _must(transport, ["rm", "-rf", results_dir])
    _must(transport, ["install", "-d", "-m", "0700", HOST_RESULTS_DIR, results_dir])


def _write_secret(transport: Transport, path: str, content: str) -> None:
    # Through stdin: arguments can be read by every user of the host.
    _must(transport, ["install", "-m", "0600", "/dev/stdin", path], stdin=content)


def _fetch(transport: Transport, path: str) -> str:
    result = transport.run(as_root(["cat", path]), timeout_s=COMMAND_TIMEOUT_S)
    if result.rc != 0:
        raise GateError(f"the benchmark ended well but left no result: {result.stderr.strip()}")
    return result.stdout


def _clean_after(
    error: BaseException, transport: Transport, server: Server, results_dir: str, env_file: str | None
) -> None:
    # The first error is the one to tell; a host that is gone cannot be cleaned, and the next run does it.
    try:
        _clean(transport, server, results_dir, env_file)
    except ProvisionError as cleaning:
        error.add_note(f"cleaning up after it failed as well: {cleaning.message}")


def _clean(transport: Transport, server: Server, results_dir: str, env_file: str | None) -> None:
    _remove_container(transport, server)
    _must(transport, ["rm", "-rf", results_dir, *([env_file] if env_file else [])])


def _remove_container(transport: Transport, server: Server) -> None:
    # Older engines call a missing container an error, also with --force: only a container that stays is one.
    name = container_name(server)
    transport.run(as_root(["docker", "rm", "--force", name]), timeout_s=COMMAND_TIMEOUT_S)
    left = _must(transport, ["docker", "ps", "--all", "--quiet", "--filter", f"name=^{name}$"])
    if left.stdout.strip():
        raise HostError(f"container {name} of an earlier benchmark cannot be removed")


def _must(transport: Transport, argv: list[str], stdin: str | None = None) -> Result:
    result = transport.run(as_root(argv), stdin=stdin, timeout_s=COMMAND_TIMEOUT_S)
    if result.rc != 0:
        raise HostError(f"{argv[0]} failed on the host (rc {result.rc}): {' '.join(argv)}", log=result.stderr.strip())
    return result


def _tail(result: Result) -> str:
    lines = (result.stdout + "\n" + result.stderr).splitlines()
    return "\n".join([line for line in lines if line.strip()][-OUTPUT_LINES:])[-LOG_CHARACTERS:]
