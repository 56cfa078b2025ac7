"""The download module's pure parts: argv, markers, what a failure means."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from load import module

from provisioner.hosts import probe_script

download = module("model_weights", "library/model_weights_download.py")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARD, BAD_INDEX = "model-2.safetensors is missing", "model.safetensors.index.json cannot be read"


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
        "token": "",
        "proxies": {},
        "download": True,
        "attempts": 4,
    }


def test_argv_of_a_model(params: dict[str, Any]) -> None:
    params.update(endpoint="http://hub")
    argv = download.docker_argv(params, "provision-download-x", "")
    assert argv[:4] == ["docker", "run", "--rm", "--name"]
    assert "--gpus" not in " ".join(argv)
    assert argv[argv.index("--entrypoint") + 1] == "hf"
    assert "HF_ENDPOINT=http://hub" in argv
    assert not any("HF_TOKEN" in word for word in argv)
    assert argv[-5:] == ["img:1", "download", "org/model", "--revision", "main"]


def test_proxies_come_by_name_since_they_may_hold_a_password(params: dict[str, Any]) -> None:
    argv = download.docker_argv(
        {**params, "proxies": {"https_proxy": "http://me:s3cret@p", "no_proxy": ".lab"}}, "n", ""
    )
    at = argv.index("https_proxy")
    assert argv[at - 1 : at + 3] == ["-e", "https_proxy", "-e", "no_proxy"]
    assert not any("s3cret" in word for word in argv)


def test_a_token_comes_on_standard_input_into_the_containers_own_memory(params: dict[str, Any]) -> None:
    argv = download.docker_argv({**params, "token": "hf_s3cret"}, "n", "")
    assert "--interactive" in argv
    assert argv[argv.index("--entrypoint") + 1] == "/bin/sh"
    assert argv[argv.index("--tmpfs") + 1] == "/run/provision-hub:size=64k,mode=0700"
    assert "HF_TOKEN_PATH=/run/provision-hub/token" in argv
    assert argv[argv.index("img:1") + 1 :] == [
        *("-c", 'cat > "$HF_TOKEN_PATH" && exec hf "$@"', "hf"),
        *("download", "org/model", "--revision", "main"),
    ]
    assert not any("s3cret" in word for word in argv)


def test_the_shell_hands_the_token_and_the_arguments_on(tmp_path: Path) -> None:
    """What the container's shell is told, done by this machine's."""
    hf = tmp_path / "hf"
    hf.write_text('#!/bin/sh\ncat "$HF_TOKEN_PATH"\nprintf "[%s]" "$@"\n')
    hf.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HF_TOKEN_PATH": str(tmp_path / "token")}
    argv = ["/bin/sh", "-c", download.FROM_STDIN, "hf", "download", "a b"]
    done = subprocess.run(argv, input="hf_x", env=env, text=True, capture_output=True, check=True)
    assert done.stdout == "hf_x[download][a b]"


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
        ("hf: 1: exec: hf: not found", "/t", "has no `hf` command"),
        ("docker: Error response from daemon: No such image: img:1.", "", "img:1 is not on the host"),
    ],
)
def test_final_failures(params: dict[str, Any], output: str, token: str, message: str) -> None:
    assert message in download.explain(output, {**params, "token": token})


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


@pytest.mark.parametrize(
    ("output", "broken", "said"),
    [
        ("Connection timed out", 0, "the download failed 4 times: check that the host reaches "),
        ("anything", 2, "2 files came broken, 4 times in a row: "),
        (
            "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            0,
            "Docker did not answer, 4 times in a row: look at it with `journalctl -u docker`.",
        ),
    ],
)
def test_what_to_do_when_every_attempt_failed(params: dict[str, Any], output: str, broken: int, said: str) -> None:
    assert download.explain(output, params) is None
    assert download.gave_up(output, broken, params).startswith(said)


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
    orphan, goes_on = f"{'a' * 64}.0123abcd.incomplete", f"{'a' * 64}.incomplete"
    for name in (orphan, goes_on, "b"):
        (blobs / name).write_text("x")
    download.remove_orphans(params["cache_dir"], "org/model")
    assert sorted(path.name for path in blobs.iterdir()) == [goes_on, "b"]


def cached(params: dict[str, Any], **files: bytes) -> Path:
    """A snapshot in the cache, as the hub's client lays it out; `files`: with _ for the dot in their names."""
    place = Path(download.repo_dir(params["cache_dir"], "org/model"))
    snapshot = place / "snapshots" / COMMIT
    for folder in (snapshot, place / "blobs", place / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        large = name.endswith("_safetensors")
        named, git = hashlib.sha256(content), hashlib.sha1(b"blob %d\0" % len(content) + content)  # noqa: S324 - git's
        digest = named if large else git
        blob = place / "blobs" / digest.hexdigest()
        blob.write_bytes(content)
        (snapshot / name.replace("_", ".")).symlink_to(blob)
    return snapshot


def test_files_are_what_they_are_named_by(params: dict[str, Any]) -> None:
    snapshot = cached(params, config_json=b"{}", model_safetensors=b"w" * 5000)
    assert download.wrong_blobs(snapshot) == ([], 2)
    weights, config = (snapshot / "model.safetensors").resolve(), (snapshot / "config.json").resolve()
    weights.write_bytes(b"w" * 4999 + b"x")
    config.unlink()
    assert download.wrong_blobs(snapshot) == (sorted([weights, config]), 0)


def test_files_that_are_not_named_by_a_hash_are_not_judged(params: dict[str, Any]) -> None:
    snapshot = cached(params, config_json=b"{}")
    other = snapshot.parents[1] / "blobs" / "W_an-etag-of-a-mirror"
    other.write_bytes(b"x")
    (snapshot / "model.safetensors").symlink_to(other)
    assert download.wrong_blobs(snapshot) == ([], 1)


INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
CACHES = {
    "whole": ({"config_json": b"{}", "model_safetensors": b"w"}, ""),
    "no weights": ({"config_json": b"{}"}, "it has no weights"),
    "no configuration": ({"model_safetensors": b"w"}, "config.json is missing"),
    "shards": ({"config_json": b"{}", "model-1_safetensors": b"w", "model_safetensors_index_json": INDEX}, SHARD),
    "index broken": ({"config_json": b"{}", "model_safetensors_index_json": b"["}, BAD_INDEX),
}


@pytest.mark.parametrize("name", CACHES)
def test_what_a_snapshot_lacks_is_the_same_for_the_probe(params: dict[str, Any], name: str) -> None:
    files, missing = CACHES[name]
    snapshot = cached(params, **files)
    assert download.missing_of(snapshot) == missing
    assert probe_script._missing(str(snapshot)) == missing


def test_links_to_nothing_are_missing_files(params: dict[str, Any]) -> None:
    snapshot = cached(params, config_json=b"{}", model_safetensors=b"w")
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).resolve().unlink()
    assert download.missing_of(snapshot) == "config.json is missing and 1 more files"
    assert probe_script._missing(str(snapshot)) == "config.json is missing and 1 more files"


