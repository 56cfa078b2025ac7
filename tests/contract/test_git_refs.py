"""What `git ls-remote` tells us of a real repository on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from provisioner.errors import Exit, UpstreamError, UpstreamUnreachableError
from provisioner.upstream import git as module
from provisioner.upstream.git import commit_of


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`main` at its second commit; the tags v1 (annotated) and v1-light at the first; `both` is a branch and a tag."""
    place = tmp_path / "source"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    git(place, "commit", "-q", "--allow-empty", "-m", "one")
    git(place, "tag", "-a", "v1", "-m", "annotated")
    git(place, "tag", "v1-light")
    git(place, "tag", "both")
    git(place, "commit", "-q", "--allow-empty", "-m", "two")
    git(place, "branch", "both")
    return place


def git(place: Path, *words: str) -> str:
    who = {f"GIT_{role}_{key}": "t@example.invalid" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    env = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(["git", "-C", str(place), *words], env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_branches_and_tags(repository: Path) -> None:
    first, second = git(repository, "rev-parse", "main~1"), git(repository, "rev-parse", "main")
    expected = {"main": second, "v1": first, "v1-light": first, "both": second}
    expected |= {"refs/heads/main": second, "refs/tags/v1": first, "refs/tags/both": first}
    assert {ref: commit_of(str(repository), ref) for ref in expected} == expected
    assert commit_of(f"file://{repository}", "v1") == first
    git(repository, "tag", "-f", "v1", "main")
    assert commit_of(str(repository), "v1") == second


def test_a_ref_that_is_not_there(repository: Path) -> None:
    with pytest.raises(UpstreamError) as caught:
        commit_of(str(repository), "v9")
    assert str(caught.value) == (
        f"{repository} has no branch or tag v9\n  hint: check the name; a commit must be written in full, 40 digits"
    )


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UpstreamError) as caught:
        commit_of(str(tmp_path / "none"), "main")
    assert caught.value.message.startswith(
        f"{tmp_path / 'none'} cannot be asked: fatal: '{tmp_path / 'none'}' does not"
    )
    assert caught.value.hint == "does `git ls-remote` of it work on this machine?"
    assert caught.value.exit_code == Exit.BAD_INPUT


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"git://127.0.0.1:{free.getsockname()[1]}/vllm"
    with pytest.raises(UpstreamUnreachableError, match=f"^{address} cannot be asked: .*Connection refused"):
        commit_of(address, "main")


def test_a_password_in_the_address_is_not_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UpstreamUnreachableError) as caught:
        commit_of(f"http://me:sEcReT@127.0.0.1:{port}/vllm", "main")
    assert caught.value.message.startswith(f"http://127.0.0.1:{port}/vllm cannot be asked: fatal: unable to access")
    assert "sEcReT" not in str(caught.value)


def test_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"git://127.0.0.1:{listening.getsockname()[1]}/vllm"
        with pytest.raises(UpstreamUnreachableError, match=f"^{address} did not answer within 0.3 s"):
            commit_of(address, "main")


def test_git_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UpstreamError, match=r"^git is not on this machine"):
        commit_of("https://example.invalid/vllm.git", "main")
