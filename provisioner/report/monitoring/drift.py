"""Drift as text for node_exporter's textfile collector. Pure."""

from __future__ import annotations

from provisioner.history.drift import Drift
from provisioner.report.monitoring.textfile import metric


def drift_textfile(drift: Drift) -> str:
    """Prometheus' text format. Of a host that could not be looked at there is no count: nobody knows it."""
    fleet = {"fleet": drift.fleet}
    seen = [host for host in drift.hosts if host.seen]
    lines = [
        *metric("drift_checked_timestamp_seconds", "When drift was last looked for.", [(fleet, drift.at.timestamp())]),
        *metric(
            "drift_host_seen",
            "Whether the host could be looked at.",
            [({**fleet, "host": host.host}, float(host.seen)) for host in drift.hosts],
        ),
        *metric(
            "drift",
            "How many things on the host are not as planned.",
            [({**fleet, "host": host.host}, float(len(host.deviations))) for host in seen],
        ),
        *metric(
            "drift_since_timestamp_seconds",
            "When it was first seen that this is not as planned.",
            [
                ({**fleet, "host": host.host, "kind": one.kind, "subject": one.subject}, one.since.timestamp())
                for host in drift.hosts
                for one in host.deviations
                if one.since
            ],
        ),
    ]
    return "\n".join(lines) + "\n"
