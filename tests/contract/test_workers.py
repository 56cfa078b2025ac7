"""Shards on real Dask workers: processes of this machine, with a small playbook in place of site.yml."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest
from builders import facts, plan, server
from builders import fleet as fleet_of
from distributed import Client, LocalCluster, Security

from provisioner import assets
from provisioner.apply import cluster as clusters
from provisioner.apply import workers as places
from provisioner.apply.cluster import Cluster, read_address
from provisioner.apply.runner import HostResult, apply
from provisioner.apply.workers import Workers
from provisioner.errors import UnreachableError, UsageError
from provisioner.fleet.models import Fleet
from provisioner.history.events import Event

HOSTS = ("gpu-1", "gpu-2", "gpu-3")
BOUND_S = 60.0
PLAYBOOK = """
- name: A stand-in for site.yml
  hosts: all
  gather_facts: false
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    out: "{{ playbook_dir }}/../out/{{ inventory_hostname }}"
  tasks:
    - name: Folder
      ansible.builtin.file: {path: "{{ out }}", state: directory, mode: "0755"}
    - name: Secrets
      ansible.builtin.copy: {content: "{{ vllm_server_secrets | to_json }}", dest: "{{ out }}/secrets", mode: "0600"}
      no_log: true
      diff: false
    - name: Waits
      ansible.builtin.wait_for: {path: "{{ playbook_dir }}/../go", timeout: 60}
    - name: Applied
      ansible.builtin.debug: {msg: fine}
"""
# Python reads it at its start, in the workers and in what they start.
PATCH = """
import pathlib, provisioner.assets
provisioner.assets.ansible_dir = lambda: pathlib.Path({folder!r})
"""


@pytest.fixture(scope="module")
def ansible_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ansible")
    for name in ("playbooks", "python", "scratch"):
        (folder / name).mkdir()
    (folder / "playbooks" / "site.yml").write_text(PLAYBOOK)
    (folder / "roles").symlink_to(assets.ansible_dir() / "roles")
    (folder / "python" / "sitecustomize.py").write_text(PATCH.format(folder=str(folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "ansible_dir", lambda: folder)
        patch.setenv("PYTHONPATH", f"{folder / 'python'}{os.pathsep}{assets._PACKAGE.parent}")
        patch.setenv("TMPDIR", str(folder / "scratch"))
        yield folder


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One of these tests at a time, whatever pytest runs beside it: they look for what is left on the machine."""
    with (tmp_path_factory.getbasetemp().parent / "workers.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def cluster(ansible_dir: Path) -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
    ) as made:
        yield made


@pytest.fixture
def place(cluster: LocalCluster, ansible_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setattr(places, "REST_S", 1.5)  # longer than what is known of workers is kept
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=BOUND_S)
    (ansible_dir / "go").unlink(missing_ok=True)
    with closing(workers_of(cluster)) as made:
        yield made
    left = [*(ansible_dir / "scratch").glob("provision-*"), *Path("/dev/shm").glob("provision-shard-*")]
    assert left == []


def workers_of(cluster: LocalCluster) -> Workers:
    scheduler = read_address("dask://" + cluster.scheduler_address.partition("://")[2])
    return Workers(Cluster(scheduler))


def fleet() -> Fleet:
    return fleet_of(server(api_key="env:API_KEY"), hosts=HOSTS)


class Run:
    """A run in a thread of its own."""

    def __init__(self, place: Workers, folder: Path) -> None:
        self.folder, self.events, self.stop = folder, list[Event](), threading.Event()
        self._results: tuple[HostResult, ...] = ()
        self._place = place
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        the_fleet = fleet()
        self._results = apply(
            self.folder,
            the_fleet,
            [plan(the_fleet, facts(host)) for host in HOSTS],
            {"env:API_KEY": "planted-key"},
            on_event=self.events.append,
            interrupted=self.stop.is_set,
            strategy="free",
            place=self._place,
        )

    def at(self, task: str, *, after: int = 0) -> None:
        """Waits until all hosts are at a task."""
        poll(lambda: {one.host for one in self.events[after:] if one.task == task} == set(HOSTS), f"{task} on all")

    def results(self) -> dict[str, HostResult]:
        self._thread.join(BOUND_S)
        assert not self._thread.is_alive()
        return {one.host: one for one in self._results}


