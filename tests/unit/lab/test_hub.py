"""The model hub (loopback): the answers that the huggingface_hub client reads, and who gets them."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.lab.hub import Hub, keep_commit


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    for name in ("open", "closed"):
        folder = tmp_path / "root/org" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"0123456789")
    (tmp_path / "root/org/closed/.gated").touch()
    (tmp_path / "tokens").write_text("hf_lab_good\n")
    running = Hub(tmp_path / "root", ("127.0.0.1", 0), token_file=tmp_path / "tokens")
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def ask(hub: Hub, path: str, token: str = "", method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    url = f"http://127.0.0.1:{hub.server_address[1]}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def commit(hub: Hub, name: str = "open") -> str:
    found: str = json.loads(ask(hub, f"/api/models/org/{name}/revision/main")[2])["sha"]
    return found


def test_the_commit_follows_the_files(hub: Hub) -> None:
    before = commit(hub)
    assert len(before) == 40
    (hub.root / "org/open/config.json").write_text('{"a": 1}')
    assert commit(hub) != before


def test_the_tree_names_every_file_but_the_gate(hub: Hub) -> None:
    tree = json.loads(ask(hub, f"/api/models/org/closed/tree/{commit(hub, 'closed')}?recursive=true")[2])
    sha256 = hashlib.sha256(b"0123456789").hexdigest()
    assert [(entry["path"], entry["size"], entry.get("lfs", {}).get("oid")) for entry in tree] == [
        ("config.json", 2, None),
        ("model.safetensors", 10, sha256),
    ]


def test_files_carry_the_headers_of_the_client(hub: Hub) -> None:
    status, headers, body = ask(hub, "/org/open/resolve/main/model.safetensors")
    assert (status, body) == (200, b"0123456789")
    assert headers["X-Repo-Commit"] == commit(hub)
    assert headers["X-Linked-Etag"] == headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert headers["X-Linked-Size"] == "10"
    head = ask(hub, "/org/open/resolve/main/config.json", method="HEAD")
    assert (head[0], head[2], head[1]["Content-Length"]) == (200, b"", "2")


@pytest.mark.parametrize(
    ("asked", "status", "body", "part"),
    [
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=2-3", 206, b"23", "bytes 2-3/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
    ],
)
def test_ranges(hub: Hub, asked: str, status: int, body: bytes, part: str) -> None:
    found = ask(hub, "/org/open/resolve/main/model.safetensors", Range=asked)
    assert (found[0], found[2], found[1]["Content-Range"]) == (status, body, part)


@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        ("/org/closed/resolve/main/config.json", "", 401, "GatedRepo"),
        ("/org/closed/resolve/main/config.json", "hf_lab_good", 200, None),
        ("/org/closed/resolve/main/config.json", "hf_lab_bad", 401, None),
        ("/org/open/resolve/main/config.json", "hf_lab_bad", 401, None),
        ("/api/models/org/closed/auth-check", "", 401, "GatedRepo"),
        ("/api/models/org/closed/auth-check", "hf_lab_good", 200, None),
        ("/api/models/org/closed/revision/main", "", 200, None),
        ("/org/open/resolve/main/no.txt", "", 404, "EntryNotFound"),
        ("/org/open/resolve/v9/config.json", "", 404, "RevisionNotFound"),
        ("/org/none/resolve/main/config.json", "", 401, "RepoNotFound"),
        ("/org/none/resolve/main/config.json", "hf_lab_good", 404, "RepoNotFound"),
        ("/org/../resolve/main/config.json", "hf_lab_good", 404, "RepoNotFound"),
        ("/api/whoami-v2", "hf_lab_good", 200, None),
        ("/api/whoami-v2", "", 401, None),
        ("/health", "", 200, None),
    ],
)
def test_who_gets_what(hub: Hub, path: str, token: str, status: int, code: str | None) -> None:
    found = ask(hub, path, token)
    assert (found[0], found[1]["X-Error-Code"]) == (status, code)


def test_a_new_token_needs_no_restart(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("hf_lab_new\n")
    assert ask(hub, "/org/closed/resolve/main/config.json", "hf_lab_new")[0] == 200
    assert ask(hub, "/org/closed/resolve/main/config.json", "hf_lab_good")[0] == 401


def test_tokens_are_not_logged(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    ask(hub, "/org/closed/resolve/main/config.json", "hf_lab_good")
    ask(hub, "/org/closed/resolve/main/config.json", "hf_lab_bad")
    log = capsys.readouterr().out
    assert log.count("(token)") == 2
    assert "hf_lab" not in log


def test_a_cut_drops_the_first_download_only(hub: Hub) -> None:
    hub.cut_after = 4
    (hub.root / "org/open/big.bin").write_bytes(b"x" * 200_000)
    with pytest.raises((OSError, http.client.IncompleteRead)):
        ask(hub, "/org/open/resolve/main/big.bin")
    assert len(ask(hub, "/org/open/resolve/main/big.bin")[2]) == 200_000


def test_a_kept_commit_can_still_be_had(hub: Hub) -> None:
    before = keep_commit(hub.root / "org/open")
    assert before == commit(hub)
    (hub.root / "org/open/config.json").write_text('{"a": 1}')
    after = commit(hub)
    assert after != before
    for revision, text in ((before, b"{}"), ("main", b'{"a": 1}'), (after, b'{"a": 1}')):
        status, headers, body = ask(hub, f"/org/open/resolve/{revision}/config.json")
        assert (status, body, headers["X-Repo-Commit"]) == (200, text, before if revision == before else after)
    listed = json.loads(ask(hub, f"/api/models/org/open/tree/{before}")[2])
    assert [entry["path"] for entry in listed] == ["config.json", "model.safetensors"]
    assert ask(hub, "/api/models/org/open/revision/..")[0] == 404
