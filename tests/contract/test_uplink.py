"""The lab's uplink: a real process between a client and a server of this machine."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

BODY = bytes(1_000_000)
Begin = Callable[..., str]


@pytest.fixture
def server() -> Iterator[str]:
    """What it leads to: answers with BODY, whatever is asked."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{found.server_address[1]}"
        found.shutdown()
        thread.join()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts an uplink that leads to an address; its own."""
    running = []

    def start(target: str, rate: int = 0) -> str:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        argv = [sys.executable, "-m", "provisioner.lab.uplink", str(tmp_path / "counts.json"), "--rate", str(rate)]
        running.append(subprocess.Popen([*argv, f"registry={address}={target}"]))
        host, _, port = address.rpartition(":")
        _until(lambda: _connects(host, int(port)), "the uplink to listen")
        return address

    yield start
    for process in running:
        process.terminate()
        process.wait()


def test_what_comes_down_is_counted_by_host(server: str, begin: Begin, tmp_path: Path) -> None:
    address = begin(server)
    for _ in range(2):
        assert _fetch(address) == BODY
    counted = lambda: json.loads((tmp_path / "counts.json").read_text())["registry"].get("127.0.0.1", 0)  # noqa: E731
    _until(lambda: counted() >= 2 * len(BODY), "two answers in the counts")
    assert counted() < 2 * len(BODY) + 2000, "headers alone are counted besides"


def test_it_is_as_narrow_as_it_is_told_for_everybody_together(server: str, begin: Begin) -> None:
    address = begin(server, 2 * len(BODY))
    began = time.monotonic()
    threads = [threading.Thread(target=_fetch, args=(address,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # three answers at two a second; what the last bytes wait for is not waited for any more
    assert time.monotonic() - began > 1.3


def test_where_nothing_is_behind_it_the_connection_ends(begin: Begin) -> None:
    address = begin("127.0.0.1:1")
    with pytest.raises(OSError, match=r"reset|closed|Remote end"):
        _fetch(address)


def _fetch(address: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/", timeout=30) as answer:
        content: bytes = answer.read()
    return content


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True


def _until(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < end, f"waited 20 s for {what}"
        time.sleep(0.05)
