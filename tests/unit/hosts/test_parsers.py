from __future__ import annotations

import pytest

from provisioner.hosts.parsers import docker, gpu, ports, system
from provisioner.plan.facts import Gpu


def test_gpus_of_an_old_driver_have_no_compute_capability() -> None:
    out = "0, Tesla V100-SXM2-16GB, 16160, 0, 470.57.02\n1, Tesla V100-SXM2-16GB, 16160, 12, 470.57.02\n"
    gpus, error = gpu.parse_gpus(0, out, "")
    assert [(one.index, one.memory_mib, one.compute_capability) for one in gpus] == [(0, 16160, None), (1, 16160, None)]
    assert error == ""
    assert gpu.parse_driver_version(out) == "470.57.02"


def test_unified_memory() -> None:
    gpus, error = gpu.parse_gpus(0, "0, NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1\n", "")
    assert gpus == (Gpu(index=0, name="NVIDIA GB10", memory_mib=None, compute_capability="12.1"),)
    assert error == ""


@pytest.mark.parametrize(
    ("rc", "out", "err", "expected"),
    [
        (127, "", "nvidia-smi: not found", ""),
        (
            9,
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
            "NVIDIA driver is installed and running.\n\n",
            "",
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
            "NVIDIA driver is installed and running.",
        ),
        (6, "No devices were found\n", "", "No devices were found"),
        (1, "", "", "nvidia-smi ended with 1 and said nothing"),
        (126, "", "nvidia-smi: Exec format error", "nvidia-smi: Exec format error"),
    ],
)
def test_no_gpus_and_why(rc: int, out: str, err: str, expected: str) -> None:
    assert gpu.parse_gpus(rc, out, err) == ((), expected)


def test_one_lost_gpu_beside_a_good_one() -> None:
    out = "0, NVIDIA H200, 143771, 0, 580.95.05, 9.0\nUnable to determine the device handle for GPU1: Unknown Error\n"
    gpus, error = gpu.parse_gpus(0, out, "")
    assert [one.index for one in gpus] == [0]
    assert error == "Unable to determine the device handle for GPU1: Unknown Error"


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("| NVIDIA-SMI 580.159.04             Driver Version: 580.159.04     CUDA Version: 13.0     |", "13.0"),
        ("| NVIDIA-SMI 450.51.06    Driver Version: 450.51.06    CUDA Version: 11.0     |", "11.0"),
        ("| NVIDIA-SMI 595.1   KMD Version: 595.1   CUDA UMD Version: 13.2     |", "13.2"),
        ("| NVIDIA-SMI 390.1   Driver Version: 390.1   |", None),
        ("| CUDA Version: N/A |", None),
    ],
)
def test_cuda_version(line: str, version: str | None) -> None:
    assert gpu.parse_cuda_version(line) == version


@pytest.mark.parametrize(
    ("rc", "out", "version"),
    [
        (0, "NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80\n", "1.17.8"),
        (0, "NVIDIA Container Toolkit CLI version 1.18.0-rc.2\ncommit: f202b80\n", "1.18.0-rc.2"),
        (127, "", None),
    ],
)
def test_toolkit_version(rc: int, out: str, version: str | None) -> None:
    assert gpu.parse_toolkit_version(rc, out) == version


@pytest.mark.parametrize(
    ("rc", "out", "version"),
    [
        (0, "Docker version 28.2.2, build e6534b4\n", "28.2.2"),
        (0, "Docker version 20.10.24+dfsg1, build 297e128\n", "20.10.24+dfsg1"),
        (0, "podman version 4.3.1\n", None),
        (127, "", None),
    ],
)
def test_docker_client(rc: int, out: str, version: str | None) -> None:
    assert docker.parse_client_version(rc, out) == version


def test_untagged_image() -> None:
    image = docker.parse_image(
        {
            "Id": "sha256:1",
            "RepoTags": ["<none>:<none>"],
            "RepoDigests": ["<none>@<none>"],
            "Labels": {},
            "Architecture": "",
        }
    )
    assert (image.tags, image.digests) == ((), ())


@pytest.mark.parametrize(
    ("out", "package"),
    [
        ("docker-ce\t\tnot-installed\ndocker.io\t26.1.5\tinstalled\n", "docker.io"),
        ("docker-ce\t5:28.3.0-1\tinstalled\n", "docker-ce"),
        ("moby-engine\t25.0\tinstalled\n", "moby-engine"),
        ("docker.io\t20.10\tconfig-files\n", None),
        ("package docker-ce is not installed\n", None),
        ("", None),
    ],
)
def test_docker_package(out: str, package: str | None) -> None:
    assert system.parse_docker_package(out) == package


def test_os_release_quotes() -> None:
    text = '# comment\nNAME="Red \\"Hat\\""\nID=\'rhel\'\nVERSION_ID=9.4\nBROKEN="open\n'
    assert system.parse_os_release(text) == {
        "NAME": 'Red "Hat"',
        "ID": "rhel",
        "VERSION_ID": "9.4",
        "BROKEN": '"open',
    }


def test_meminfo_in_mib() -> None:
    assert system.parse_meminfo("MemTotal:       131981020 kB\nHugePages_Total:       0\n") == {"MemTotal": 128887}


UFW = """\
Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
8000/tcp                   ALLOW       Anywhere                   # vllm-a.service
9000                       ALLOW       10.0.0.0/8
9100/tcp                   DENY        Anywhere
53/udp                     ALLOW       Anywhere
8000/tcp (v6)              ALLOW       Anywhere (v6)              # vllm-a.service
"""


@pytest.mark.parametrize(
    ("ufw", "firewalld", "rc", "ports"),
    [
        (UFW, "", 127, (22, 8000, 9000)),
        ("Status: inactive\n", "", 127, None),
        ("", "", 252, None),  # firewalld is there and does not run
        ("", "8000/tcp 9000-9100/udp\n", 0, (8000,)),
        ("", "\n", 0, ()),
    ],
)
def test_ports_of_firewalls(ufw: str, firewalld: str, rc: int, ports: tuple[int, ...] | None) -> None:
    assert system.parse_firewall(ufw, firewalld, rc) == ports


def test_unit_that_keeps_dying() -> None:
    out = (
        "Result=exit-code\nNRestarts=7\nId=vllm-a.service\nLoadState=loaded\nActiveState=activating\n"
        "SubState=auto-restart\nFragmentPath=/etc/systemd/system/vllm-a.service\nUnitFileState=enabled\n"
        "NeedDaemonReload=yes\n\nId=vllm-b.service\nLoadState=not-found\nActiveState=inactive\n"
    )
    (unit,) = system.parse_units(out)
    assert unit.model_dump() == {
        "name": "vllm-a.service",
        "load_state": "loaded",
        "active_state": "activating",
        "sub_state": "auto-restart",
        "enabled": True,
        "restarts": 7,
        "fragment_path": "/etc/systemd/system/vllm-a.service",
        "needs_reload": True,
        "result": "exit-code",
    }


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("0B4D1EAC", "172.30.77.11"),
        ("00000000000000000000000001000000", "::1"),
        ("B80D01200000000000000000010000AB", "2001:db8::ab00:1"),
    ],
)
def test_addresses_of_the_kernel(text: str, address: str) -> None:
    assert ports.parse_address(text) == address