def poll(found: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + BOUND_S
    while not found():
        assert time.monotonic() < deadline, f"not seen within {BOUND_S:.0f} s: {what}"
        time.sleep(0.05)


def processes(ansible_dir: Path) -> list[str]:
    """Of shards of these tests; others on this machine may be at work on theirs."""
    word, found = str(ansible_dir / "scratch" / "provision-shard-"), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found.append(line)
    return found


def kill_a_worker(cluster: LocalCluster, which: Callable[[dict[str, int]], int]) -> None:
    with Client(cluster) as client:
        os.kill(which(client.run(os.getpid)), signal.SIGKILL)


def test_shards_are_worked_on_and_tell_what_happens(place: Workers, ansible_dir: Path, tmp_path: Path) -> None:
    place.check()
    run = Run(place, tmp_path)
    run.at("Waits")  # heard of while it works
    there = [path for path in (ansible_dir / "scratch").rglob("provision-shard-*/**/*") if path.is_file()]
    assert len(there) > 10
    assert processes(ansible_dir)  # or looking for them afterwards sees nothing
    assert [path for path in there if b"planted" in path.read_bytes()] == []
    assert len(list(tmp_path.glob("shard-*"))) == 2
    (ansible_dir / "go").touch()
    results = run.results()
    assert {one.state for one in results.values()} == {"ok"}
    assert [results[host].changed for host in HOSTS] == [2, 2, 2]
    for host in HOSTS:
        assert '"VLLM_API_KEY": "planted-key"' in (ansible_dir / "out" / host / "secrets").read_text()
    assert [task for host, task in ((one.host, one.task) for one in run.events) if host == "gpu-1"][-1] == "Applied"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([path for path in files if path.name == "stdout"]) == 2  # what Ansible printed came back
    assert [path for path in files if b"planted" in path.read_bytes()] == []
    assert processes(ansible_dir) == []


def test_a_worker_that_is_killed_loses_nothing(
    place: Workers, cluster: LocalCluster, ansible_dir: Path, tmp_path: Path
) -> None:
    run = Run(place, tmp_path)
    run.at("Waits")
    seen = len(run.events)
    kill_a_worker(cluster, lambda found: min(found.values()))
    poll(lambda: [one for one in run.events[seen:] if one.task.endswith("Waits")], "the shard at work once more")
    (ansible_dir / "go").touch()
    results = run.results()
    assert {one.state for one in results.values()} == {"ok"}, results
    told = [one.task for one in run.events if "was lost" in one.task]
    assert told
    assert told[0].startswith("worker ")
    assert ": once more on " in told[0]
    assert processes(ansible_dir) == []


def test_a_shard_is_not_begun_for_ever(
    place: Workers, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "TURNS", 2)
    run = Run(place, tmp_path)
    seen = 0
    for _ in range(2):
        run.at("Waits", after=seen)
        with Client(cluster) as client:
            for pid in client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)
        seen = len(run.events)
    results = run.results()
    assert {one.state for one in results.values()} == {"failed"}
    first, *rest = results["gpu-1"].message.splitlines()
    assert first.startswith("its shard (gpu-1, gpu-3) was begun 2 times, and lost: worker ")
    assert first.endswith(" was lost")
    assert any("TASK [Secrets]" in line for line in rest), rest  # the worker's last lines


def test_an_interrupted_run_ends_what_workers_do(place: Workers, ansible_dir: Path, tmp_path: Path) -> None:
    run = Run(place, tmp_path)
    run.at("Waits")
    run.stop.set()
    results = run.results()
    assert {(one.state, one.message) for one in results.values()} == {("interrupted", "during “Waits”")}
    assert processes(ansible_dir) == []


def test_who_leaves_at_once_leaves_nothing_running(cluster: LocalCluster, ansible_dir: Path, tmp_path: Path) -> None:
    (ansible_dir / "go").unlink(missing_ok=True)
    place = workers_of(cluster)
    run = Run(place, tmp_path)
    run.at("Waits")
    place.close()
    assert {one.state for one in run.results().values()} == {"interrupted"}
    poll(lambda: not processes(ansible_dir), "the end of what the workers did")


def test_another_version_is_refused(place: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "own", lambda: ("9.9", assets.fingerprint()))
    with pytest.raises(UsageError) as raised:
        place.check()
    assert f"has provision {metadata.version('provision')}, this machine has 9.9" in raised.value.message
    assert "worker " in raised.value.message


def test_other_roles_are_refused(place: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "own", lambda: (metadata.version("provision"), "0123456789ab"))
    with pytest.raises(UsageError, match=r"with other roles \([0-9a-f]{12}\) than this machine \(0123456789ab\)"):
        place.check()


def test_without_workers_nothing_begins() -> None:
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0") as empty,
        closing(workers_of(empty)) as place,
        pytest.raises(UsageError, match="no worker is there"),
    ):
        place.check()


def test_without_a_scheduler_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT_S", 0.5)
    scheduler = read_address("dask://127.0.0.1:1")
    with (
        closing(Workers(Cluster(scheduler))) as place,
        pytest.raises(UnreachableError, match=r"dask://127\.0\.0\.1:1: no scheduler answers at tcp"),
    ):
        place.check()


def test_certificates_come_from_dasks_own_configuration(ansible_dir: Path, tmp_path: Path) -> None:
    import dask

    security = Security.temporary()
    paths = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        paths[name] = tmp_path / f"{name}.pem"
        paths[name].write_text(getattr(security, name))
    told = {
        "distributed.comm.tls.ca-file": str(paths["tls_ca_file"]),
        "distributed.comm.tls.client.cert": str(paths["tls_client_cert"]),
        "distributed.comm.tls.client.key": str(paths["tls_client_key"]),
    }
    with LocalCluster(n_workers=1, threads_per_worker=1, security=security, dashboard_address=":0") as encrypted:
        at = encrypted.scheduler_address.removeprefix("tls://")
        scheduler = read_address(f"dask+tls://{at}")
        with closing(Workers(Cluster(scheduler))) as bare, pytest.raises(UsageError, match="names no certificates"):
            bare.check()
        with dask.config.set(told), closing(Workers(Cluster(scheduler))) as place:
            place.check()
