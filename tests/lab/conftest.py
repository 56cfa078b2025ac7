"""The lab of a session: brought up once, left as it was found. What is missing for it is the reason of every skip."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from snapshots import CLEARED, Snapshot, snapshot
from support import PROVISION, Lab, Started, fresh, main_fleet, run, show
from wheels import Installed, install

from provisioner.errors import LabError
from provisioner.lab.docker import labelled
from provisioner.lab.engine import engine_version
from provisioner.lab.lab import status
from provisioner.lab.machine import Mirror, mirror, require_root
from provisioner.lab.network import NETWORK

ENGINE_VARIABLE = "PROVISION_LAB_TESTS_ENGINE"
"""auto (real vLLM on amd64 hosts) or sim (quick)"""
KEEP_VARIABLE = "PROVISION_LAB_TESTS_KEEP"
"""names of hosts that are in use by somebody else: not made anew, and their tests are skipped"""
MAIN_HOSTS = ("lab-h200-1", "lab-h200-2", "lab-gb10-1")
SIM_HOSTS = ("lab-h100-1", "lab-h100-2", "lab-h100-3", "lab-h100-4")
BRIDGE = Path("/sys/class/net/docker0")
_ORDER = [
    "test_wrong_fleets",
    "test_lab_commands",
    "test_lock",
    "test_two_control_machines",
    "test_drift",
    "test_objectives",
    "test_baseline",
    "test_tune",
    "test_survives",
    "test_interrupted",
    "test_hostile_values",
    "test_images",
    "test_secrets",
    "test_bad_worlds",
    "test_rollout",
    "test_air_gap",
    "test_distribution",
    "test_main_job",
    "test_destroy",
    "test_wheel",
]
# test_air_gap needs a fresh host, which test_distribution uses afterwards.
# test_survives and test_interrupted leave their hosts as they made them, which test_hostile_values begins by mending


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The cheap ones first; the main job, which goes on beside the others, when it has had time to end."""
    items.sort(key=lambda item: _ORDER.index(item.path.stem) if item.path.stem in _ORDER else -1)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """2 × H200, 2 × H100 and 1 × GB10, fresh."""
    missing = _missing()
    if missing:
        pytest.skip(missing)
    engine = os.environ.get(ENGINE_VARIABLE, "auto")
    folder = tmp_path_factory.mktemp("lab")
    fleet = folder / "lab-fleet" / "fleet.yaml"
    found = status()
    before = {host.name for host in found.hosts}
    bridge = BRIDGE.exists()
    old = [name for name in (*MAIN_HOSTS, *SIM_HOSTS) if name in before and name not in kept()]
    if old:
        fresh(old)
    argv = [str(PROVISION), "lab", "up", "--hosts", "h200:2", "--hosts", "gb10:1", "--hosts", "h100:4"]
    try:
        up = run([*argv, "--fleet", str(fleet), "--engine", engine], timeout=1500)
        assert up.rc == 0, str(up)
        show(up.stderr)
        gateway = status().gateway
        assert gateway
        yield Lab(folder, fleet, gateway, real_vllm=engine == "auto")
    finally:
        if not before:
            _down_leaves_nothing(bridge)
    if found.fleet_file and found.fleet_file.parent.is_dir():
        # the lab remembers the fleet file written last: let it be the one that it had
        again = run([*argv, "--fleet", str(found.fleet_file), "--engine", engine], timeout=600)
        assert again.rc == 0, str(again)


def kept() -> set[str]:
    """Hosts that are not ours in this session."""
    return set(os.environ.get(KEEP_VARIABLE, "").replace(",", " ").split())


def _missing() -> str:
    """What this machine lacks for a lab; "" when nothing."""
    try:
        require_root()
        source = mirror()
    except LabError as error:
        return f"no lab: {error}"
    return _unreachable(source)


def _unreachable(source: Mirror) -> str:
    """The hosts of the lab install Docker with apt, from the mirror that this machine uses."""
    proxies = {"http": source.proxy} if source.proxy else None
    handlers = [urllib.request.ProxyHandler(proxies)] if proxies else []
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(f"{source.url}/dists/trixie/InRelease", timeout=20):
            return ""
    except (OSError, urllib.error.URLError) as error:
        return f"no lab: the Debian mirror of this machine's apt does not answer ({error})"


def _down_leaves_nothing(bridge: bool) -> None:
    """`lab down`, then a look for anything of ours."""
    state, cache = status().state, status().cache
    down = run([str(PROVISION), "lab", "down"], timeout=300)
    assert down.rc == 0, str(down)
    assert not state.exists(), f"{state} is still there"
    ours = (str(state), str(cache), "lab-h200", "lab-h100", "lab-gb10")
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if any(word in line for word in ours)]
    assert not mounts, mounts
    running = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(state) in words or str(cache) in words:
            running.append(words)
    assert not running, running
    if engine_version() is None:  # it was the lab's own
        assert BRIDGE.exists() == bridge
        return
    networks = run(["docker", "network", "ls", "--format", "{{.Name}}"]).stdout.split()
    assert NETWORK not in networks
    assert not labelled("container")


@pytest.fixture(scope="session")
def main_job(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Started]:
    """`provision fleet.yaml --yes` on fresh hosts of both architectures, under way."""
    for name in MAIN_HOSTS:
        _ours(name)
    request.getfixturevalue("pristine")
    with lab.started(main_fleet(lab), "--yes") as started:
        yield started


@pytest.fixture(scope="session")
def pristine(lab: Lab) -> Snapshot:
    """A host of the main job, before anything is done to it."""
    return snapshot(_ours(CLEARED))


@pytest.fixture(scope="session")
def free_host(lab: Lab, request: pytest.FixtureRequest) -> str:
    """An H100 host that no test has touched yet; tests of one module have it for themselves."""
    _begin_main_job(request)
    if _wanted(request, "test_wheel"):
        request.getfixturevalue("installing")
    return _ours("lab-h100-2")


@pytest.fixture(scope="session")
def served(lab: Lab, request: pytest.FixtureRequest) -> str:
    """An H100 host that serves the sim engine, as the tests before left it."""
    _begin_main_job(request)
    name = _ours("lab-h100-1")
    done = lab.run(lab.write_fleet("sim", [name]), "--yes")
    assert done.rc == 0, str(done)
    return name


@pytest.fixture(scope="module")
def as_planned(lab: Lab, served: str) -> Path:
    """The fleet file of `served`, `sim.yaml`: the host is as it says, and validated.

    Who counts on that asks for it, and who changes the host need not put it back: most who come next change it again.
    """
    fleet = lab.write_fleet("sim", [served])
    done = lab.run(fleet, "--yes")
    assert done.rc == 0, str(done)
    return fleet


@pytest.fixture(scope="session")
def installing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Installed]]:
    """The wheel in a clean environment, under way: pip has hundreds of megabytes to unpack, nobody else needs them."""
    with ThreadPoolExecutor(1) as beside:
        yield beside.submit(install, tmp_path_factory.mktemp("clean"))


def _begin_main_job(request: pytest.FixtureRequest) -> None:
    """Most of its minutes are one emulated host's, on one core: the other tests go on meanwhile."""
    if _wanted(request, "test_main_job") and not kept() & set(MAIN_HOSTS):
        request.getfixturevalue("main_job")


def _wanted(request: pytest.FixtureRequest, module: str) -> bool:
    """Whether tests of the module are to come."""
    return any(item.path.stem == module for item in request.session.items)


def _ours(name: str) -> str:
    if name in kept():
        pytest.skip(f"{name} is in use ({KEEP_VARIABLE})")
    return name
