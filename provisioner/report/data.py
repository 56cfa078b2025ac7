"""A report as JSON, for programs: everything that the page shows, and every key of vLLM's results."""

from __future__ import annotations

import json
import math
from typing import Any

from provisioner.report.model import HostReport, Report, Trend
from provisioner.report.pareto import interactivity
from provisioner.report.table import as_data
from provisioner.report.tuning import as_data as tuning_data


def to_json(report: Report) -> str:
    """The text. Figures that are no numbers (a benchmark without an answer has them) are null."""
    document = {
        "run": report.run.model_dump(mode="json"),
        "ending": report.ending,
        "passed": all(verdict.passed for verdict in report.verdicts),
        "hosts": [_host(host) for host in report.hosts],
        "others": [_trend(trend) for trend in report.others],
        "tuning": tuning_data(report.tuning) if report.tuning else None,
    }
    return as_text(document)


def as_text(document: Any) -> str:
    """Plain data as JSON; what is no number is null."""
    return json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False)


def _host(host: HostReport) -> dict[str, Any]:
    return {
        **host.model_dump(mode="json", exclude={"verdicts", "trends"}),
        "state": host.state,
        "driver": host.driver,
        "servers": [
            {**as_data(verdict), "interactivity": interactivity(verdict.benchmark) if verdict.benchmark else None}
            for verdict in host.verdicts
        ],
        "trends": [_trend(trend) for trend in host.trends],
    }


def _trend(trend: Trend) -> dict[str, Any]:
    return {**trend.model_dump(mode="json"), "change": trend.change}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
