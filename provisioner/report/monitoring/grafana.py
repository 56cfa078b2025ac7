"""A Grafana dashboard of the served fleets (the classic JSON model, which every version imports). Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from provisioner.report.monitoring.served import by

DASHBOARD = "grafana/vllm-fleet.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
ITS = '{fleet=~"$fleet",host=~"$host",server=~"$server"}'
LEGEND = "{{host}}/{{server}}"
WIDTH, HEIGHT = 8, 8
"""of a panel; a row is 24 wide"""

Query = tuple[str, str]
"""PromQL, legend"""


def dashboard() -> str:
    """The JSON to import; one for all fleets, chosen by its variables."""
    panels = [
        _table("Last validation", f"provision_server_passed{ITS}"),
        _series("Servers that answer", [(f"up{ITS}", LEGEND)], "bool_on_off"),
        _series("Alerts", [('ALERTS{fleet=~"$fleet",alertstate="firing"}', "{{alertname}} " + LEGEND)], "short"),
        _series(
            "Output tokens a second",
            [
                (_rate("vllm:generation_tokens_total"), LEGEND),
                (f"provision_benchmark_output_tokens_per_second{ITS}", f"{LEGEND}, its last benchmark"),
            ],
            "short",
        ),
        _series("Prompt tokens a second", [(_rate("vllm:prompt_tokens_total"), LEGEND)], "short"),
        _series(
            "Requests",
            [
                (_sum("vllm:num_requests_running"), f"{LEGEND} running"),
                (_sum("vllm:num_requests_waiting"), f"{LEGEND} waiting"),
            ],
            "short",
        ),
        _series("Time to first token", _quantiles("vllm:time_to_first_token_seconds"), "s"),
        _series("Inter-token latency", _quantiles("vllm:inter_token_latency_seconds"), "s"),
        _series("End-to-end latency", _quantiles("vllm:e2e_request_latency_seconds"), "s"),
        _series("KV cache in use", [(f"max {by()} (vllm:kv_cache_usage_perc{ITS})", LEGEND)], "percentunit"),
        _series("Preemptions a second", [(_rate("vllm:num_preemptions_total"), LEGEND)], "short"),
        _series(
            "Answers with a server's error, a second",
            [(f'sum {by()} (rate(http_requests_total{ITS[:-1]},status="5xx"}}[$__rate_interval]))', LEGEND)],
            "reqps",
        ),
    ]
    return json.dumps(_document(panels), indent=1) + "\n"


def _document(panels: Sequence[dict[str, Any]]) -> dict[str, Any]:
    for index, panel in enumerate(panels):
        row, column = divmod(index, 24 // WIDTH)
        panel |= {"id": index + 1, "gridPos": {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": row * HEIGHT}}
    return {
        "uid": "provision-vllm",
        "title": "vLLM fleet",
        "tags": ["vllm", "provision"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": list(panels),
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    chosen = (("fleet", 'up{server!=""}'), ("host", 'up{fleet=~"$fleet"}'), ("server", 'up{host=~"$host"}'))
    return [
        source,
        *(
            {
                "name": name,
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": f"label_values({series}, {name})", "refId": name},
                "refresh": 2,
                "includeAll": True,
                "multi": True,
                "current": {"text": "All", "value": "$__all"},
            }
            for name, series in chosen
        ),
    ]


def _series(title: str, queries: Sequence[Query], unit: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "timeseries",
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for index, (expr, legend) in enumerate(queries)
        ],
    }


def _table(title: str, expr: str) -> dict[str, Any]:
    words = {"0": {"text": "FAILED", "color": "red"}, "1": {"text": "passed", "color": "green"}}
    hidden = {"Time": True, "__name__": True, "instance": True, "job": True}
    return {
        "title": title,
        "type": "table",
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"mappings": [{"type": "value", "options": words}]}, "overrides": []},
        "transformations": [{"id": "organize", "options": {"excludeByName": hidden}}],
        "targets": [{"refId": "A", "datasource": SOURCE, "expr": expr, "instant": True, "format": "table"}],
    }


def _sum(metric: str) -> str:
    return f"sum {by()} ({metric}{ITS})"


def _rate(metric: str) -> str:
    return f"sum {by()} (rate({metric}{ITS}[$__rate_interval]))"


def _quantiles(metric: str) -> list[Query]:
    buckets = f"sum {by(('le', 'fleet', 'host', 'server'))} (rate({metric}_bucket{ITS}[$__rate_interval]))"
    return [
        (f"histogram_quantile({share}, {buckets})", f"{LEGEND} {name}") for share, name in ((0.5, "P50"), (0.99, "P99"))
    ]
