"""The lease's host-side part in processes of its own, as hosts run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from provisioner.hosts import lease
from provisioner.hosts.lease_script import BEGIN, END


def start(folder: Path, **request: Any) -> subprocess.Popen[str]:
    text = lease.script(**request).replace(lease.FOLDER, str(folder))
    argv = [sys.executable, "-I", "-"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin
    process.stdin.write(text)
    process.stdin.close()
    process.stdin = None
    return process


def answer(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return json.loads(out.partition(BEGIN)[2].partition(END)[0])


def who(number: int) -> dict[str, str]:
    return {"user": "ops", "machine": f"m{number}", "control": f"c{number}", "fleet": "f", "run": f"r{number}"}


def test_of_many_that_ask_at_once_one_has_it(tmp_path: Path) -> None:
    for turn in range(3):
        asked = [
            start(tmp_path, act="take", token=f"t{turn}.{number}", who=who(number), for_s=300) for number in range(8)
        ]
        answers = [answer(one) for one in asked]
        (winner,) = (number for number, one in enumerate(answers) if one["done"])
        assert {one["holder"]["run"] for one in answers} == {f"r{winner}"}
        assert answer(start(tmp_path, act="release", token=f"t{turn}.{winner}"))["done"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lease.json", "lock"]


def test_of_many_that_ask_while_a_host_is_cleared_one_has_it(tmp_path: Path) -> None:
    """The lock that they wait for goes away under them."""
    folder = tmp_path / "provision"
    for turn in range(5):
        assert answer(start(folder, act="take", token=f"first{turn}", who=who(9), for_s=300))["done"]
        clearing = start(folder, act="release", token=f"first{turn}", clear=True)
        asked = [
            start(folder, act="take", token=f"t{turn}.{number}", who=who(number), for_s=300) for number in range(6)
        ]
        assert answer(clearing)["done"]
        done = [number for number, one in enumerate(map(answer, asked)) if one["done"]]
        assert len(done) <= 1  # none, where all of them came before it was cleared
        for number in done:
            assert answer(start(folder, act="release", token=f"t{turn}.{number}", clear=True))["done"]
        assert not folder.exists()


def test_one_that_holds_the_lock_for_ever_is_not_waited_for(tmp_path: Path) -> None:
    holding = (
        "import fcntl,sys,time; f=open(sys.argv[1],'a'); fcntl.flock(f,2); print('have it',flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", holding, str(tmp_path / "lock")]
    other = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert other.stdout
    other.stdout.readline()
    text = (
        lease.script(act="unlock", unlocked="x")
        .replace(lease.FOLDER, str(tmp_path))
        .replace("LOCK_S = 10.0", "LOCK_S = 0.2")
    )
    done = subprocess.run([sys.executable, "-I", "-"], input=text, capture_output=True, text=True, check=False)
    other.kill()
    other.communicate()
    assert (done.returncode, done.stderr) == (1, "another program holds the lock of the lease\n")
