"""What the lab's builders return: argument lists and files, without Docker, network or root."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from provisioner.errors import LabError
from provisioner.lab.binfmt import registration
from provisioner.lab.fleetfile import fleet_text, remove_fleet, write_fleet
from provisioner.lab.hardware import parse_hosts
from provisioner.lab.hosts import create_argv, privilege_flags
from provisioner.lab.images import base_ref
from provisioner.lab.keys import known_hosts, ssh_config
from provisioner.lab.machine import Mirror, debian_url
from provisioner.lab.network import LabNetwork, free_addresses, free_subnet
from provisioner.lab.registry import config_text
from provisioner.lab.rootfs import build_argv, rootfs_file
from provisioner.lab.traces import mounts_below, without_docker

MIRROR = Mirror(url="http://mirror.test/debian", keyring=Path("/k.gpg"), proxy=None, aptopts=())
EVERYTHING = (1 << 38) - 1


def test_privileged_where_the_machine_allows_it() -> None:
    assert privilege_flags(EVERYTHING) == ["--privileged"]


def test_every_capability_but_the_missing_one_otherwise() -> None:
    flags = privilege_flags(EVERYTHING & ~(1 << 24))
    given = [flags[index + 1] for index, word in enumerate(flags) if word == "--cap-add"]
    assert len(given) == 37
    assert "SYS_RESOURCE" not in given
    assert "SYS_ADMIN" in given
    assert "--privileged" not in flags


def test_a_host_keeps_its_address_and_comes_back_by_itself() -> None:
    argv = create_argv(parse_hosts(["gb10"])[0], IPv4Address("172.30.77.13"), "image:1", EVERYTHING, ["10.0.0.2"])
    text = " ".join(argv)
    assert "--restart always" in text
    assert "--ip 172.30.77.13" in text
    assert "--shm-size 2g" in text
    assert "--platform linux/arm64" in text
    assert "--label provision.lab.hardware=dgx_spark_gb10" in text
    assert argv[-1] == "image:1"


def test_subnets_in_use_are_passed_over() -> None:
    first, second = IPv4Network("172.30.77.0/24"), IPv4Network("10.213.77.0/24")
    assert free_subnet([first, second], [IPv4Network("172.16.0.0/12")]) == second
    with pytest.raises(LabError, match=r"no free network for the lab.*172\.30\.77\.0/24"):
        free_subnet([first], [IPv4Network("172.30.0.0/16")])


def test_addresses_are_the_lowest_free_ones() -> None:
    network = LabNetwork(IPv4Network("172.30.77.0/24"), IPv4Address("172.30.77.1"))
    taken = [IPv4Address("172.30.77.12")]
    assert [str(x) for x in free_addresses(network, taken, 2)] == ["172.30.77.11", "172.30.77.13"]
    with pytest.raises(LabError, match="has 243 addresses left, 300 are needed"):
        free_addresses(network, taken, 300)


def test_host_keys_are_known_by_name_and_address_and_checked() -> None:
    text = known_hosts({"lab-a-1": "10.0.0.1"}, {"lab-a-1": "ssh-ed25519 AAAA comment"})
    assert text == "lab-a-1,10.0.0.1 ssh-ed25519 AAAA\n"
    config = ssh_config({"lab-a-1": "10.0.0.1"}, key=Path("/s/key"), known=Path("/s/known"))
    assert "StrictHostKeyChecking yes" in config
    assert "UserKnownHostsFile /s/known" in config
    assert "GlobalKnownHostsFile /dev/null" in config


def test_mirror_of_either_sources_format() -> None:
    deb822 = "Types: deb\n# URIs: http://old.test/debian\nURIs: http://a.test/debian\nSuites: bookworm\n"
    line = "# deb http://no.test/debian x main\ndeb [signed-by=/k.gpg] http://b.test/debian/ bookworm main\n"
    security = "deb http://c.test/debian-security bookworm-security main\n"
    assert debian_url([deb822]) == "http://a.test/debian"
    assert debian_url([security, line]) == "http://b.test/debian"
    assert debian_url([security]) is None


def test_rootfs_is_named_by_its_inputs(tmp_path: Path) -> None:
    other = Mirror(url="http://other.test/debian", keyring=Path("/k.gpg"), proxy=None, aptopts=())
    one = rootfs_file(tmp_path, "amd64", MIRROR)
    assert one == rootfs_file(tmp_path, "amd64", MIRROR)
    assert one != rootfs_file(tmp_path, "amd64", other)
    assert one != rootfs_file(tmp_path, "arm64", MIRROR)
    assert base_ref(one, "amd64") == f"provision-lab/base:{one.stem}"
    assert rootfs_file(tmp_path, "amd64", MIRROR, "bookworm").name.startswith("bookworm-amd64-")


def test_rootfs_has_no_docker_and_no_git() -> None:
    argv = build_argv("amd64", MIRROR, Path("/out.tar"))
    included = next(word for word in argv if word.startswith("--include=")).removeprefix("--include=").split(",")
    assert {"systemd", "openssh-server", "sudo", "python3", "iptables"} <= set(included)
    assert not {"git", "docker.io", "containerd"} & set(included)
    assert argv[-3:] == ["trixie", "/out.tar", "deb [signed-by=/k.gpg] http://mirror.test/debian trixie main"]


def test_binfmt_line_has_eight_fields_and_the_flags_systemd_needs() -> None:
    line = registration(Path("/q"))
    assert len(line.split(":")) == 8
    assert line.endswith(":/q:OCPF")


def test_registry_configuration_is_yaml() -> None:
    config = YAML(typ="safe").load(config_text(Path("/store"), "127.0.0.1:5001"))
    assert config["http"]["addr"] == "127.0.0.1:5001"
    assert config["storage"]["filesystem"]["rootdirectory"] == "/store"
    assert "auth" not in config


@pytest.mark.parametrize(("engines", "tag"), [({"vllm", "sim"}, "v0.32.0"), ({"sim"}, "v0.12.0")])
def test_fleet_file_names_the_engines_true_version(engines: set[str], tag: str) -> None:
    written = fleet_text(["lab-h200-1"], "172.30.77.1", frozenset(engines))  # type: ignore[arg-type]  # a parameter
    fleet = YAML(typ="safe").load(written)
    assert fleet["hosts"] == {"lab-h200-1": {}}
    assert fleet["servers"]["nemotron"]["image"]["linux/amd64"] == f"vllm/vllm-openai:{tag}"
    assert fleet["docker"]["registry_mirrors"] == ["http://172.30.77.1:5000"]


def test_fleet_file_comes_and_goes_with_its_secret(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host x\n")
    file = tmp_path / "inventories" / "fleet.yaml"
    write_fleet(file, "name: lab\n", ssh_config=config, token="hf_lab_1")
    assert (file.parent / "hf_token").stat().st_mode & 0o777 == 0o600
    assert (file.parent / "ssh_config").read_text() == "Host x\n"
    remove_fleet(file)
    assert not file.parent.exists()


def test_only_dockers_firewall_rules_go() -> None:
    rules = (
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:DOCKER-USER - [0:0]\n"
        "-A INPUT -p tcp --dport 22 -j ACCEPT\n-A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -j DOCKER\nCOMMIT\n"
    )
    assert without_docker(rules) == (
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    )


def test_left_over_mounts_come_last_first() -> None:
    lines = [
        f"{index} 1 0:1 / {place} rw - ext4 x rw"
        for index, place in enumerate(["/", "/c/d", "/c/d/m", "/c/d", "/c/dd"])
    ]
    assert mounts_below("\n".join(lines), [Path("/c/d")]) == ["/c/d", "/c/d/m", "/c/d"]
