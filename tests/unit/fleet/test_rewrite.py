"""Settings written back into fleet files: what somebody wrote stays as it stood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.errors import UsageError
from provisioner.fleet.load import load_fleet
from provisioner.fleet.rewrite import write_settings

ONE = """\
# who to call: ops
name: shop   # the shop
hosts: [gpu-01]

servers:
  # the one and only
  nemotron:
    recipe: nemotron-3-nano
    max_num_seqs: 8   # as the guide has it
    benchmark: {random_input_len: 128}
    env:
      A: "1"
"""
LIST = "hosts: [gpu-01, gpu-02]  # both\nservers:\n  nemotron: {recipe: nemotron-3-nano, max_num_seqs: 8}\n"
MAP = """\
hosts:
  gpu-01:          # the old one
    hardware: h200
  gpu-02: {}
servers:
  nemotron: {recipe: nemotron-3-nano}
"""


def written(folder: Path, text: str, values: dict[str, Any], host: str = "gpu-01") -> tuple[str, str]:
    path = folder / "fleet.yaml"
    path.write_text(text)
    return write_settings(path, host, "nemotron", values), path.read_text()


def test_the_only_host_is_told_at_its_server(tmp_path: Path) -> None:
    values = {"max_num_seqs": 32, "benchmark": {"max_concurrency": 32}, "extra_args": ["--x", "y"]}
    place, text = written(tmp_path, ONE, values)
    assert place == "servers.nemotron"
    assert (
        text
        == ONE.replace("max_num_seqs: 8 ", "max_num_seqs: 32").replace(
            "{random_input_len: 128}", "{random_input_len: 128, max_concurrency: 32}"
        )
        + "    extra_args: [--x, y]\n"
    )


def test_one_of_several_hosts_is_told_alone(tmp_path: Path) -> None:
    place, text = written(tmp_path, MAP, {"max_num_seqs": 32})
    assert place == "hosts.gpu-01.servers.nemotron"
    assert text == MAP.replace(
        "    hardware: h200\n", "    hardware: h200\n    servers:\n      nemotron:\n        max_num_seqs: 32\n"
    )


def test_a_host_of_a_list_gets_a_group(tmp_path: Path) -> None:
    place, text = written(tmp_path, LIST, {"max_num_seqs": 32})
    assert place == "groups.tuned-gpu-01.servers.nemotron"
    assert text.startswith(LIST)
    assert yaml.safe_load(text)["groups"] == {
        "tuned-gpu-01": {"hosts": ["gpu-01"], "servers": {"nemotron": {"max_num_seqs": 32}}}
    }
    fleet = load_fleet(tmp_path / "fleet.yaml")
    assert [fleet.servers_on(name)[0].max_num_seqs for name in ("gpu-01", "gpu-02")] == [32, 8]
    # and once more, into the same group
    write_settings(tmp_path / "fleet.yaml", "gpu-01", "nemotron", {"max_num_seqs": 64})
    assert load_fleet(tmp_path / "fleet.yaml").servers_on("gpu-01")[0].max_num_seqs == 64


def test_where_a_stronger_place_speaks_that_one_is_told(tmp_path: Path) -> None:
    text = (
        "hosts:\n  gpu-01: {servers: {nemotron: {max_num_seqs: 4}}}\nservers:\n  nemotron: {recipe: nemotron-3-nano}\n"
    )
    place, after = written(tmp_path, text, {"max_num_seqs": 32})
    assert place == "hosts.gpu-01.servers.nemotron"
    assert "max_num_seqs: 32" in after


def test_lists_keep_their_indentation(tmp_path: Path) -> None:
    text = "hosts:\n  - gpu-01   # first\nservers:\n  nemotron:\n    recipe: nemotron-3-nano\n"
    text += "    extra_args:\n      - --a\n"
    _, after = written(tmp_path, text, {"max_num_seqs": 32})
    assert after == text + "    max_num_seqs: 32\n"


def test_what_would_change_others_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    text = """\
hosts:
  gpu-01: &both {servers: {nemotron: {port: 8001}}}
  gpu-02: *both
servers:
  nemotron: {recipe: nemotron-3-nano}
"""
    with pytest.raises(UsageError) as caught:
        written(tmp_path, text, {"max_num_seqs": 32})
    file = tmp_path / "fleet.yaml"
    assert str(caught.value) == (
        f"{file} is not changed: it would not say the same about gpu-02\n  hint: write it by hand: max_num_seqs: 32"
    )
    assert file.read_text() == text
    assert [one.name for one in tmp_path.iterdir()] == ["fleet.yaml"]
