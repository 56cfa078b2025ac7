"""A real Prometheus of a test's own (Debian: apt-get install prometheus), and what it is asked."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MISSING = (
    None
    if shutil.which("prometheus") and shutil.which("promtool")
    else "prometheus and promtool are missing; Debian: apt-get install prometheus"
)
WAIT_S = 60.0


@contextlib.contextmanager
def prometheus(folder: Path, config: str) -> Iterator[str]:
    """Its address while it runs."""
    address = f"127.0.0.1:{free_port()}"
    (folder / "test.yml").write_text(config)
    log = (folder / "prometheus.log").open("w")
    argv = ["prometheus", "--config.file=test.yml", f"--web.listen-address={address}", "--storage.tsdb.path=data"]
    process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=20)
        log.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until(what: str, seen: Callable[[], Any]) -> Any:
    deadline, found = time.monotonic() + WAIT_S, None
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            found = seen()
            if found:
                return found
        time.sleep(0.2)
    raise AssertionError(f"{what} not within {WAIT_S} s; last: {found}")


def ask(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=5) as answer:  # noqa: S310 - loopback
        return json.load(answer)["data"]


def query(url: str, expr: str) -> list[tuple[dict[str, str], float]]:
    found = ask(url, "query?" + urllib.parse.urlencode({"query": expr}))["result"]
    return [(one["metric"], float(one["value"][1])) for one in found]