def test_what_is_there_in_a_cache_of_somebody_else(params: dict[str, Any]) -> None:
    assert download.present(params) == ("", "it is not there")
    cached(params, config_json=b"{}", model_safetensors=b"w")
    assert download.present(params) == (COMMIT, "")
    assert download.present({**params, "revision": COMMIT}) == (COMMIT, "")
    assert download.present({**params, "revision": "v2"}) == ("", "it has no v2")
    assert download.present({**params, "revision": "0" * 40}) == ("0" * 40, f"it has no {'0' * 40}")
    assert download.present({**params, "file": "p.py"}) == (COMMIT, "p.py is missing")
    assert download.present({**params, "file": "config.json"}) == (COMMIT, "")


def _peer(tmp_path: Path, text: str) -> str:
    program = tmp_path / "peer.py"
    program.write_text(text)
    return str(program)


def test_a_model_of_another_host_is_marked_as_a_download_is(params: dict[str, Any], tmp_path: Path) -> None:
    fill = f"""
import json, pathlib, sys
assert sys.argv[1:4] == ["weights", "org/model", "main"]
assert sys.argv[4:] == ["--cache-dir", {params["cache_dir"]!r}, "--from", "a=192.0.2.1:1"]
place = pathlib.Path({str(download.repo_dir(params["cache_dir"], "org/model"))!r})
(place / "blobs").mkdir(parents=True)
(place / "snapshots" / "{COMMIT}").mkdir(parents=True)
(place / "blobs" / "{hashlib.sha256(b"x").hexdigest()}").write_text("x")
(place / "snapshots" / "{COMMIT}" / "a.bin").symlink_to("../../blobs/{hashlib.sha256(b"x").hexdigest()}")
print("came from a")
print(json.dumps({{"from": "a", "commit": "{COMMIT}"}}))
"""
    params.update(peers=[{"host": "a", "address": "192.0.2.1:1"}], peer_program=_peer(tmp_path, fill), timeout_s=60)
    content, why = download.from_peers(params)
    assert (content, why) == ({"repo": "org/model", "revision": "main", "commit": COMMIT, "verified": 1}, "")
    assert download.completed(params) == content


def test_why_a_model_does_not_come_from_another_host(params: dict[str, Any], tmp_path: Path) -> None:
    ends = "print('a: waiting'); raise SystemExit('a: does not answer')"
    params.update(peers=[{"host": "a", "address": "192.0.2.1:1"}], peer_program=_peer(tmp_path, ends), timeout_s=60)
    assert download.from_peers(params) == (None, "a: does not answer")
    assert download.completed(params) is None


def test_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / ".provision" / "lock"
    first = download.take_lock(path, 0)
    assert download.take_lock(path, 0) is None
    first.close()
    second = download.take_lock(path, 0)
    assert second is not None
    second.close()
