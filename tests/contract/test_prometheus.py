"""The real Prometheus and promtool read what `provision monitoring` writes (Debian: apt-get install prometheus)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import fleet, plan, server
from prometheus import MISSING, ask, free_port, prometheus, query, until
from reports import verdict

from provisioner.report.monitoring.files import monitoring_files, write
from provisioner.report.monitoring.rules import rules_text
from provisioner.report.monitoring.served import LastVerdict, served

pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
LAST = LastVerdict(fleet="lab", at=datetime.now(UTC), verdict=verdict(passed=False, reasons=("slow",)))


def promtool(*argv: str, given: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *argv], input=given, text=True, capture_output=True, timeout=60, check=False, cwd=folder
    )


def written(folder: Path, port: int = 8000) -> dict[str, str]:
    the_plan = plan(fleet(server(host="0.0.0.0", port=port), server("inside", port=8001)))
    files = monitoring_files("lab", served("lab", the_plan, "127.0.0.1"), [LAST])
    write(folder, files)
    return files


def test_configuration_rules_and_metrics_pass_promtool(tmp_path: Path) -> None:
    files = written(tmp_path)
    for argv, given in (
        (("check", "config", "prometheus.yml"), ""),
        (("check", "rules", "rules/vllm.yml"), ""),
        (("check", "metrics"), files["textfile/provision.prom"]),
    ):
        done = promtool(*argv, given=given, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout + done.stderr


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    board = json.loads(written(tmp_path)["grafana/vllm-fleet.json"])
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"panel:{index}", "expr": query.replace("$__rate_interval", "5m")}
        for index, query in enumerate(queries)
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", "panels.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout


WHERE = 'fleet="lab",host="gpu-01",server="nemotron"'
MINUTES = 30


def constant(value: float) -> str:
    return f"{value}x{MINUTES}"


def _expected(rule: dict[str, Any], value: str) -> dict[str, Any]:
    """The alert with its texts as they are sent."""
    words = {"$labels.host": "gpu-01", "$labels.server": "nemotron", "$value | humanizePercentage": value}
    texts = dict(rule["annotations"])
    for name, told in texts.items():
        for word, meaning in words.items():
            told = told.replace(f"{{{{ {word} }}}}", meaning)
        texts[name] = told
    labels = {"fleet": "lab", "host": "gpu-01", "server": "nemotron", **rule["labels"]}
    return {"exp_labels": labels, "exp_annotations": texts}


@pytest.mark.parametrize(
    ("series", "fires", "minute", "value"),
    [
        ({f"up{{{WHERE}}}": constant(0)}, "VllmServerDown", 3, ""),
        ({f"up{{{WHERE}}}": constant(1)}, None, 20, ""),
        ({f'vllm:kv_cache_usage_perc{{{WHERE},engine="0"}}': constant(0.99)}, "VllmKvCacheFull", 12, "99%"),
        ({f'vllm:kv_cache_usage_perc{{{WHERE},engine="0"}}': constant(0.8)}, None, 20, ""),
        ({f'vllm:num_requests_waiting{{{WHERE},engine="0"}}': f"5+5x{MINUTES}"}, "VllmQueueGrowing", 25, ""),
        ({f'vllm:num_requests_waiting{{{WHERE},engine="0"}}': constant(50)}, None, 25, ""),
        (
            {
                f'http_requests_total{{{WHERE},handler="/v1/chat/completions",status="2xx"}}': f"0+100x{MINUTES}",
                f'http_requests_total{{{WHERE},handler="/v1/chat/completions",status="5xx"}}': f"0+5x{MINUTES}",
            },
            "VllmServerErrors",
            15,
            "4.762%",
        ),
        ({f'http_requests_total{{{WHERE},handler="/v1/completions",status="2xx"}}': f"0+100x{MINUTES}"}, None, 15, ""),
        ({f'vllm:request_success_total{{{WHERE},finished_reason="error"}}': "0x9 1x20"}, "VllmRequestsFail", 12, ""),
        ({f'vllm:request_success_total{{{WHERE},finished_reason="stop"}}': f"0+9x{MINUTES}"}, None, 12, ""),
        ({f"vllm:num_preemptions_total{{{WHERE}}}": f"0+60x{MINUTES}"}, "VllmPreempting", 28, ""),
        ({f"provision_server_passed{{{WHERE}}}": constant(0)}, "ProvisionVerdictFailed", 1, ""),
        ({f"provision_server_passed{{{WHERE}}}": constant(1)}, None, 5, ""),
        ({'up{fleet="other",host="gpu-01",server="nemotron"}': constant(0)}, None, 20, ""),
    ],
)
def test_alerts_fire_when_they_should_and_not_else(
    tmp_path: Path, series: dict[str, str], fires: str | None, minute: int, value: str
) -> None:
    text = rules_text("lab")
    (tmp_path / "rules.yml").write_text(text)
    known = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    checks = [
        {
            "eval_time": f"{minute}m",
            "alertname": rule["alert"],
            "exp_alerts": [_expected(rule, value)] if rule["alert"] == fires else [],
        }
        for rule in known
    ]
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": checks,
            }
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", "tests.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def engine(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """vLLM's simulated engine, listening on loopback."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text('{"max_position_embeddings": 4096}')
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"")
    argv = [sys.executable, "-m", "provisioner.lab.sim", "serve", str(model), "--host=127.0.0.1", f"--port={port}"]
    environment = {**os.environ, "SIM_STARTUP_SECONDS": "0"}
    with (folder / "engine.log").open("w") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait(timeout=20)


@contextlib.contextmanager
def serving(running: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def node_exporter(text: str) -> ThreadingHTTPServer:
    """Says what node_exporter would say of a textfile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            return

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def test_prometheus_finds_the_servers_and_sees_one_go(tmp_path: Path) -> None:
    port = free_port()
    files = written(tmp_path, port=port)
    config = yaml.safe_load(files["prometheus.yml"])
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "1s"}
    exporter = node_exporter(files["textfile/provision.prom"])
    node = {"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{exporter.server_address[1]}"]}]}
    config["scrape_configs"].append(node)
    with (
        engine(tmp_path, port) as vllm,
        serving(exporter),
        prometheus(tmp_path, yaml.safe_dump(config)) as url,
    ):
        up = until("the server is up", lambda: query(url, 'up{job="vllm"} == 1'))
        # The server on loopback alone is not among them.
        assert [labels["server"] for labels, _ in up] == ["nemotron"]
        assert up[0][0]["bound"] == "network"
        assert up[0][0]["hardware"] == "h200"
        running = until("vLLM's metrics", lambda: query(url, 'vllm:num_requests_running{host="gpu-01"}'))
        assert running[0][1] == 0
        passed = until("the last verdict", lambda: query(url, "provision_server_passed"))
        assert (passed[0][0]["host"], passed[0][1]) == ("gpu-01", 0)
        alerts = until("the alert on the last verdict", lambda: query(url, 'ALERTS{alertstate="firing"}'))
        assert [labels["alertname"] for labels, _ in alerts] == ["ProvisionVerdictFailed"]
        rules = [rule for group in ask(url, "rules")["groups"] for rule in group["rules"]]
        assert {rule["health"] for rule in rules} == {"ok"}
        vllm.kill()
        down = until("the alert that it is down", lambda: query(url, 'ALERTS{alertname="VllmServerDown"}'))
        assert down[0][0]["alertstate"] == "pending"
