"""What the real hub client tells us of the lab's hub (loopback): commits, hashes of files, and every refusal."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.errors import Exit, UpstreamError, UpstreamUnreachableError
from provisioner.lab import hub as lab
from provisioner.upstream.hub import Hub

FILE = "nano_v3_reasoning_parser.py"
TOKEN = "hf_lab_sEcReT"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("open", "closed"):
        folder = tmp_path / "root" / "org" / name
        folder.mkdir(parents=True)
        (folder / FILE).write_text("parser = 1\n")
    (tmp_path / "root/org/closed/.gated").touch()
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    return tmp_path / "root"


@pytest.fixture
def endpoint(root: Path) -> Iterator[str]:
    running = lab.Hub(root, ("127.0.0.1", 0), token_file=root.parent / "tokens")
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_branch_and_its_commit(root: Path, endpoint: str) -> None:
    before = lab.keep_commit(root / "org/open")
    hub = Hub(endpoint)
    assert hub.commit_of("org/open", "main") == before
    (root / "org/open" / FILE).write_text("parser = 2\n")
    after = hub.commit_of("org/open", "main")
    assert after != before
    assert hub.commit_of("org/open", before) == before
    for commit, text in ((before, b"parser = 1\n"), (after, b"parser = 2\n")):
        assert hub.sha256_of("org/open", commit, FILE) == hashlib.sha256(text).hexdigest()


def test_a_gated_file_needs_the_token(root: Path, endpoint: str) -> None:
    commit = lab.keep_commit(root / "org/closed")
    hub = Hub(endpoint, TOKEN)
    assert hub.commit_of("org/closed", "main") == commit
    assert hub.sha256_of("org/closed", commit, FILE) == hashlib.sha256(b"parser = 1\n").hexdigest()
    assert TOKEN not in repr(hub)
    with pytest.raises(UpstreamError) as caught:
        Hub(endpoint).sha256_of("org/closed", commit, FILE)
    assert str(caught.value) == (
        f"{endpoint}: {FILE} of org/closed at {commit} is gated: no token is given (hub.token)\n"
        "  hint: accept its licence there with the token's account, and give that token"
    )


@pytest.mark.parametrize(
    ("token", "repo", "revision", "said"),
    [
        (None, "org/open", "v9", "{0} has no org/open at v9\n  hint: check the branch, tag or commit"),
        (
            None,
            "org/none",
            "main",
            "{0} shows no org/none at main\n"
            "  hint: check the name; a private one needs a token: no token is given (hub.token)",
        ),
        (
            TOKEN,
            "org/none",
            "main",
            "{0} shows no org/none at main\n  hint: check the name; a private one needs a token: the token is refused",
        ),
        (
            "hf_wrong_sEcReT",
            "org/open",
            "main",
            "{0} refuses to tell about org/open at main: the token is refused\n  hint: give a valid token",
        ),
    ],
)
def test_refusals(endpoint: str, token: str | None, repo: str, revision: str, said: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        Hub(endpoint, token).commit_of(repo, revision)
    assert str(caught.value) == said.format(endpoint)
    assert caught.value.exit_code == Exit.BAD_INPUT
    assert "sEcReT" not in f"{caught.value}{caught.value.__cause__}"


def test_a_file_that_is_not_there(root: Path, endpoint: str) -> None:
    commit = lab.keep_commit(root / "org/open")
    with pytest.raises(UpstreamError) as caught:
        Hub(endpoint).sha256_of("org/open", commit, "none.py")
    assert str(caught.value) == f"{endpoint} has no none.py of org/open at {commit}\n  hint: check the name of the file"


def test_no_hub_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UpstreamUnreachableError) as caught:
        Hub(endpoint).commit_of("org/open", "main")
    assert caught.value.message.startswith(f"{endpoint} cannot be asked about org/open at main: ")
    assert "Connection refused" in caught.value.message
    assert caught.value.exit_code == Exit.UNREACHABLE
