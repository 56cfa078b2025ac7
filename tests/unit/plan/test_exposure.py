"""Servers that others can reach."""

from __future__ import annotations

import pytest

from provisioner.plan.exposure import exposure
from tests.builders import fleet, plan, server


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    assert exposure(server(host=host)) == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "fe80::1%eth0", "gpu-01.example.com"])
def test_wider_without_a_key_is_a_warning_of_the_plan(host: str) -> None:
    (warning,) = plan(fleet(server(host=host))).warnings
    assert warning == (
        f"nemotron: listens at {host} without an API key: everybody who reaches port 8000 of the host can use the "
        "model, and vLLM checks nothing else; set api_key, or host: 127.0.0.1 behind a proxy that asks"
    )


def test_wider_with_a_key_is_none() -> None:
    assert exposure(server(host="0.0.0.0", api_key="env:KEY")) == ()
