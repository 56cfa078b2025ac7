"""`provision lock` and what other commands say about a lock: whole files and whole messages.

A case is a folder with `fleet.yaml` and `case.yaml`: `argv` (the command line in that folder, several are run one after
the other), `upstream` (what names stand for, by the words of the lock's entries; hash digits are written as one digit),
and `expected` (what each command line exits with and prints). `expected.lock` is the file as it is afterwards.
After a change that is meant, `pytest tests/cases/lock --update-cases` writes both again: read the difference.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import facts, spark
from worlds import World

from provisioner.cli.main import run
from provisioner.errors import UnreachableError, UpstreamError
from provisioner.fleet.models import Fleet
from provisioner.plan.lock import Lock, LockedImage, LockedPlugin
from provisioner.plan.needs import Needs
from provisioner.rollout import locking

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.glob("*/case.yaml"))
FACTS = {"gpu-01": facts("gpu-01"), "gpu-02": facts("gpu-02"), "spark-01": spark("spark-01")}
GONE = UnreachableError("gone: cannot connect to 10.0.0.9:22: Connection refused", hint="is it on?")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(
    case: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    update_cases: bool,
) -> None:
    shutil.copytree(case, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facts.json").write_text(json.dumps({name: one.model_dump() for name, one in FACTS.items()}))
    told = yaml.safe_load((case / "case.yaml").read_text())
    monkeypatch.setattr("provisioner.rollout.survey.probe_all", World({**FACTS, "gone": GONE}).probe_all)
    monkeypatch.setattr(locking, "look_up", upstream(told.get("upstream", {})))
    made = []
    for line in told["argv"]:
        code = run(shlex.split(line))
        out, err = capsys.readouterr()
        made.append({"exit": int(code), "out": out, "err": _plain(err, tmp_path)})
    lock = tmp_path / "fleet.lock"
    text = lock.read_text() if lock.exists() else ""
    if update_cases:
        told["expected"] = made
        write(case / "case.yaml", told)
        (case / "expected.lock").write_text(text)
    assert made == told["expected"]
    assert text == (case / "expected.lock").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_there_are_cases() -> None:
    assert len(CASES) >= 8
    assert sorted(path for path in HERE.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))) == CASES


def upstream(stands_for: Mapping[str, str]) -> Any:
    """`locking.look_up` over a table: entry → the digit that its hashes are made of."""

    def digit(entry: str) -> str:
        if entry not in stands_for:
            raise UpstreamError(f"nobody tells {entry}")
        return str(stands_for[entry])

    def look_up(_fleet: Fleet, wanted: Needs, _token: str | None, _credentials: Any) -> Lock:
        images, builds, models, plugins = {}, {}, {}, {}
        for name, platforms in wanted.images.items():
            own = {platform: f"sha256:{digit(f'image {name}') * 63}0" for platform in sorted(platforms)}
            images[name] = LockedImage(digest=f"sha256:{digit(f'image {name}') * 64}", platforms=own)
        for git, ref in wanted.builds:
            builds[git] = {ref: digit(f"build of {git} at {ref}") * 40}
        for repo, revision in wanted.models:
            models[repo] = {revision: digit(f"model {repo} at {revision}") * 40}
        for repo, revision, file in wanted.plugins:
            turn = digit(f"plugin {file} of {repo} at {revision}")
            plugins[repo] = {file: LockedPlugin(revision=revision, commit=turn * 40, sha256=turn * 64)}
        return Lock(images=images, builds=builds, models=models, plugins=plugins, recipes=wanted.recipes)

    return look_up


def _plain(text: str, folder: Path) -> str:
    """Without the lines of the progress, which begin with the time, and without the test's folder."""
    lines = text.replace(f"{folder}/", "").splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r"\d\d:\d\d:\d\d  ", line))


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def write(file: Path, content: Any) -> None:
    head = "".join(line for line in file.read_text().splitlines(keepends=True) if line.startswith(("---", "#")))
    file.write_text(head + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True))
