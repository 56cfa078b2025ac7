from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provisioner.apply.secrets_file import memory_file


def test_a_child_can_read_it_and_it_is_gone_afterwards() -> None:
    with memory_file('{"a": "größe"}') as path:
        assert subprocess.run(["cat", path], capture_output=True, check=True).stdout == '{"a": "größe"}'.encode()
        assert subprocess.run(["cat", path], capture_output=True, check=True).stdout  # as often as a task asks
        assert str(Path(path).readlink()).startswith("/memfd:")  # on no disk
    assert not Path(path).exists()


def test_it_is_gone_after_an_error_too() -> None:
    with pytest.raises(KeyError), memory_file("x") as path:
        raise KeyError
    assert not Path(path).exists()


def test_a_long_text_is_whole() -> None:
    with memory_file("x" * 5_000_000) as path:
        assert len(subprocess.run(["cat", path], capture_output=True, check=True).stdout) == 5_000_000
