"""Whom to scrape: target files of Prometheus' file_sd, and a configuration that reads them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from provisioner.report.monitoring.served import Served

TARGETS = "targets/vllm.json"
LOOPBACK = "targets/loopback/{host}.json"
"""one a host: whoever scrapes on that host takes its own"""

CONFIG = """\
# Written by provision: `prometheus --config.file=prometheus.yml`, or take the job over into your own configuration.
# Prometheus reads targets/vllm.json again by itself whenever it changes.
global:
  scrape_interval: 15s
  evaluation_interval: 15s
rule_files:
  - rules/vllm.yml
scrape_configs:
  - job_name: vllm
    file_sd_configs:
      - files: [targets/vllm.json]
"""


def target_files(servers: Iterable[Served]) -> dict[str, str]:
    """Name of the file → text. Servers that only their own host reaches are in a file a host, not in the fleet's:
    to any other scraper they are down, whatever they do."""
    reachable: list[Served] = []
    local: dict[str, list[Served]] = {}
    for one in servers:
        (local.setdefault(one.host, []) if one.loopback else reachable).append(one)
    files = {TARGETS: _text(reachable)}
    return files | {LOOPBACK.format(host=host): _text(its) for host, its in sorted(local.items())}


def _text(servers: Iterable[Served]) -> str:
    groups = [
        {
            "targets": [one.target],
            "labels": {
                "fleet": one.fleet,
                "host": one.host,
                "server": one.server,
                "hardware": one.hardware,
                "variant": one.variant,
                "bound": "loopback" if one.loopback else "network",
            },
        }
        for one in servers
    ]
    return json.dumps(groups, indent=1) + "\n"
