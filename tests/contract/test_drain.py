"""Before a restart the role vllm_server waits until no request is left: its own tasks against a server's metrics."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from plays import run_playbook

# as vLLM 0.32 prints it
METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="org/model"}} {running}.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="org/model"}} {waiting}.0
vllm:num_requests_waiting_by_reason{{engine="0",model_name="org/model",reason="capacity"}} {waiting}.0
"""


class Server:
    """Says of itself what `loads` holds, one (running, waiting) an answer; the last one for ever."""

    def __init__(self, loads: list[tuple[int, int]]) -> None:
        self.asked = 0

        class Answer(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                running, waiting = loads[min(self.asked, len(loads) - 1)]
                self.asked += 1
                handler.send_response(200)
                handler.end_headers()
                handler.wfile.write(METRICS.format(running=running, waiting=waiting).encode())

            def log_message(handler, *words: object) -> None:  # noqa: N805
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for one in started:
        one.server.shutdown()
        one.server.server_close()


def test_it_waits_until_nothing_is_left_and_no_longer_than_it_may(tmp_path: Path, servers: list[Server]) -> None:
    ends, stays = Server([(2, 1), (0, 1), (0, 0)]), Server([(3, 0)])
    servers += [ends, stays]
    text = run(tmp_path, {"ends": ends.address, "stays": stays.address, "gone": "127.0.0.1:9"}, timeout_s=4)
    assert ends.asked == 3
    assert stays.asked >= 4
    told = "vllm-stays.service restarts with 3 requests under way: they did not end within 4 s."
    assert told in text
    assert text.count("requests under way: they") == 1


def run(folder: Path, addresses: dict[str, str], timeout_s: int) -> str:
    hosts = {
        name: {
            "vllm_server": {"unit": f"vllm-{name}.service", "drain_timeout_s": timeout_s},
            "vllm_server_before": {"address": address},
        }
        for name, address in addresses.items()
    }
    include = {"ansible.builtin.include_role": {"name": "vllm_server", "tasks_from": "drain"}}
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "tasks": [include]}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}), encoding="utf-8")
    (folder / "site.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    python = json.dumps({"ansible_python_interpreter": sys.executable})
    done = run_playbook(folder, "-i", "hosts.yml", "-e", python, "site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
