"""Recorded answers → Facts: of lab hosts (tests/recorded/probe) and of real GPU machines (tests/recorded/gpu)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import HostError
from provisioner.hosts.parse import parse_answer, parse_facts
from provisioner.hosts.probe_script import BEGIN, END
from provisioner.hosts.transport import Result
from provisioner.plan.facts import Container, Facts, Gpu, Port

RECORDED = Path(__file__).parents[2] / "recorded"
REAL_GPUS = sorted((RECORDED / "gpu").glob("*/probe.json"))


def facts_of(path: Path) -> Facts:
    return parse_facts("gpu-01", answer_of(path))


def answer_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())  # type: ignore[no-any-return]  # a recording is an object


def lab(name: str) -> Facts:
    return facts_of(RECORDED / "probe" / f"{name}.json")


@pytest.mark.parametrize(
    ("kind", "name", "memory_mib"), [("h100", "NVIDIA H100 80GB HBM3", 81559), ("h200", "NVIDIA H200", 143771)]
)
def test_real_gpu_machine(kind: str, name: str, memory_mib: int) -> None:
    facts = facts_of(RECORDED / "gpu" / kind / "probe.json")
    gpu = Gpu(index=0, name=name, memory_mib=memory_mib, memory_used_mib=0, compute_capability="9.0")
    assert facts.gpus == (gpu,)
    assert (facts.gpu_error, facts.driver_version, facts.cuda_version) == ("", "580.159.04", "13.0")
    assert (facts.platform, facts.cpus, facts.memory_mib) == ("linux/amd64", 16, 128887)
    assert (facts.os_id, facts.os_version, facts.os_name) == ("ubuntu", "24.04", "Ubuntu 24.04.3 LTS")
    assert (facts.simulated, facts.gpu_runtime, facts.toolkit_version) == (False, False, None)
    assert (facts.docker.version, facts.docker.client_version, facts.docker.package) == (None, None, None)
    assert facts.docker.error == "/var/run/docker.sock: No such file or directory"
    assert facts.notes == ()


def test_every_recording_of_a_real_machine_has_a_test() -> None:
    assert {path.parent.name for path in REAL_GPUS} == {"h100", "h200"}


def test_host_that_serves() -> None:
    facts = lab("amd64-serving")
    container = facts.containers[0]
    assert container == Container(
        name="vllm-demo",
        id="27084a094e68efd52463eddfd2787fb923fd4d50c995a0044033ba5e1d22fee6",
        image_id="sha256:93601fc59fee92cca16865078ba8b2a83ed52dedd81fd0779c1797c6eea25334",
        argv=("-MIO::Socket::INET", "/x/serve.pl"),
        running=True,
        started_at="2026-11-24T09:17:41.098424933Z",
    )
    assert facts.sudo
    assert facts.systemd
    assert facts.simulated
    assert facts.gpu_runtime
    assert facts.toolkit_version == "1.18.0"
    assert facts.docker.model_dump() == {
        "version": "26.1.5+dfsg1",
        "client_version": "26.1.5+dfsg1",
        "package": "docker.io",
        "buildx": False,
        "root_dir": "/var/lib/docker",
        "storage_driver": "overlay2",
        "error": "",
    }
    (image,) = facts.images
    assert (image.id, image.tags, image.architecture) == (container.image_id, ("lab/t:amd64",), "amd64")
    assert image.digests == ("lab/t@sha256:27684aa2c0c9a110bb25dbb7187101f2e8e870c7500ab81cf9139e510ddd2e2b",)
    assert set(facts.disk_free_mib) == {"/var/lib/vllm/huggingface", "/var/lib/docker"}
    assert facts.health == {8731: 200, 8732: 0}
    assert facts.weights == {"lab/tiny": "0123456789abcdef0123456789abcdef01234567"}


def test_ports_say_who_listens() -> None:
    assert lab("amd64-serving").ports == (
        Port(port=22, address="0.0.0.0", process="sshd"),
        Port(port=8731, address="127.0.0.1", process="perl", container="vllm-demo"),
        Port(port=22, address="::", process="sshd"),
    )


def test_units_that_exist() -> None:
    units = {unit.name: unit for unit in lab("amd64-serving").units}
    assert set(units) == {"docker.service", "vllm-demo.service"}
    assert units["docker.service"].enabled
    assert not units["vllm-demo.service"].enabled
    assert (units["vllm-demo.service"].active_state, units["vllm-demo.service"].sub_state) == ("active", "running")


def test_files_and_what_could_not_be_told() -> None:
    facts = lab("amd64-serving")
    files = {file.path: file for file in facts.files}
    assert files["/etc/hostname"].content == "lab-h200-1\n"
    secret = files["/tmp/probe-cache/demo.env"]
    assert (secret.content, secret.mode, secret.owner) == (None, "0600", "root")
    assert facts.notes == (
        "/etc: not a regular file",
        "/tmp/probe-cache/.provision/lab--broken.json: not a marker of a finished download (JSONDecodeError)",
    )


def test_user_without_sudo_sees_less_and_is_told() -> None:
    facts = lab("amd64-no-sudo")
    assert not facts.sudo
    assert facts.docker.version is None
    assert facts.docker.client_version == "26.1.5+dfsg1"
    assert facts.docker.error == "/var/run/docker.sock: Permission denied"
    assert "/tmp/probe-cache/demo.env: Permission denied" in facts.notes
    assert {(port.port, port.process) for port in facts.ports} == {(22, ""), (8731, "")}


def test_fresh_aarch64_host_with_unified_memory() -> None:
    facts = lab("arm64-fresh")
    assert (facts.machine, facts.platform) == ("aarch64", "linux/arm64")
    (gpu,) = facts.gpus
    assert (gpu.name, gpu.memory_mib, gpu.memory_used_mib, gpu.compute_capability) == (
        "NVIDIA GB10",
        None,
        None,
        "12.1",
    )
    assert facts.docker.client_version is None
    assert facts.notes == ("/etc: not a regular file",)


def test_machine_without_systemd_and_gpu() -> None:
    facts = lab("debian12-no-systemd")
    assert (facts.systemd, facts.units) == (False, ())
    assert (facts.gpus, facts.gpu_error, facts.driver_version, facts.cuda_version) == ((), "", None, None)


def test_facts_survive_their_own_json() -> None:
    facts = lab("amd64-serving")
    assert Facts.model_validate_json(facts.model_dump_json()) == facts


def test_hung_nvidia_smi_is_told_and_the_rest_is_known() -> None:
    answer = answer_of(RECORDED / "gpu" / "h100" / "probe.json")
    late = {"rc": -9, "out": "", "err": "nvidia-smi --format=csv did not end within 30 s", "timed_out": True}
    answer["gpu_list"]["csv"] = late
    answer["gpu_summary"] = late
    facts = parse_facts("gpu-01", answer)
    assert facts.gpus == ()
    assert facts.gpu_error == "nvidia-smi --format=csv did not end within 30 s"
    assert facts.notes == (late["err"], late["err"])
    assert facts.cpus == 16


def test_section_that_broke_is_a_note() -> None:
    answer = answer_of(RECORDED / "gpu" / "h100" / "probe.json")
    del answer["gpu_list"], answer["ports"], answer["docker_engine"]
    answer["errors"] = {
        "gpu_list": "did not end within 60 s",
        "docker_engine": "did not end within 60 s",
        "ports": "E: x",
    }
    facts = parse_facts("gpu-01", answer)
    assert facts.gpu_error == "did not end within 60 s"
    assert facts.docker.error == "did not end within 60 s"
    assert facts.notes == (
        "docker_engine: did not end within 60 s",
        "gpu_list: did not end within 60 s",
        "ports: E: x",
    )


def test_system_that_could_not_be_looked_at_is_an_error() -> None:
    with pytest.raises(HostError, match=r"^gpu-01: cannot look at the system: OSError: no proc$"):
        parse_facts("gpu-01", {"version": 1, "errors": {"system": "OSError: no proc"}})


@pytest.mark.parametrize(
    ("docker", "toolkit", "expected"),
    [
        ({"info": None}, {"programs": [], "cdi": []}, False),
        ({"info": None}, {"programs": ["/usr/bin/nvidia-container-runtime"], "cdi": []}, True),
        ({"info": None}, {"programs": [], "cdi": [{"path": "/etc/cdi/n.yaml", "kind": "nvidia.com/gpu"}]}, True),
        ({"info": None}, {"programs": [], "cdi": [{"path": "/etc/cdi/n.yaml", "kind": "vendor.com/net"}]}, False),
        ({"info": {"Runtimes": ["nvidia", "runc"]}}, {"programs": [], "cdi": []}, True),
    ],
)
def test_gpu_runtime(docker: dict[str, Any], toolkit: dict[str, Any], expected: bool) -> None:
    answer = answer_of(RECORDED / "gpu" / "h100" / "probe.json")
    info = docker["info"] and {"ServerVersion": "28", "DockerRootDir": "/d", "Driver": "overlay2", **docker["info"]}
    answer["docker_engine"].update(info=info)
    answer["toolkit"].update(toolkit)
    assert parse_facts("gpu-01", answer).gpu_runtime is expected


def test_banner_of_a_login_shell_does_no_harm() -> None:
    said = f"Welcome to gpu-01!\n{{not json\n\n{BEGIN}\n" + '{"version": 1, "errors": {}}' + f"\n{END}\nbye\n"
    assert parse_answer("gpu-01", Result(0, said, "motd")) == {"version": 1, "errors": {}}


def test_no_python_on_the_host() -> None:
    with pytest.raises(HostError) as caught:
        parse_answer("gpu-01", Result(127, "", "python3: not found\n"))
    assert str(caught.value) == (
        "gpu-01: python3 is not installed, or not on the PATH of a non-interactive shell\n"
        "  hint: install Python 3.6 or newer on the host, such as with apt-get install python3"
    )


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            Result(1, "", '  File "<stdin>", line 56\nSyntaxError: invalid syntax\n'),
            "gpu-01: the probe did not answer (exit 1): SyntaxError: invalid syntax\n"
            "  hint: the host's python3 is too old: 3.6 or newer is needed",
        ),
        (
            Result(0, f'{BEGIN}\n{{"version": 1, ', ""),
            "gpu-01: the probe did not answer (exit 0): it printed nothing of it\n"
            "  hint: does a shell with `python3 -c 'print(1)'` work over SSH on this host?",
        ),
    ],
)
def test_no_answer(result: Result, message: str) -> None:
    with pytest.raises(HostError) as caught:
        parse_answer("gpu-01", result)
    assert str(caught.value) == message
    assert caught.value.log == result.stdout + result.stderr
