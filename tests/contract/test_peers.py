"""One host gives, another takes: the real program and real TLS between two folders of this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import socketserver
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.hosts import peer_script
from provisioner.hosts.peer_script import Giver, LostError, Source, take_image, take_weights, tls
from provisioner.rollout.sharing import new_key

REPO = "nvidia/nano"
IMAGE = "vllm/vllm-openai:v0.12.0"
COMMIT = "c" * 40
LARGE = bytes(range(256)) * 20_000
SMALL = b'{"model_type": "nemotron_h"}\n'


class Host:
    """A folder that stands for a host: its key, its model cache, its spool."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.home, self.cache, self.spool = (folder / name for name in ("home", "cache", "spool"))
        for place in (self.home, self.cache, self.spool):
            place.mkdir(parents=True)
        (self.home / "key.pem").write_bytes(key)
        self.passes_on(False)

    def passes_on(self, wanted: bool) -> None:
        """Whether others will ask it for what it takes."""
        (self.home / "config.json").write_text(json.dumps({"passes_on": wanted}))

    @property
    def model(self) -> Path:
        return self.cache / "hub" / "models--nvidia--nano"

    def snapshot(self) -> dict[str, bytes]:
        folder = self.model / "snapshots" / COMMIT
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Serving:
    """A giver at a port of the loopback."""

    def __init__(self, host: Host, *, final: bool = True, limit: float = 0) -> None:
        config = {"address": "127.0.0.1", "port": 0, "limit": limit, "idle_s": 60, "final": final}
        self.giver = Giver({**config, "cache_dir": str(host.cache)}, host.home, host.spool)
        self._thread = threading.Thread(target=self.giver.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.giver.server_address[1]}"

    def end(self) -> None:
        self.giver.shutdown()
        self.giver.server_close()
        self._thread.join()


def _blob(content: bytes, *, large: bool) -> str:
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _fill(host: Host) -> None:
    """A model as the hub's client leaves it, with the role's marker."""
    snapshot = host.model / "snapshots" / COMMIT
    for path, content, large in (("config.json", SMALL, False), ("weights/a.safetensors", LARGE, True)):
        blob = host.model / "blobs" / _blob(content, large=large)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / path).symlink_to(blob)
    marker = host.cache / ".provision" / "nvidia--nano.json"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"repo": REPO, "revision": "main", "commit": COMMIT}))


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Host, Host]:
    """One with the model and one with nothing; nobody waits."""
    monkeypatch.setattr(peer_script, "PAUSE_S", 0.01)
    monkeypatch.setattr(peer_script, "SPARE", 0)
    key = new_key()
    giver, taker = Host(tmp_path / "giver", key), Host(tmp_path / "taker", key)
    _fill(giver)
    return giver, taker


@pytest.fixture
def serving(hosts: tuple[Host, Host]) -> Iterator[Serving]:
    found = Serving(hosts[0])
    yield found
    found.end()


def test_a_model_arrives_as_the_hub_client_leaves_it(hosts: tuple[Host, Host], serving: Serving) -> None:
    _, taker = hosts
    name, commit = take_weights(REPO, "main", str(taker.cache), [("gpu-01", serving.address)], taker.home)
    assert (name, commit) == ("gpu-01", COMMIT)
    assert taker.snapshot() == {"config.json": SMALL, "weights/a.safetensors": LARGE}
    assert sorted(path.name for path in (taker.model / "blobs").iterdir()) == sorted(
        [_blob(SMALL, large=False), _blob(LARGE, large=True)]
    )
    assert (taker.model / "snapshots" / COMMIT / "config.json").is_symlink()
    assert (taker.model / "refs" / "main").read_text() == COMMIT
    assert not (taker.cache / ".provision" / "parts" / "nvidia--nano").exists()


def test_what_is_there_is_not_sent_again(hosts: tuple[Host, Host], serving: Serving, monkeypatch: Any) -> None:
    giver, taker = hosts
    part = taker.cache / ".provision" / "parts" / "nvidia--nano" / _blob(LARGE, large=True)
    part.parent.mkdir(parents=True)
    part.write_bytes(LARGE[:3_000_000])
    sent: list[int] = []
    monkeypatch.setattr(serving.giver.limit, "take", sent.append)
    take_weights(REPO, COMMIT, str(taker.cache), [("gpu-01", serving.address)], taker.home)
    assert sum(sent) == len(LARGE) - 3_000_000 + len(SMALL)
    assert taker.snapshot()["weights/a.safetensors"] == LARGE
    assert not (taker.model / "refs").exists(), "a commit is not named"
    assert giver.snapshot() == taker.snapshot()


