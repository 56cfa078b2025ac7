"""The lab's nvidia-smi says what the real one says (recorded on H100 and H200 machines), field by field."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
STAND_IN = TESTS.parent / "provisioner" / "lab" / "host_image" / "nvidia-smi"
RECORDED = TESTS / "recorded" / "gpu"
KINDS = ["h100", "h200"]
FIELDS = "index,name,memory.total,memory.used,driver_version,compute_cap"


@dataclass(frozen=True)
class Said:
    """What one nvidia-smi printed and how it ended."""

    text: str
    rc: int


def recorded(kind: str, file: str, command: str) -> Said:
    """The answer to `command` in a recording: below its `$ ` line, up to the next one."""
    text = (RECORDED / kind / file).read_text()
    _, _, rest = text.partition(f"$ {command}\n")
    assert rest, f"{kind}/{file} has no answer to {command}"
    answer = re.split(r"(?m)^\$ ", rest)[0]
    ended = re.search(r"\(exit (\d+)\)\n", answer)
    return Said(re.sub(r"\(exit \d+\)\n", "", answer).strip(), int(ended.group(1)) if ended else 0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def simulated(kind: str, tmp_path: Path) -> Path:
    """The table of one simulated GPU like the recorded one."""
    query = recorded(kind, "nvidia-smi-query.txt", f"nvidia-smi --format=csv,noheader,nounits --query-gpu={FIELDS}")
    cells = dict(zip(FIELDS.split(","), query.text.split(", "), strict=True))
    cells |= {"uuid": "GPU-00000000-0000-0000-0000-000000000000", "pci.bus_id": "00000000:00:00.0"}
    cells |= {"cuda_version": "13.0", "memory.free": "1", "utilization.gpu": "0", "temperature.gpu": "45"}
    cells |= {"power.draw": "130"}
    table = tmp_path / "gpus.csv"
    table.write_text(", ".join(cells) + "\n" + ", ".join(cells.values()) + "\n")
    return table


def ask(table: Path, command: str) -> Said:
    done = subprocess.run(
        ["sh", str(STAND_IN), *command.split()[1:]],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "LAB_GPUS": str(table)},
    )
    return Said(done.stdout.strip(), done.returncode)


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("nvidia-smi-query.txt", f"nvidia-smi --format=csv,noheader,nounits --query-gpu={FIELDS}"),
        ("nvidia-smi-query.txt", f"nvidia-smi --format=csv --query-gpu={FIELDS}"),
        ("nvidia-smi-query.txt", "nvidia-smi --format=csv,noheader,nounits --query-gpu=index,no_such_field"),
        ("nvidia-smi.txt", "nvidia-smi -L"),
    ],
)
def test_same_answer(simulated: Path, kind: str, file: str, command: str) -> None:
    assert ask(simulated, command) == recorded(kind, file, command)


def test_same_table(simulated: Path, kind: str) -> None:
    """Title, column titles and the GPU's name to the character, and its memory; not the date, heat and power."""
    ours = ask(simulated, "nvidia-smi").text.splitlines()
    real = recorded(kind, "nvidia-smi.txt", "nvidia-smi").text.splitlines()
    assert ours[1:9] == real[1:9]
    assert " ".join(ours[9].split("|")[2:]).split() == " ".join(real[9].split("|")[2:]).split()
    assert "simulated" in ours[-2]
