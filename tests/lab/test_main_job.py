"""The main job, once, on fresh hosts of both architectures: `provision fleet.yaml --yes`, and then again."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from chromium import MISSING, chromium, opened
from support import BF16, DEPLOY_TAG, FP8, Done, Lab, Started, chat, container, main_fleet, read_json, shell, show

H200S = ("lab-h200-1", "lab-h200-2")
SPARK = "lab-gb10-1"
HOSTS = (*H200S, SPARK)
GUIDE_BUILD_ARGUMENTS = {
    "max_jobs": "12",
    "RUN_WHEEL_CHECK": "false",
    "CUDA_VERSION": "13.0.1",
    "BUILD_BASE_IMAGE": "nvidia/cuda:13.0.1-devel-ubuntu22.04",
    "torch_cuda_arch_list": "12.1",
}
LATENCIES = ("ttft", "tpot", "itl")


@pytest.fixture(scope="module")
def first(main_job: Started) -> Done:
    done = main_job.done(timeout=1500)
    show(done.text)
    return done


@pytest.fixture(scope="module")
def report(lab: Lab, first: Done) -> dict[str, Any]:
    """report.json: host → what became of it."""
    assert first.rc == 0, str(first)
    told: dict[str, Any] = read_json(lab.latest_run("lab") / "report.json")["hosts"]
    return told


def test_every_host_is_served_and_validated(first: Done, report: dict[str, Any]) -> None:
    assert first.rc == 0, str(first)
    assert "3 of 3 hosts served and validated" in first.stdout
    assert set(report) == set(HOSTS)
    for host in HOSTS:
        assert report[host]["exit_code"] == 0
        (server,) = report[host]["servers"]
        assert server["passed"] is True
        assert server["benchmark"]["completed"] == server["benchmark"]["num_prompts"] == 32
        assert server["benchmark"]["failed"] == 0


def test_the_table_says_what_ran(lab: Lab, first: Done, report: dict[str, Any]) -> None:
    rows = {host: next(line for line in first.stdout.splitlines() if line.startswith(host)) for host in HOSTS}
    for host in HOSTS:
        assert "simulated" in rows[host], rows[host]
        assert "passed" in rows[host], rows[host]
        (server,) = report[host]["servers"]
        short = (server["image"]["digest"] or server["image"]["id"]).removeprefix("sha256:")[:12]
        assert short in rows[host], rows[host]
        assert server["variant"] in rows[host]
    for host in H200S:
        assert ("CPU build" if lab.real_vllm else "sim engine") in rows[host], rows[host]
        assert "NVIDIA H200" in rows[host]
    assert "sim engine" in rows[SPARK], rows[SPARK]
    assert "NVIDIA GB10" in rows[SPARK]
    assert "TTFT, TPOT, ITL: median / P99" in first.stdout


def test_a_chat_answer_is_printed(first: Done, report: dict[str, Any]) -> None:
    line = next(line for line in first.stdout.splitlines() if line.startswith("chat answer from "))
    host = line.removeprefix("chat answer from ").partition(":")[0]
    (server,) = report[host]["servers"]
    assert server["chat_answer"]
    assert repr(server["chat_answer"]) in line


def test_the_report_has_every_figure(report: dict[str, Any]) -> None:
    for host in HOSTS:
        (server,) = report[host]["servers"]
        bench = server["benchmark"]
        for key in ("duration_s", "request_throughput", "output_throughput", "total_token_throughput"):
            assert bench[key] > 0, (host, key)
        for name in LATENCIES:
            for figure in ("mean_ms", "median_ms", "p99_ms"):
                assert bench[name][figure] >= 0, (host, name, figure)
            assert bench[name]["p99_ms"] >= bench[name]["median_ms"] > 0
        assert bench["total_output_tokens"] == 32 * 32
        assert server["output_per_gpu"] == bench["output_throughput"] / server["gpu_count"]
        assert server["engine_label"]
        assert server["platform"] == ("linux/arm64" if host == SPARK else "linux/amd64")
        assert server["simulated"] is True
        assert server["model"] == (BF16 if host == SPARK else FP8)
        assert server["image"]["id"].startswith("sha256:")
        assert server["version"] == ("0.32.0" if "v0.32" in server["image"]["reference"] else "0.12.0")


def test_the_run_directory_is_private_and_whole(lab: Lab, first: Done) -> None:
    folder = lab.latest_run("lab")
    assert f"record: {folder}" in first.stdout
    assert folder.stat().st_mode & 0o777 == 0o700
    record = read_json(folder / "record.json")
    assert record["exit_code"] == 0
    assert {host: told["state"] for host, told in record["hosts"].items()} == dict.fromkeys(HOSTS, "done")
    for host in HOSTS:
        assert list((folder / "benchmarks").rglob(f"*{host}*.json")), host
        assert (folder / "plans" / f"{host}.json").is_file()
        (log,) = (folder / "logs" / host).glob("vllm-image-*.log")
        assert ("exporting to image" if host == SPARK else "Pulling from") in log.read_text()


def test_every_file_is_byte_for_byte_as_rendered(lab: Lab, report: dict[str, Any], tmp_path: Path) -> None:
    """What Python renders is what Ansible wrote. From facts of hosts without files, so that nothing there is copied."""
    fleet, recorded = main_fleet(lab), tmp_path / "facts.json"
    facts = json.loads(lab.run("probe", fleet, "--json").stdout)
    recorded.write_text(json.dumps({host: {**seen, "files": []} for host, seen in facts.items()}))
    rendered = lab.run("render", fleet, "--facts", recorded, "-o", tmp_path / "out")
    assert rendered.rc == 0, str(rendered)
    for host in HOSTS:
        root = tmp_path / "out" / "files" / host
        files = {f"/{path.relative_to(root)}": path for path in root.rglob("*") if path.is_file()}
        assert set(files) == {"/etc/docker/daemon.json", "/etc/systemd/system/vllm-nemotron.service"}
        told = shell(
            host, f"for file in {' '.join(files)}; do stat -c '%a %U' $file; base64 --wrap=0 $file; echo; done"
        )
        modes, texts = told.splitlines()[::2], told.splitlines()[1::2]
        assert [base64.b64decode(text) for text in texts] == [path.read_bytes() for path in files.values()]
        assert modes == ["644 root"] * len(files)
        state = shell(host, "systemctl is-active vllm-nemotron; systemctl is-enabled vllm-nemotron")
        assert state.split() == ["active", "enabled"]


def test_what_runs_is_what_is_tagged_deploy(report: dict[str, Any]) -> None:
    for host in HOSTS:
        (server,) = report[host]["servers"]
        tagged = shell(host, f"docker image inspect -f '{{{{.Id}}}}' {DEPLOY_TAG}").strip()
        running = shell(host, f"docker inspect -f '{{{{.Image}}}}' vllm-{server['server']}").strip()
        assert tagged == running == server["image"]["id"]


def test_the_spark_built_its_image_with_the_guides_arguments(report: dict[str, Any]) -> None:
    assert shell(SPARK, "uname -m").strip() == "aarch64"
    assert shell(SPARK, f"docker image inspect -f '{{{{.Architecture}}}}' {DEPLOY_TAG}").strip() == "arm64"
    # as the build saw them, and as the image's labels tell
    arrived = shell(SPARK, "docker exec vllm-nemotron cat /vllm-workspace/build-args.json", timeout=120)
    assert json.loads(arrived) == GUIDE_BUILD_ARGUMENTS
    labels = json.loads(shell(SPARK, f"docker image inspect -f '{{{{json .Config.Labels}}}}' {DEPLOY_TAG}"))
    assert labels["provision.build"] == "source"
    assert labels["provision.build.max_jobs"] == "12"
    (server,) = report[SPARK]["servers"]
    assert server["image"]["digest"] is None, "built here, from no registry"


def test_it_is_run_as_the_guide_says(report: dict[str, Any]) -> None:
    for host in HOSTS:
        told = json.loads(shell(host, "docker inspect vllm-nemotron"))[0]
        assert told["HostConfig"]["IpcMode"] == "host"
        assert told["HostConfig"]["DeviceRequests"][0]["Count"] == -1
        assert told["Config"]["Entrypoint"] == ["vllm"]
        assert told["Config"]["Cmd"][:2] == ["serve", BF16 if host == SPARK else FP8]
        # the guide's mount; servers only read there
        assert "/var/lib/vllm/huggingface:/root/.cache/huggingface:ro" in told["HostConfig"]["Binds"]
        names = {line.partition("=")[0] for line in told["Config"]["Env"]}
        assert "HF_HOME" in names
        assert not {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} & names
    assert shell(SPARK, "docker exec vllm-nemotron ls /vllm-workspace/nano_v3_reasoning_parser.py", timeout=120)


def test_every_server_answers(report: dict[str, Any]) -> None:
    for host in HOSTS:
        status, body = chat(host, BF16 if host == SPARK else FP8)
        assert status == 200, body
        assert json.loads(body)["usage"]["completion_tokens"] >= 1


def test_again_nothing_changes(lab: Lab, report: dict[str, Any]) -> None:
    fleet = main_fleet(lab)
    before = {host: container(host, "vllm-nemotron") for host in HOSTS}
    again = lab.run(fleet, "--yes")
    show(f"{again.seconds:6.1f} s  the second run of {len(HOSTS)} hosts")
    assert again.rc == 0, str(again)
    assert "nothing changed: 3 hosts are as planned" in again.stdout
    assert {host: container(host, "vllm-nemotron") for host in HOSTS} == before
    plan = lab.run("plan", fleet)
    assert plan.rc == 0, str(plan)
    assert plan.stdout.count("= as planned, validated") == len(HOSTS)
    validated = lab.run("validate", fleet, "--smoke", timeout=600)
    assert validated.rc == 0, str(validated)
    assert {host: container(host, "vllm-nemotron") for host in HOSTS} == before


def test_the_report_of_the_run(lab: Lab, first: Done, report: dict[str, Any], tmp_path: Path) -> None:
    page, run = tmp_path / "report.html", _run_of(first)
    done = lab.run("report", run, "--html", page)
    assert done.rc == 0, str(done)
    text = page.read_text()
    told = lab.run("report", run, "--json")
    assert told.rc == 0, str(told)
    hosts = {host["name"]: host for host in json.loads(told.stdout)["hosts"]}
    assert set(hosts) == set(report)
    for name, host in hosts.items():
        assert f'id="host-{name}"' in text
        assert host["changes"], name  # a fresh host: everything was to change
        assert host["applied"], name
        assert host["plan"]["servers"][0]["argv"]
        assert host["trends"][0]["measurements"][-1]["workload"]
    if MISSING is None:
        with chromium() as browser:
            _, complaints = opened(browser, page, "phone", "dark")
            assert complaints == []


def test_who_is_to_be_watched(lab: Lab, first: Done, report: dict[str, Any], tmp_path: Path) -> None:
    done = lab.run("monitoring", lab.fleet, "-o", tmp_path)
    assert done.rc == 0, str(done)
    assert "listen on loopback only: lab-gb10-1/nemotron, lab-h200-1/nemotron, lab-h200-2/nemotron" in done.stderr
    metrics = (tmp_path / "textfile" / "provision.prom").read_text()
    assert metrics.count("\nprovision_server_passed{") == len(HOSTS)
    assert read_json(tmp_path / "targets" / "vllm.json") == []


def _run_of(done: Done) -> str:
    record = next(line for line in done.stdout.splitlines() if line.startswith("record: "))
    return Path(record.removeprefix("record: ")).name
