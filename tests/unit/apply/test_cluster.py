from __future__ import annotations

import pytest

from provisioner.apply.cluster import Cluster, DaskWorker, Scheduler, is_safe, read_address, worker_of
from provisioner.errors import UsageError


def test_addresses() -> None:
    assert read_address("dask://127.0.0.1:8786") == Scheduler("dask://127.0.0.1:8786", "127.0.0.1:8786", False, True)
    assert read_address("dask+tls://control:8786") == Scheduler(
        "dask+tls://control:8786", "control:8786", tls=True, loopback=False
    )
    assert read_address("dask://[::1]:8786") == Scheduler("dask://[::1]:8786", "[::1]:8786", tls=False, loopback=True)


@pytest.mark.parametrize("text", ["", "dask", "dask://control", "tcp://control:8786", "dask://control:8786/x", "Local"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_address(text)
    assert str(raised.value) == f"--executor {text}: expected local, dask://HOST:PORT or dask+tls://HOST:PORT"


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("tls://192.0.2.1:8786", True),
        ("tcp://127.0.0.1:8786", True),
        ("tcp://[::1]:8786", True),
        ("tcp://localhost:8786", True),
        ("inproc://192.0.2.1/1/1", True),
        ("tcp://192.0.2.1:8786", False),
        ("tcp://localhost.example.com:8786", False),
        ("ucx://192.0.2.1:8786", False),
    ],
)
def test_secrets_go_nowhere_unencrypted(address: str, safe: bool) -> None:
    assert is_safe(address) is safe


def test_a_worker_that_is_reached_without_encryption_is_refused() -> None:
    cluster = Cluster(Scheduler("dask://127.0.0.1:8786", "127.0.0.1:8786", tls=False, loopback=True))
    with pytest.raises(UsageError) as raised:
        cluster.check_worker(DaskWorker("tcp://192.0.2.7:4001", "berlin-1"))
    assert str(raised.value) == (
        "dask://127.0.0.1:8786: worker berlin-1 (tcp://192.0.2.7:4001) is reached without encryption: "
        "it gets the fleet's secrets\n"
        "  hint: give scheduler, workers and this machine certificates (Dask's distributed.comm.tls, for example "
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE) and use dask+tls://, or a tunnel to loopback"
    )


def test_a_workers_sites_are_its_resources() -> None:
    told = {"name": "w", "resources": {"site:berlin": 1.0, "GPU": 2.0, "site:a": 1.0}}
    assert worker_of("tls://192.0.2.7:1", told) == DaskWorker("tls://192.0.2.7:1", "w", ("a", "berlin"))
    assert worker_of("tcp://127.0.0.1:1", {"name": "tcp://127.0.0.1:1"}).words == "tcp://127.0.0.1:1"
    assert worker_of("tcp://127.0.0.1:1", {"name": 0}).words == "0 (tcp://127.0.0.1:1)"
