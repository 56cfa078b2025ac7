"""The answer of a probe → Facts. Pure: tested on recorded answers (tests/recorded/probe)."""

from __future__ import annotations

import json
from typing import Any

from provisioner.errors import HostError
from provisioner.hosts.parsers import docker, gpu, ports, system
from provisioner.hosts.probe_script import BEGIN, END, VERSION
from provisioner.hosts.transport import Result
from provisioner.plan.facts import Cached, Docker, Facts, File, ImageFacts

_NOT_FOUND = 127


def parse_answer(host: str, result: Result) -> dict[str, Any]:
    """The probe's document out of what the host said, whatever else its login shell printed.

    Raises HostError when there is none: no python3, one that is too old, or output that was cut short.
    """
    if result.rc == _NOT_FOUND:
        raise HostError(
            f"{host}: python3 is not installed, or not on the PATH of a non-interactive shell",
            hint="install Python 3.6 or newer on the host, such as with apt-get install python3",
            log=result.stderr,
        )
    _, begin, rest = result.stdout.partition(BEGIN + "\n")
    text, end, _ = rest.partition("\n" + END)
    if not begin or not end:
        raise HostError(_no_answer(host, result), hint=_hint(result), log=result.stdout + result.stderr)
    answer: dict[str, Any] = json.loads(text)
    if answer["version"] != VERSION:  # cannot happen unless the markers lie
        raise HostError(f"{host}: the probe answered in version {answer['version']}, not {VERSION}")
    return answer


def parse_facts(host: str, answer: dict[str, Any]) -> Facts:
    """Facts of one host. Raises HostError when not even the system could be looked at."""
    errors: dict[str, str] = answer["errors"]
    if "system" not in answer:
        raise HostError(f"{host}: cannot look at the system: {errors.get('system', 'no answer')}")
    seen = answer["system"]
    os_release = system.parse_os_release(seen["os_release"])
    memory = system.parse_meminfo(seen["meminfo"])
    cards = answer.get("gpu_list") or {}
    engine = answer.get("docker_engine") or {}
    containers = tuple(docker.parse_container(one) for one in engine.get("containers", []))
    gpus, gpu_error = _gpus(cards, errors)
    notes: list[str] = [f"{section}: {words}" for section, words in sorted(errors.items())]
    return Facts(
        host=host,
        hostname=seen["hostname"],
        machine=seen["machine"],
        kernel=seen["kernel"],
        os_id=os_release.get("ID", ""),
        os_version=os_release.get("VERSION_ID", ""),
        os_name=os_release.get("PRETTY_NAME", ""),
        sudo=seen["root"],
        systemd=seen["systemd"],
        cpus=seen["cpus"] or 0,
        memory_mib=memory.get("MemTotal", 0),
        memory_available_mib=memory.get("MemAvailable", 0),
        disk_free_mib=_disks(answer),
        gpus=gpus,
        gpu_error=gpu_error,
        driver_version=gpu.parse_driver_version(_out(cards.get("csv"))),
        cuda_version=gpu.parse_cuda_version(_out(answer.get("gpu_summary"))),
        toolkit_version=_toolkit_version(answer),
        gpu_runtime=_gpu_runtime(answer),
        gpu_devices=_gpu_devices(answer),
        simulated=bool(cards.get("simulated")),
        docker=_docker(answer, errors),
        images=_images(engine),
        containers=containers,
        units=system.parse_units(_out(answer.get("units"))),
        files=_files(answer, notes),
        marked=tuple(answer.get("marked") or ()),
        ports=_ports(answer, containers),
        weights=_weights(answer, notes),
        cached=tuple(Cached.model_validate(one) for one in answer.get("cached") or ()),
        paths=answer.get("paths") or {},
        health={int(port): status for port, status in (answer.get("health") or {}).items()},
        firewall=(firewall := _firewall(answer)),
        opened_for_us=tuple(sorted({*(answer.get("firewall") or {}).get("for_us", ())} & {*(firewall or ())})),
        boot_id=seen["boot_id"].strip(),
        uptime_s=float(words[0]) if (words := seen.get("uptime", "").split()) else None,
        # Problems of an engine that does not answer at all are the engine's error, not a note.
        notes=(*notes, *_late(answer), *(engine["problems"] if engine.get("info") else ())),
    )


def _no_answer(host: str, result: Result) -> str:
    words = [line for line in result.stderr.splitlines() if line.strip()]
    last = words[-1].strip() if words else "it printed nothing of it"
    return f"{host}: the probe did not answer (exit {result.rc}): {last}"