def test_half_a_file_that_is_another_is_not_taken(hosts: tuple[Host, Host], serving: Serving) -> None:
    _, taker = hosts
    part = taker.cache / ".provision" / "parts" / "nvidia--nano" / _blob(LARGE, large=True)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    with pytest.raises(SystemExit) as ended:
        take_weights(REPO, "main", str(taker.cache), [("gpu-01", serving.address)], taker.home)
    assert str(ended.value) == "gpu-01: weights/a.safetensors is not what the hub names it by"
    assert not part.exists()


def test_a_giver_that_breaks_off_in_the_middle_is_asked_for_the_rest(
    hosts: tuple[Host, Host], serving: Serving, monkeypatch: Any
) -> None:
    _, taker = hosts
    blocks: list[int] = []

    def take(count: int) -> None:
        blocks.append(count)
        if len(blocks) == 3:
            raise ConnectionResetError("the cable")

    monkeypatch.setattr(serving.giver.limit, "take", take)
    take_weights(REPO, "main", str(taker.cache), [("gpu-01", serving.address)], taker.home)
    assert taker.snapshot()["weights/a.safetensors"] == LARGE
    assert sum(blocks) < 2 * len(LARGE)


def test_a_lost_giver_is_left_for_the_next_with_what_came(
    hosts: tuple[Host, Host], serving: Serving, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    giver, taker = hosts
    other = Serving(giver)
    sent = []

    def dies(count: int) -> None:
        sent.append(count)
        if len(sent) > 2:
            serving.giver.socket.close()
            raise ConnectionResetError("it died")

    monkeypatch.setattr(serving.giver.limit, "take", dies)
    rest: list[int] = []
    monkeypatch.setattr(other.giver.limit, "take", rest.append)
    sources = [("gpu-02", serving.address), ("gpu-01", other.address)]
    try:
        name, _ = take_weights(REPO, "main", str(taker.cache), sources, taker.home)
    finally:
        other.end()
    assert name == "gpu-01"
    assert "gpu-02: does not answer (" in capsys.readouterr().out
    assert sum(rest) < len(LARGE) + len(SMALL), "what gpu-02 sent was not sent again"
    assert taker.snapshot()["weights/a.safetensors"] == LARGE


def test_nobody_left_is_an_end_with_every_reason(hosts: tuple[Host, Host], serving: Serving) -> None:
    _, taker = hosts
    with pytest.raises(SystemExit) as ended:
        take_weights("nvidia/other", "main", str(taker.cache), [("gpu-02", "127.0.0.1:1"), ("gpu-01", serving.address)],
                     taker.home)  # fmt: skip
    assert str(ended.value) == "gpu-02: does not answer ([Errno 111] Connection refused); gpu-01: does not have it"


def test_who_does_not_have_it_yet_is_waited_for(
    hosts: tuple[Host, Host], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    giver, taker = hosts
    (giver.cache / ".provision" / "nvidia--nano.json").rename(tmp_path / "marker")
    serving = Serving(giver, final=False)
    timer = threading.Timer(0.3, lambda: (tmp_path / "marker").rename(giver.cache / ".provision" / "nvidia--nano.json"))
    timer.start()
    try:
        take_weights(REPO, "main", str(taker.cache), [("gpu-01", serving.address)], taker.home)
    finally:
        serving.end()
    assert "waiting for gpu-01: does not have it yet" in capsys.readouterr().out
    assert taker.snapshot()["config.json"] == SMALL


def test_who_will_not_get_it_any_more_says_so(hosts: tuple[Host, Host]) -> None:
    giver, taker = hosts
    serving = Serving(giver, final=False)
    (giver.home / "final").touch()
    try:
        with pytest.raises(SystemExit, match=r"gpu-01: does not have it$"):
            take_weights(REPO, "d" * 40, str(taker.cache), [("gpu-01", serving.address)], taker.home)
    finally:
        serving.end()


def test_a_stranger_gets_nothing_and_gives_nothing(hosts: tuple[Host, Host], serving: Serving, tmp_path: Path) -> None:
    stranger = Host(tmp_path / "stranger", new_key())
    with pytest.raises(SystemExit, match="gpu-01: does not answer"):
        take_weights(REPO, "main", str(stranger.cache), [("gpu-01", serving.address)], stranger.home)
    assert not stranger.model.exists()
    anonymous = ssl.create_default_context()
    anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(LostError, match="does not answer"):
        Source("gpu-01", serving.address, anonymous).json("/weights?repo=nvidia%2Fnano&revision=main")


@pytest.mark.parametrize("path", ["../../../../etc/passwd", "config.json/../../x", "/etc/passwd"])
def test_nothing_outside_of_a_model_is_given(hosts: tuple[Host, Host], serving: Serving, path: str) -> None:
    query = urllib.parse.urlencode({"repo": REPO, "commit": COMMIT, "path": path})
    with pytest.raises(LostError, match="no such file"):
        Source("gpu-01", serving.address, tls(hosts[1].home, server=False)).head(f"/file?{query}")


@pytest.mark.parametrize(
    ("commit", "one"),
    [
        ("main", {"path": "a", "oid": "a" * 64}),
        (COMMIT, {"path": "../a", "oid": "a" * 64}),
        (COMMIT, {"path": "/a", "oid": "a" * 64}),
        (COMMIT, {"path": "a", "oid": "../a"}),
    ],
)
def test_nothing_outside_of_a_model_is_taken(commit: str, one: dict[str, str]) -> None:
    with pytest.raises(LostError, match="it names"):
        peer_script.check_listing(commit, [one])


def test_the_limit_is_kept(hosts: tuple[Host, Host]) -> None:
    now = [0.0]
    slept: list[float] = []
    limit = peer_script.Limit(10.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer_script.time, "monotonic", lambda: now[0])
        patch.setattr(peer_script.time, "sleep", slept.append)
        for count in (50, 20, 10):
            limit.take(count)
    assert slept == [0.0, 5.0, 7.0]


# --- images


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Docker's API, of images alone: name → what is said of it, and its archive."""
    images: dict[str, Any] = {}

    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, _, what = self.path.removeprefix("/images/").rpartition("/")
            found = images.get(urllib.parse.unquote(name))
            body = b"" if found is None else found["archive"] if what == "get" else json.dumps(found["json"]).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "docker"

        def log_message(self, *_: Any) -> None:
            return

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    place = str(tmp_path / "docker.sock")
    monkeypatch.setattr(peer_script, "DOCKER_SOCKET", place)
    server = Server(place, Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield images
    server.shutdown()
    server.server_close()
    thread.join()


def _image(archive: bytes, layers: tuple[str, ...] = ("sha256:1",)) -> dict[str, Any]:
    told = {"Id": "sha256:abc", "Os": "linux", "Architecture": "amd64", "Size": 10, "RootFS": {"Layers": layers}}
    return {"archive": archive, "json": told}


def test_an_image_is_packed_once_and_loaded_as_it_is(
    hosts: tuple[Host, Host], serving: Serving, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    giver, taker = hosts
    engine[IMAGE] = _image(LARGE)
    loaded: list[bytes] = []
    monkeypatch.setattr(peer_script, "run", lambda argv: loaded.append(Path(argv[-1]).read_bytes()))
    for _ in range(2):
        name = take_image(IMAGE, "linux/amd64", [("gpu-01", serving.address)], taker.home, taker.spool)
        assert name == "gpu-01"
    assert loaded == [LARGE, LARGE]
    assert not taker.spool.exists(), "nothing of it stays"
    assert [path.read_bytes() for path in (giver.spool / "give").glob("*.tar")] == [LARGE]


def test_an_image_is_passed_on_as_it_came(
    hosts: tuple[Host, Host], serving: Serving, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    giver, middle = hosts
    middle.passes_on(True)
    engine[IMAGE] = _image(LARGE)
    loaded: list[bytes] = []
    monkeypatch.setattr(peer_script, "run", lambda argv: loaded.append(Path(argv[-1]).read_bytes()))
    take_image(IMAGE, "linux/amd64", [("gpu-01", serving.address)], middle.home, middle.spool)
    assert not (middle.spool / "take").exists()
    engine[IMAGE]["archive"] = b"packed once more"
    next_one, last = Serving(middle), Host(tmp_path / "last", (giver.home / "key.pem").read_bytes())
    try:
        take_image(IMAGE, "linux/amd64", [("gpu-02", next_one.address)], last.home, last.spool)
    finally:
        next_one.end()
    assert loaded == [LARGE, LARGE]


def test_what_came_is_passed_on_once_it_is_known_to_be_right(
    hosts: tuple[Host, Host], engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody asks while Docker still loads it: it is not packed beside that, unless whoever took it is no more."""
    _, middle = hosts
    engine[IMAGE] = _image(b"packed")
    archive = peer_script.archive_of(middle.spool / "give", IMAGE)
    archive.parent.mkdir()
    archive.write_bytes(LARGE[:1000])
    images = peer_script.Images(middle.spool / "give")
    assert images.saved(IMAGE, "sha256:abc", 10, final=False) is None
    assert images.packing == {}
    peer_script.write_note(archive, "sha256:abc", "s")
    assert images.saved(IMAGE, "sha256:abc", 10, final=False) == {"image": "sha256:abc", "sha256": "s"}
    archive.with_suffix(".json").unlink()
    assert images.saved(IMAGE, "sha256:abc", 10, final=True) is None
    end = time.monotonic() + 10
    while not (told := images.saved(IMAGE, "sha256:abc", 10, final=True)):
        assert time.monotonic() < end, "waited 10 s for the archive"
    assert told["sha256"] == hashlib.sha256(b"packed").hexdigest()
    assert archive.read_bytes() == b"packed"


def test_what_is_another_image_is_not_passed_on(
    hosts: tuple[Host, Host], serving: Serving, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, middle = hosts
    middle.passes_on(True)
    engine[IMAGE] = _image(LARGE)
    monkeypatch.setattr(peer_script, "run", lambda _: engine.update({IMAGE: _image(LARGE, ("sha256:2",))}))
    with pytest.raises(SystemExit, match="gpu-01: what it sent is not that image"):
        take_image(IMAGE, "linux/amd64", [("gpu-01", serving.address)], middle.home, middle.spool)
    assert list((middle.spool / "give").iterdir()) == []


def test_an_image_of_another_platform_is_none(
    hosts: tuple[Host, Host], serving: Serving, engine: dict[str, Any]
) -> None:
    engine[IMAGE] = _image(LARGE)
    with pytest.raises(SystemExit, match="gpu-01: does not have it"):
        take_image(IMAGE, "linux/arm64", [("gpu-01", serving.address)], hosts[1].home, hosts[1].spool)


def test_an_image_that_is_another_after_loading_is_refused(
    hosts: tuple[Host, Host], serving: Serving, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine[IMAGE] = _image(LARGE)
    monkeypatch.setattr(peer_script, "run", lambda _: engine.update({IMAGE: _image(LARGE, ("sha256:2",))}))
    with pytest.raises(SystemExit, match="gpu-01: what it sent is not that image"):
        take_image(IMAGE, "linux/amd64", [("gpu-01", serving.address)], hosts[1].home, hosts[1].spool)


def test_an_image_named_by_digest_gets_its_name_from_the_registry(
    hosts: tuple[Host, Host], serving: Serving, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker knows what it loaded by its tag alone; a pull asks for the manifest and fetches nothing else."""
    name = f"vllm/vllm-openai@sha256:{'a' * 64}"
    engine[name] = _image(LARGE)
    ran: list[str] = []

    def run(argv: list[str]) -> None:
        ran.append(" ".join(argv[:2]))
        if argv[1] == "load":
            engine["held"] = engine.pop(name)
        else:
            assert argv[2:] == ["--platform", "linux/amd64", name]
            engine[name] = engine["held"]

    monkeypatch.setattr(peer_script, "run", run)
    take_image(name, "linux/amd64", [("gpu-01", serving.address)], hosts[1].home, hosts[1].spool)
    assert ran == ["docker load", "docker pull"]


def test_no_room_for_the_archive_is_said(
    hosts: tuple[Host, Host], serving: Serving, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine[IMAGE] = _image(LARGE)
    monkeypatch.setattr(peer_script, "SPARE", 1 << 60)
    with pytest.raises(SystemExit, match=r"gpu-01: no room for 0\.0 GiB, [0-9.]+ GiB are free"):
        take_image(IMAGE, "linux/amd64", [("gpu-01", serving.address)], hosts[1].home, hosts[1].spool)
