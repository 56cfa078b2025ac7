"""GPU models and requests for hosts, and that the stand-in nvidia-smi speaks like the recorded real one."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.lab.hardware import MODELS, gpu_table, model, parse_hosts

ROOT = Path(__file__).parents[3]
SMI = ROOT / "provisioner/lab/host_image/nvidia-smi"
RECORDED = ROOT / "tests/recorded/gpu"


def smi(tmp_path: Path, hosts: str, *argv: str) -> subprocess.CompletedProcess[str]:
    table = tmp_path / "lab-gpus.csv"
    table.write_text(gpu_table(parse_hosts([hosts])[0]))
    env = {**os.environ, "LAB_GPUS": str(table)}
    return subprocess.run(["sh", str(SMI), *argv], env=env, capture_output=True, text=True, check=False)


def test_hosts_are_named_by_model_and_number() -> None:
    hosts = parse_hosts(["h200:2", "gb10"])
    assert [host.name for host in hosts] == ["lab-h200-1", "lab-h200-2", "lab-gb10-1"]
    assert [host.arch for host in hosts] == ["amd64", "amd64", "arm64"]
    assert [host.gpus for host in hosts] == [1, 1, 1]


def test_hosts_with_several_gpus() -> None:
    assert [(host.name, host.gpus) for host in parse_hosts(["h100:1x8"])] == [("lab-h100-1", 8)]


def test_hosts_of_another_suite_say_so_in_their_names() -> None:
    hosts = parse_hosts(["h200", "h200:2@bookworm", "gb10@trixie"])
    assert [(host.name, host.suite) for host in hosts] == [
        ("lab-h200-1", "trixie"),
        ("lab-h200-bookworm-1", "bookworm"),
        ("lab-h200-bookworm-2", "bookworm"),
        ("lab-gb10-1", "trixie"),
    ]


def test_ids_of_the_taxonomy_and_short_names_mean_the_same() -> None:
    assert model("dgx_spark_gb10") is model("gb10")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["h300"], "unknown lab hardware 'h300'"),
        (["h200:0"], "--hosts h200:0: 0 is no number from 1 to 50"),
        (["h200:x"], "--hosts h200:x: no MODEL, MODEL:HOSTS or MODEL:HOSTSxGPUS"),
        (["h200:1@sid"], "--hosts h200:1@sid: no suite 'sid'"),
        (["h200@bookworm", "h200:2@bookworm"], "--hosts h200:2@bookworm: h200 is given twice"),
        (["h200:two"], "--hosts h200:two: no MODEL, MODEL:HOSTS"),
        (["h200:1x99"], "--hosts h200:1x99: 99 is no number from 1 to 16"),
        (["h200:1", "h200:2"], "--hosts h200:2: h200 is given twice"),
        ([], "no lab hosts asked for"),
    ],
)
def test_wrong_requests_are_said(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_hosts(words)


@pytest.mark.parametrize("kind", ["h100", "h200"])
def test_stand_in_answers_queries_like_the_recorded_machine(tmp_path: Path, kind: str) -> None:
    recorded = (RECORDED / kind / "nvidia-smi-query.txt").read_text()
    asked = re.findall(r"^\$ nvidia-smi (--format=\S+) (--query-gpu=index,name\S+)\n(.*?)\n\n", recorded, re.M | re.S)
    assert len(asked) == 2  # with and without head and units
    for form, query, answer in asked:
        assert smi(tmp_path, kind, form, query).stdout.strip() == answer


@pytest.mark.parametrize("kind", ["h100", "h200"])
def test_head_of_the_table_is_the_recorded_one(tmp_path: Path, kind: str) -> None:
    recorded = (RECORDED / kind / "nvidia-smi.txt").read_text().splitlines()
    start = next(index for index, line in enumerate(recorded) if line.startswith("+--"))
    shown = smi(tmp_path, kind).stdout.splitlines()
    assert shown[1:8] == recorded[start : start + 7]
    assert "simulated" in shown[-2]


def test_unknown_field_is_refused_like_the_recorded_machine(tmp_path: Path) -> None:
    answer = smi(tmp_path, "h200", "--format=csv,noheader,nounits", "--query-gpu=index,no_such_field")
    assert (answer.returncode, answer.stdout) == (2, 'Field "no_such_field" is not a valid field to query.\n')


def test_unified_memory_reads_not_available(tmp_path: Path) -> None:
    answer = smi(tmp_path, "gb10", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader")
    assert answer.stdout == "NVIDIA GB10, [N/A], 12.1\n"


def test_list_and_choice_of_gpus(tmp_path: Path) -> None:
    assert len(smi(tmp_path, "h100:1x8", "-L").stdout.splitlines()) == 8
    chosen = smi(tmp_path, "h100:1x8", "-i", "3,5", "--query-gpu=index", "--format=csv,noheader").stdout
    assert chosen == "3\n5\n"


def test_no_driver(tmp_path: Path) -> None:
    env = {**os.environ, "LAB_GPUS": str(tmp_path / "nothing")}
    answer = subprocess.run(["sh", str(SMI)], env=env, capture_output=True, text=True, check=False)
    assert answer.returncode == 9
    assert "couldn't communicate with the NVIDIA driver" in answer.stdout


def test_every_model_has_a_table_of_equal_width() -> None:
    for kind in MODELS:
        head, *rows = gpu_table(parse_hosts([kind.short])[0]).splitlines()
        assert rows
        assert {row.count(",") for row in rows} == {head.count(",")}
