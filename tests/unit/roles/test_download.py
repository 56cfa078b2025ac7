"""The download module's pure parts: argv, markers, what a failure means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from load import module

download = module("model_weights", "library/model_weights_download.py")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    return {
        "repo": "org/model",
        "revision": "main",
        "image": "img:1",
        "cache_dir": str(tmp_path / "cache"),
        "plugin_dir": str(tmp_path / "plugins"),
        "file": "",
        "sha256": "",
        "endpoint": "",
        "token_file": "",
        "attempts": 4,
    }


def test_argv_of_a_model(params: dict[str, Any]) -> None:
    params.update(endpoint="http://hub", token_file="/run/t/hf-token")
    argv = download.docker_argv(params, "provision-download-x", "")
    assert argv[:4] == ["docker", "run", "--rm", "--name"]
    assert "--gpus" not in " ".join(argv)
    assert argv[argv.index("--entrypoint") + 1] == "hf"
    assert "HF_ENDPOINT=http://hub" in argv
    assert "/run/t/hf-token:/run/hf-token:ro" in argv
    assert "HF_TOKEN_PATH=/run/hf-token" in argv
    assert not any(word.startswith("HF_TOKEN=") for word in argv)
    assert argv[-5:] == ["img:1", "download", "org/model", "--revision", "main"]


def test_argv_of_a_plugin(params: dict[str, Any]) -> None:
    argv = download.docker_argv({**params, "file": "p.py"}, "n", "/tmp/d")
    assert argv[-7:] == ["download", "org/model", "p.py", "--local-dir", "/download", "--revision", "main"]
    assert "/tmp/d:/download" in argv
    assert not any("HF_TOKEN_PATH" in word for word in argv)


@pytest.mark.parametrize(
    ("output", "token", "message"),
    [
        ("GatedRepoError: 403 Client Error.", "", "org/model is gated: no token was given."),
        ("GatedRepoError: 401 Client Error.", "/t", "org/model is gated: the given token was refused."),
        ("Error: Access denied. Model 'org/model' requires approval.", "", "org/model is gated: no token was given."),
        ("Error: Model 'org/model' not found.", "", "there is no repository org/model"),
        ("Error: File not found in model 'org/model'.", "", "has no file ''"),
        ("Error: Revision not found in model 'org/model'.", "", "org/model has no revision 'main'"),
        ("RevisionNotFoundError: 404 Client Error.", "", "org/model has no revision 'main'"),
        ("RepositoryNotFoundError: 401 Client Error.", "", "there is no repository org/model"),
        ("Error: Repository not found for url", "", "there is no repository org/model"),
        (
            "401 Client Error: Unauthorized for url",
            "/t",
            "the hub refuses this host for org/model (the given token was refused)",
        ),
        ("OSError: [Errno 28] No space left on device", "", "is full"),
        ('exec: "hf": executable file not found in $PATH', "", "has no `hf` command"),
        ("docker: Error response from daemon: No such image: img:1.", "", "img:1 is not on the host"),
    ],
)
def test_final_failures(params: dict[str, Any], output: str, token: str, message: str) -> None:
    assert message in download.explain(output, {**params, "token_file": token})


@pytest.mark.parametrize(
    "output",
    [
        "requests.exceptions.ConnectionError: Connection reset by peer",
        "LocalEntryNotFoundError: An error happened while trying to locate the files on the Hub",
        "Error: Local entry not found. [Errno 111] Connection refused",
        "503 Server Error: Service Unavailable",
        "runc create failed: connection reset by peer",
        "429 Client Error: Too Many Requests",
    ],
)
def test_network_faults_are_tried_again(params: dict[str, Any], output: str) -> None:
    assert download.explain(output, params) is None


def test_commit(params: dict[str, Any]) -> None:
    assert download.resolved_commit(f"x\n/root/hub/models--org--model/snapshots/{COMMIT}\n", params) == COMMIT
    assert download.resolved_commit("done", {**params, "revision": COMMIT}) == COMMIT
    assert download.resolved_commit("done", params) == ""
    refs = Path(download.repo_dir(params["cache_dir"], "org/model")) / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT + "\n")
    assert download.resolved_commit("done", params) == COMMIT


def test_model_is_complete_while_marker_and_snapshot_agree(params: dict[str, Any]) -> None:
    marker, _ = download.markers(params)
    assert download.completed(params) is None
    content = {"repo": "org/model", "revision": "main", "commit": COMMIT}
    download.write_marker(marker, content)
    assert json.loads(marker.read_text()) == content
    assert download.completed(params) is None  # no snapshot
    (Path(download.repo_dir(params["cache_dir"], "org/model")) / "snapshots" / COMMIT).mkdir(parents=True)
    assert download.completed(params) == content
    assert download.completed({**params, "revision": "v2"}) is None
    assert download.completed({**params, "revision": COMMIT}) == content  # it came as what main stood for


def test_plugin_is_complete_while_the_file_is_what_was_downloaded(params: dict[str, Any]) -> None:
    params["file"] = "sub/p.py"
    marker, placed = download.markers(params)
    assert placed == Path(params["plugin_dir"]) / "p.py"
    placed.parent.mkdir()
    placed.write_text("a")
    content = {key: params[key] for key in ("repo", "revision", "file")}
    download.write_marker(marker, {**content, "sha256": download.sha256(placed)})
    assert download.completed(params) is not None
    placed.write_text("changed by hand")
    assert download.completed(params) is None


def test_a_plugin_whose_hash_is_asked_for_is_complete_with_that_content_alone(params: dict[str, Any]) -> None:
    params["file"] = "p.py"
    marker, placed = download.markers(params)
    placed.parent.mkdir()
    placed.write_text("a")
    right = download.sha256(placed)
    download.write_marker(marker, {"repo": "org/model", "revision": "main", "file": "p.py", "sha256": right})
    assert download.completed({**params, "revision": COMMIT, "sha256": right}) is not None
    assert download.completed({**params, "revision": "main", "sha256": "0" * 64}) is None


class FailedError(Exception):
    pass


class Refusing:
    """An Ansible module that fails with the message."""

    def fail_json(self, msg: str) -> None:
        raise FailedError(msg)


def test_another_file_than_the_locked_one_is_refused(params: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("changed")
    found = download.sha256(tmp_path / "p.py")
    asked = {**params, "file": "p.py", "sha256": "0" * 64, "revision": COMMIT}
    with pytest.raises(FailedError, match=f"^p.py of org/model .* has the SHA-256 {found}, not 0000.* --update-lock"):
        download.finish(Refusing(), asked, "done", str(tmp_path))
    assert not Path(params["plugin_dir"], "p.py").exists()


def test_orphans_go_and_blobs_stay(params: dict[str, Any]) -> None:
    blobs = Path(download.repo_dir(params["cache_dir"], "org/model")) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "a.incomplete").write_text("x")
    (blobs / "b").write_text("x")
    download.remove_orphans(params["cache_dir"], "org/model")
    assert [path.name for path in blobs.iterdir()] == ["b"]


def test_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / ".provision" / "lock"
    first = download.take_lock(path, 0)
    assert download.take_lock(path, 0) is None
    first.close()
    second = download.take_lock(path, 0)
    assert second is not None
    second.close()
