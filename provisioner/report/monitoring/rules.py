"""When to call somebody: Prometheus' alert rules for a fleet. Pure.

vLLM's names are those of 0.11 and newer: `kv_cache_usage_perc` was `gpu_cache_usage_perc` before 0.10.
"""

from __future__ import annotations

from typing import Any

import yaml

from provisioner.report.monitoring.served import by, selector

RULES = "rules/vllm.yml"
KV_FULL = 0.95
"""share of the KV cache in use"""
QUEUE_GROWTH = 10
"""requests by which a queue that is never empty has grown in ten minutes"""
ERROR_SHARE = 0.01
"""of the requests that are answered with a server's error"""


def rules_text(fleet: str) -> str:
    """The file of rules."""
    groups = {"groups": [{"name": f"vllm {fleet}", "rules": _rules(fleet)}]}
    return "# Written by provision.\n" + yaml.safe_dump(groups, sort_keys=False, allow_unicode=True, width=110)


def _rules(fleet: str) -> list[dict[str, Any]]:
    its = selector(fleet)
    scraped = selector(fleet, 'server!=""')
    waiting = f"sum {by()} (vllm:num_requests_waiting{its})"
    asked = selector(fleet, 'handler=~"/v1/.*"')
    refused = selector(fleet, 'handler=~"/v1/.*"', 'status="5xx"')
    engine_error = selector(fleet, 'finished_reason="error"')
    return [
        _alert(
            "VllmServerDown",
            f"up{scraped} == 0",
            "2m",
            "critical",
            "does not answer",
            "Its /metrics cannot be read: the server is down, or the host or the network between.",
        ),
        _alert(
            "VllmKvCacheFull",
            f"max {by()} (vllm:kv_cache_usage_perc{its}) > {KV_FULL}",
            "10m",
            "warning",
            "has a full KV cache ({{ $value | humanizePercentage }})",
            "New requests wait and running ones are preempted. Fewer at once (max-num-seqs), shorter contexts, an FP8 "
            "KV cache, or more GPUs.",
        ),
        _alert(
            "VllmQueueGrowing",
            f"min_over_time(({waiting})[10m:1m]) > 0 and delta(({waiting})[10m:1m]) > {QUEUE_GROWTH}",
            "5m",
            "warning",
            "has a queue that grows",
            "More requests come in than it can serve.",
        ),
        _alert(
            "VllmServerErrors",
            f"sum {by()} (rate(http_requests_total{refused}[5m]))"
            f" / sum {by()} (rate(http_requests_total{asked}[5m])) > {ERROR_SHARE}",
            "5m",
            "critical",
            "answers with errors ({{ $value | humanizePercentage }} of requests)",
            "`journalctl -u vllm-{{ $labels.server }}` on the host says why.",
        ),
        _alert(
            "VllmRequestsFail",
            f"sum {by()} (increase(vllm:request_success_total{engine_error}[10m])) > 0",
            None,
            "warning",
            "has requests that end with an error",
            "The engine gave up on them. `journalctl -u vllm-{{ $labels.server }}` on the host says why.",
        ),
        _alert(
            "VllmPreempting",
            f"sum {by()} (rate(vllm:num_preemptions_total{its}[10m])) > 0",
            "15m",
            "warning",
            "preempts requests",
            "The KV cache is too small for as many at once: requests are thrown out and computed again.",
        ),
        _alert(
            "ProvisionVerdictFailed",
            f"provision_server_passed{its} == 0",
            None,
            "warning",
            "did not pass its last validation",
            "`provision report --html report.html` tells why.",
        ),
    ]


def _alert(name: str, expr: str, lasting: str | None, severity: str, what: str, why: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": name, "expr": expr}
    if lasting:
        rule["for"] = lasting
    return rule | {
        "labels": {"severity": severity},
        "annotations": {"summary": f"{{{{ $labels.host }}}}/{{{{ $labels.server }}}} {what}", "description": why},
    }