def _hint(result: Result) -> str:
    if "SyntaxError" in result.stderr:
        return "the host's python3 is too old: 3.6 or newer is needed"
    return "does a shell with `python3 -c 'print(1)'` work over SSH on this host?"


def _gpus(cards: dict[str, Any], errors: dict[str, str]) -> tuple[tuple[Any, ...], str]:
    if "csv" not in cards:
        return (), errors.get("gpu_list", "nvidia-smi was not asked")
    said = cards["csv"]
    return gpu.parse_gpus(said["rc"], said["out"], said["err"])


def _disks(answer: dict[str, Any]) -> dict[str, int]:
    """Also the engine's own directory, wherever it is: nobody can ask for it before the engine has told."""
    found = [*answer.get("disks", []), (answer.get("docker_engine") or {}).get("disk")]
    return {disk["path"]: disk["free"] // 2**20 for disk in found if disk}


def _toolkit_version(answer: dict[str, Any]) -> str | None:
    said = (answer.get("toolkit") or {}).get("ctk")
    return gpu.parse_toolkit_version(said["rc"], said["out"]) if said else None


def _gpu_runtime(answer: dict[str, Any]) -> bool:
    toolkit = answer.get("toolkit") or {}
    engine = (answer.get("docker_engine") or {}).get("info") or {}
    kinds = {spec["kind"] for spec in toolkit.get("cdi", [])}
    return bool(toolkit.get("programs")) or "nvidia.com/gpu" in kinds or "nvidia" in engine.get("Runtimes", [])


def _gpu_devices(answer: dict[str, Any]) -> bool:
    engine = (answer.get("docker_engine") or {}).get("info") or {}
    kinds = {spec["kind"] for spec in (answer.get("toolkit") or {}).get("cdi", [])}
    return bool(engine.get("CDISpecDirs")) and "nvidia.com/gpu" in kinds


def _firewall(answer: dict[str, Any]) -> tuple[int, ...] | None:
    told = answer.get("firewall") or {}
    firewalld = told.get("firewalld") or {}
    return system.parse_firewall(_out(told.get("ufw")), _out(firewalld), firewalld.get("rc"))


def _docker(answer: dict[str, Any], errors: dict[str, str]) -> Docker:
    cli = answer.get("docker_cli") or {}
    engine = answer.get("docker_engine") or {}
    info = engine.get("info")
    said = cli.get("version") or {"rc": 1, "out": ""}
    return Docker(
        version=info["ServerVersion"] if info else None,
        client_version=docker.parse_client_version(said["rc"], said["out"]),
        package=system.parse_docker_package(_out(answer.get("packages"))),
        buildx=bool(cli.get("buildx")),
        root_dir=info["DockerRootDir"] if info else None,
        storage_driver=info["Driver"] if info else None,
        error="" if info else "; ".join(engine.get("problems", [])) or errors.get("docker_engine", ""),
    )


def _images(engine: dict[str, Any]) -> tuple[ImageFacts, ...]:
    """An image that was listed and then inspected is told once, as inspected."""
    images = [docker.parse_image(seen) for seen in engine.get("images", [])]
    return tuple({image.id: image for image in images}.values())


def _files(answer: dict[str, Any], notes: list[str]) -> tuple[File, ...]:
    found = answer.get("files", [])
    notes += [f"{seen['path']}: {seen['error']}" for seen in found if "error" in seen]
    return tuple(File(**seen) for seen in found if "error" not in seen)


def _ports(answer: dict[str, Any], containers: tuple[Any, ...]) -> tuple[Any, ...]:
    seen = answer.get("ports") or {"lines": [], "owners": {}}
    return ports.parse_ports(seen["lines"], seen["owners"], containers)


def _weights(answer: dict[str, Any], notes: list[str]) -> dict[str, str]:
    """By repository, the commit of the newest marker. A marker that cannot be read counts as no download."""
    commits: dict[str, str] = {}
    for seen in answer.get("weights", []):
        try:
            marker = json.loads(seen["text"])
            commits[str(marker["repo"])] = str(marker["commit"])
        except (ValueError, TypeError, KeyError) as error:
            notes.append(f"{seen['path']}: not a marker of a finished download ({type(error).__name__})")
    return commits


def _late(answer: dict[str, Any]) -> list[str]:
    """Programs that had to be ended."""
    said = [answer.get("gpu_summary"), answer.get("packages"), answer.get("units")]
    said += [(answer.get("toolkit") or {}).get("ctk"), (answer.get("docker_cli") or {}).get("version")]
    said += [(answer.get("gpu_list") or {}).get("csv")]
    return [one["err"].strip().splitlines()[-1] for one in said if one and one["timed_out"]]


def _out(said: dict[str, Any] | None) -> str:
    return str(said["out"]) if said else ""
