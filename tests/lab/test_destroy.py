"""`provision destroy`: a host is as it was before us, one that had nothing and one that had a Docker in use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from snapshots import CLEARED, Snapshot, differences, snapshot
from support import BIN, ROOT, Done, Lab, container, health, main_fleet, run, shell

USED = "lab-h100-3"
THEIRS = r'{"log-opts": {"max-size": "9m"},\n  "live-restore": true}'


@pytest.fixture(scope="module")
def coming_into_use(lab: Lab) -> Iterator[Future[Snapshot]]:
    """The second host is made ready while the first one is cleared: each waits for its own packages and disks."""
    with ThreadPoolExecutor(1) as beside:
        yield beside.submit(_use, lab)


@pytest.fixture(scope="module")
def cleared(
    lab: Lab, pristine: Snapshot, coming_into_use: Future[Snapshot], request: pytest.FixtureRequest
) -> tuple[Snapshot, Done]:
    """A host of the main job, which was fresh when that began: between its provisioning and its clearing, and how that
    ended. On its own this provisions the host by itself."""
    if any(item.path.stem == "test_main_job" for item in request.session.items):
        assert request.getfixturevalue("main_job").done(timeout=1500).rc == 0
        fleet = main_fleet(lab)
    else:
        fleet = lab.write_fleet("cleared", [CLEARED])
        assert (applied := lab.run(fleet, "--yes", "--smoke")).rc == 0, str(applied)
    between = snapshot(CLEARED)
    done = lab.run("destroy", fleet, "--yes", "--hosts", CLEARED, "--purge-weights", "--purge-docker")
    return between, done


def test_a_host_that_was_fresh_is_fresh_again(pristine: Snapshot, cleared: tuple[Snapshot, Done]) -> None:
    between, done = cleared
    assert done.rc == 0, str(done)
    assert differences(pristine, between)  # or the comparison sees nothing
    assert differences(pristine, snapshot(CLEARED)) == []
    # of logs, which are not compared, ours go as well
    assert shell(CLEARED, "ls -d /var/log/vllm 2>/dev/null; true") == ""
    # nor does anything tell of the run that cleared it
    assert shell(CLEARED, "ls -d /run/provision 2>/dev/null; true") == ""


@pytest.fixture(scope="module")
def used(coming_into_use: Future[Snapshot]) -> Snapshot:
    """A host with a Docker that somebody set up and uses, before it was provisioned."""
    return coming_into_use.result()


def _use(lab: Lab) -> Snapshot:
    """Sets Docker up and uses it, then provisions the host."""
    for command in (
        "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy install docker.io docker-cli",
        f"mkdir -p /etc/docker && printf '{THEIRS}' > /etc/docker/daemon.json && systemctl restart docker",
        "tar -chP $(ldd /usr/bin/sleep | grep -o '/[^ ]*') /usr/bin/sleep | docker import - theirs:1",
        "docker run -d --name theirs --restart always --network none theirs:1 /usr/bin/sleep infinity",
    ):
        shell(USED, command, timeout=180)
    before = snapshot(USED)
    key = lab.folder / "used.key"
    key.write_text("an-api-key\n")
    done = lab.run(lab.write_fleet("used", [USED], api_key=f"file:{key}"), "--yes", "--smoke")
    assert done.rc == 0, str(done)
    return before


def test_a_server_that_left_the_fleet_file_goes(lab: Lab, used: Snapshot) -> None:
    """It got another name: its unit, container, secret file and proof go, and its port is taken over."""
    shell(USED, "mkdir -p /var/lib/vllm/proofs && touch /var/lib/vllm/proofs/sim.json")
    fleet = lab.write_fleet("used", [USED])
    fleet.write_text(fleet.read_text().replace("\n  sim:\n", "\n  renamed:\n"))
    planned = lab.run("plan", fleet)
    assert planned.rc == 5, str(planned)
    assert "vllm-sim.service: no longer in the fleet: will be stopped and removed" in planned.stdout
    assert "/etc/vllm/sim.env: no longer in the fleet: will be removed (secret)" in planned.stdout
    done = lab.run(fleet, "--yes", "--smoke")
    assert done.rc == 0, str(done)
    assert shell(USED, "ls /etc/systemd/system | grep ^vllm").split() == ["vllm-renamed.service"]
    assert shell(USED, "ls /etc/vllm /var/lib/vllm/proofs; docker ps --format '{{.Names}}' | sort").split() == [
        "/etc/vllm:",
        "/var/lib/vllm/proofs:",
        "theirs",
        "vllm-renamed",
    ]
    assert health(USED)
    assert "no longer in the fleet" not in lab.run("plan", fleet).stdout


def test_what_goes_and_what_stays_is_told_first(lab: Lab, used: Snapshot) -> None:
    before = container(USED, "theirs")
    listed = lab.run("destroy", lab.folder / "used.yaml", "--dry-run", "--json")
    assert listed.rc == 5, str(listed)
    told = json.loads(listed.stdout)["hosts"][USED]
    assert "server renamed: /etc/systemd/system/vllm-renamed.service" in told["goes"]
    assert "/etc/docker/daemon.json: insecure-registries, registry-mirrors as before us" in told["goes"]
    assert [line.split(" ")[0] for line in told["stays"]] == ["weights"]
    assert not [line for line in told["goes"] if "docker.io" in line or "theirs" in line]
    refused = lab.run("destroy", lab.folder / "used.yaml")
    assert refused.rc == 2, str(refused)
    assert "no terminal" in refused.stderr
    assert health(USED)
    assert container(USED, "theirs") == before


def test_ansible_alone_takes_it_away_and_leaves_a_docker_in_use(lab: Lab, used: Snapshot) -> None:
    """`reset.yml` without this program; somebody's container runs on through all of it."""
    before = container(USED, "theirs")
    rendered = lab.folder / "used-rendered"
    assert lab.run("render", lab.folder / "used.yaml", "-o", rendered).rc == 0
    playbook = [str(BIN / "ansible-playbook"), "-i", str(rendered / "inventory"), str(ROOT / "playbooks" / "reset.yml")]
    words = [*playbook, "-e", "removal_weights=true", "-e", "removal_docker=true"]
    unasked = run(words, env=lab.environment(), timeout=300)
    assert unasked.rc != 0
    assert "Nothing was changed" in unasked.stdout
    assert health(USED)
    done = run([*words, "-e", "removal_confirmed=yes"], env=lab.environment(), timeout=300)
    assert done.rc == 0, str(done)
    assert differences(used, snapshot(USED)) == []
    assert container(USED, "theirs") == before
