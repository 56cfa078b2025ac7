"""Hosts of a fleet give each other images and model files while a run lasts: the part that runs on them.

    peer.py serve                                        gives what this host has; of the rest it says: not yet
    peer.py image REFERENCE --platform P --from NAME=ADDRESS:PORT …           takes an image into Docker
    peer.py weights REPO REVISION --cache-dir DIR --from NAME=ADDRESS:PORT …  takes a model into the hub's cache

Both sides hold the one key of the run and trust nobody else (TLS, checked both ways). It lies beside this file, in the
runtime directory of the unit that serves, and is gone with it. Python 3.8 and later, nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

HOME = Path("/run/vllm-peers")
SPOOL = Path("/var/lib/vllm/peers")
DOCKER_SOCKET = "/var/run/docker.sock"
BLOCK = 1 << 20
TIMEOUT_S = 20.0
TRIES, PAUSE_S = 4, 2.0
"""how often in a row a giver may break off before it counts as lost"""
SAY_S = 5.0
SPARE = 1 << 30
"""bytes that stay free on a disk"""
NOT_YET, NEVER, NO_ROOM = 503, 404, 507

if TYPE_CHECKING:  # Python 3.8 knows no dict[…]
    Json = dict[str, Any]
    Sources = Sequence[tuple[str, str]]
    """name and address:port of hosts that give, in the order in which they are asked"""


class LostError(Exception):
    """This giver will not do."""


# --- giving


class Giver(http.server.ThreadingHTTPServer):
    """Serves images of this host's Docker and models of its cache."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, config: Json, home: Path = HOME, spool: Path = SPOOL) -> None:
        self.address_family = socket.AF_INET6 if ":" in config["address"] else socket.AF_INET
        self.config, self.home, self.images = config, home, Images(spool / "give")
        self.limit = Limit(config["limit"])
        self.asked = time.monotonic()
        super().__init__((config["address"], config["port"]), Handler)
        # the handshake is the business of each connection's own thread
        self.socket = tls(home, server=True).wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def final(self) -> bool:
        """Whether nothing more comes to this host."""
        return self.config["final"] or (self.home / "final").exists()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's
        kind, error = sys.exc_info()[:2]
        say(f"{client_address[0]}: {kind.__name__ if kind else ''}: {error}")

    def end_when_idle(self) -> None:
        while time.monotonic() - self.asked < self.config["idle_s"]:
            time.sleep(1)
        say("nobody asks any more")
        self.shutdown()


class Handler(http.server.BaseHTTPRequestHandler):
    """One request of a taker."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: Giver

    def do_GET(self) -> None:
        self.server.asked = time.monotonic()
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        if path == "/image":
            self._image(asked["reference"], asked["platform"])
        elif path == "/weights":
            self._weights(asked["repo"], asked["revision"])
        elif path == "/file":
            self._file(asked["repo"], asked["commit"], asked["path"])
        else:
            self._refuse(NEVER, "no such thing")

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def _image(self, reference: str, platform: str) -> None:
        seen = inspected(reference)
        if seen is None or "linux/" + seen["Architecture"] != platform:
            self._lacking()
            return
        try:
            saved = self.server.images.saved(reference, seen["Id"], seen["Size"], final=self.server.final)
        except OSError as error:
            self._refuse(NO_ROOM, str(error))
            return
        if saved is None:
            self._refuse(NOT_YET, "it is being packed or checked")
        else:
            self._send(
                archive_of(self.server.images.folder, reference),
                {"X-Sha256": saved["sha256"], "X-Content": content_of(seen)},
            )

    def _weights(self, repo: str, revision: str) -> None:
        found = model_of(self.server.config["cache_dir"], repo, revision)
        if found is None:
            self._lacking()
            return
        body = json.dumps(found).encode("utf-8")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, repo: str, commit: str, path: str) -> None:
        file = snapshot_of(self.server.config["cache_dir"], repo, commit) / path
        if path.startswith("/") or ".." in Path(commit, path).parts or not file.is_file():
            self._refuse(NEVER, "no such file")
        else:
            self._send(file, {})

    def _lacking(self) -> None:
        if self.server.final:
            self._refuse(NEVER, "does not have it")
        else:
            self._refuse(NOT_YET, "does not have it yet")

    def _refuse(self, status: int, problem: str) -> None:
        self.send_response(status)
        self.send_header("X-Problem", " ".join(problem.split()))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, path: Path, told: dict[str, str]) -> None:
        """A file, from the byte on that the taker lacks."""
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            found = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
            first = min(int(found.group(1)), size) if found else 0
            self.send_response(206 if found else 200)
            for name, value in {**told, "Content-Length": str(size - first), "X-Size": str(size)}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            stream.seek(first)
            for block in iter(lambda: stream.read(BLOCK), b""):
                self.server.limit.take(len(block))
                self.server.asked = time.monotonic()
                self.wfile.write(block)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:  # noqa: ARG002 - the base class's
        if code != NOT_YET:  # takers ask every few seconds
            say(f"{self.client_address[0]} {self.requestline} {code}")

    def log_message(self, format: str, *args: Any) -> None:
        say(f"{self.client_address[0]} {format % args}")


class Images:
    """Archives of images: passed on as they came, or else packed when somebody first asks; kept while this host serves.

    An archive has a note beside it once it is whole and known to be that image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, threading.Lock()
        self.packing: dict[tuple[str, str], str] = {}
        """what went wrong, so far"""

    def saved(self, reference: str, image: str, size: int, *, final: bool) -> Json | None:
        """The archive's `sha256`, of the image of that id; None until there is one. OSError where that did not work.

        `final`: what is still without a note was left by a job that has ended.
        """
        path, key = archive_of(self.folder, reference), (reference, image)
        with self.lock:
            note = note_of(path)
            if note and note["image"] == image:
                return note
            coming = path.exists() and not note and not final
            if key not in self.packing and not coming:
                self.packing[key] = ""
                threading.Thread(target=self._pack, args=(reference, image, size, path), daemon=True).start()
            problem = self.packing.get(key)
        if problem:
            raise OSError(problem)
        return None

    def _pack(self, reference: str, image: str, size: int, path: Path) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_room(self.folder, size)
            digest = hashlib.sha256()
            with Engine(3600).ask("/images/{}/get", reference) as answer:
                if answer.status != 200:
                    raise OSError("Docker does not save it: " + answer.read().decode("utf-8", "replace"))
                with path.open("wb") as stream:
                    for block in iter(lambda: answer.read(BLOCK), b""):
                        digest.update(block)
                        stream.write(block)
            say("packed " + reference)
            write_note(path, image, digest.hexdigest())
        except (OSError, http.client.HTTPException) as error:
            self.packing[reference, image] = str(error) or type(error).__name__


def archive_of(folder: Path, reference: str) -> Path:
    return folder / (hashlib.sha256(reference.encode("utf-8")).hexdigest() + ".tar")


def note_of(archive: Path) -> Json | None:
    """`image` (its id) and `sha256` of an archive that can be given; None where there is none."""
    try:
        note: Json = json.loads(archive.with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return note


def write_note(archive: Path, image: str, sha256: str) -> None:
    fresh = archive.with_suffix(".new")
    fresh.write_text(json.dumps({"image": image, "sha256": sha256}), encoding="utf-8")
    fresh.replace(archive.with_suffix(".json"))


class Limit:
    """Bytes a second that all takers get together; 0 for as many as there are."""

    def __init__(self, rate: float) -> None:
        self.rate, self.lock, self.free_at = rate, threading.Lock(), 0.0

    def take(self, count: int) -> None:
        if not self.rate:
            return
        with self.lock:
            begin = max(self.free_at, time.monotonic())
            self.free_at = begin + count / self.rate
        time.sleep(max(0.0, begin - time.monotonic()))


def model_of(cache_dir: str, repo: str, revision: str) -> Json | None:
    """`commit` and `files` of a model that is complete, as its marker says; None without one."""
    marker = Path(cache_dir, ".provision", repo.replace("/", "--") + ".json")
    try:
        told = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    commit = told.get("commit") or "-"
    snapshot = snapshot_of(cache_dir, repo, commit)
    if told.get("repo") != repo or revision not in (told.get("revision"), commit) or not snapshot.is_dir():
        return None
    paths = sorted(path for path in snapshot.rglob("*") if path.is_file())
    files = [
        {"path": str(path.relative_to(snapshot)), "size": path.stat().st_size, "oid": oid_of(path)} for path in paths
    ]
    return {"commit": commit, "files": files}


def oid_of(path: Path) -> str:
    """The hub's own hash of a file, which names it in the cache; of a file that came otherwise, its SHA-256."""
    name = path.resolve().name
    return name if path.is_symlink() and is_oid(name) else hash_of(path, hashlib.sha256())


def is_oid(name: str) -> bool:
    """SHA-256 of a large file, or git's id of a small one."""
    return bool(re.match(r"([0-9a-f]{64}|[0-9a-f]{40})$", name))


def snapshot_of(cache_dir: str, repo: str, commit: str) -> Path:
    return Path(cache_dir, "hub", "models--" + repo.replace("/", "--"), "snapshots", commit)


# --- taking


def take_image(reference: str, platform: str, sources: Sources, home: Path = HOME, spool: Path = SPOOL) -> str:
    """Brings an image into Docker. The giver's name. Where other hosts shall get it from here, the archive stays for
    them: packing it once more would take longer than anything else."""
    folder, kept = spool / "take", archive_of(spool / "give", reference)
    passes_on = json.loads((home / "config.json").read_text(encoding="utf-8"))["passes_on"]

    def take(giver: Source) -> None:
        path = "/image?" + urllib.parse.urlencode({"reference": reference, "platform": platform})
        told = giver.head(path)
        archive = folder / (told["X-Sha256"] + ".tar")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old != archive:
                old.unlink()
        giver.expect(int(told["X-Size"]), folder)
        giver.file(path, archive, int(told["X-Size"]))
        if hash_of(archive, hashlib.sha256()) != told["X-Sha256"]:
            archive.unlink()
            raise LostError("what came is not what it sent")
        if passes_on:
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            archive = archive.replace(kept)
        try:
            seen = load(archive, told["X-Content"])
        except LostError:
            archive.unlink()
            raise
        if passes_on:
            write_note(archive, seen["Id"], told["X-Sha256"])
        else:
            archive.unlink()

    def load(archive: Path, content: str) -> Json:
        run(["docker", "load", "--quiet", "--input", str(archive)])
        if inspected(reference) is None and "@" in reference:
            # Docker asks the registry for the manifest, sees that it has all that this names, and knows the digest.
            run(["docker", "pull", "--platform", platform, reference])
        seen = inspected(reference)
        if seen is None or content_of(seen) != content:
            raise LostError("what it sent is not that image")
        return seen

    try:
        return first_of(sources, take, home)
    finally:
        tidy(folder)


def take_weights(repo: str, revision: str, cache_dir: str, sources: Sources, home: Path = HOME) -> tuple[str, str]:
    """Brings a model into the cache, as the hub's client leaves it. The giver's name and the commit."""
    place = Path(cache_dir, "hub", "models--" + repo.replace("/", "--"))
    parts = Path(cache_dir, ".provision", "parts", repo.replace("/", "--"))
    commits: list[str] = []

    def take(giver: Source) -> None:
        told = giver.json("/weights?" + urllib.parse.urlencode({"repo": repo, "revision": revision}))
        commit, files = told["commit"], told["files"]
        check_listing(commit, files)
        missing = [one for one in {one["oid"]: one for one in files}.values() if not held(place, one["oid"])]
        for folder in (parts, place / "blobs"):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        giver.expect(sum(one["size"] for one in missing), place)
        for one in missing:
            part = parts / one["oid"]
            query = urllib.parse.urlencode({"repo": repo, "commit": commit, "path": one["path"]})
            giver.file("/file?" + query, part, one["size"])
            if not right(part, one["oid"]):
                part.unlink()
                raise LostError("{} is not what the hub names it by".format(one["path"]))
            part.replace(place / "blobs" / one["oid"])
        for one in files:
            link(place, commit, one)
        if not re.match(r"[0-9a-f]{40}$", revision):
            (place / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
            (place / "refs" / revision).write_text(commit, encoding="utf-8")
        commits.append(commit)

    name = first_of(sources, take, home)
    shutil.rmtree(str(parts), ignore_errors=True)
    return name, commits[-1]


def check_listing(commit: str, files: list[Json]) -> None:
    """A giver names nothing outside of the model."""
    if not re.match(r"[0-9a-f]{40}$", commit):
        raise LostError(f"it names no commit: {commit!r}")
    for one in files:
        if not is_oid(one["oid"]) or any(part in ("", ".", "..") for part in one["path"].split("/")):
            raise LostError("it names a file that cannot be: {!r}".format(one["path"]))


def held(place: Path, oid: str) -> bool:
    return right(place / "blobs" / oid, oid)


def right(blob: Path, oid: str) -> bool:
    """Whether a file is what the hub names it by."""
    if not blob.is_file():
        return False
    if len(oid) == 64:
        return hash_of(blob, hashlib.sha256()) == oid
    return hash_of(blob, hashlib.sha1(b"blob %d\0" % blob.stat().st_size)) == oid  # noqa: S324 - git's ids are


def link(place: Path, commit: str, one: Json) -> None:
    """A file of a snapshot: a link to what it holds."""
    path = place / "snapshots" / commit / one["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name("." + path.name + ".new")
    if fresh.is_symlink():
        fresh.unlink()
    fresh.symlink_to(os.path.relpath(str(place / "blobs" / one["oid"]), str(path.parent)))
    fresh.replace(path)


def tidy(folder: Path) -> None:
    """Removes a folder and the one around it as far as they hold nothing, such as half an archive to go on with."""
    for place in (folder, folder.parent):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def first_of(sources: Sources, take: Callable[[Source], None], home: Path) -> str:
    """The name of the first giver that `take` works with. SystemExit with every reason when there is none."""
    reasons = []
    for name, address in sources:
        try:
            take(Source(name, address, tls(home, server=False)))
        except (LostError, OSError, KeyError, ValueError) as error:
            words = str(error) if isinstance(error, LostError) else f"{type(error).__name__}: {error}"
            reasons.append(f"{name}: {words}")
            say(reasons[-1])
        else:
            say("came from " + name)
            return name
    raise SystemExit("; ".join(reasons))


class Source:
    """A host that gives. Asked again when it breaks off, waited for as long as it says that it has not got it yet."""

    def __init__(self, name: str, address: str, context: ssl.SSLContext) -> None:
        self.name, self.context = name, context
        host, _, port = address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        self.total, self.done, self.said = 0, 0, 0.0

    def head(self, path: str) -> dict[str, str]:
        """What it says of a file."""

        def once() -> dict[str, str]:
            with self._answer("HEAD", path) as answer:
                return dict(answer.headers)

        told: dict[str, str] = self._tried(once)
        return told

    def json(self, path: str) -> Json:
        """A JSON answer."""

        def once() -> bytes:
            with self._answer("GET", path) as answer:
                return answer.read()

        told: Json = json.loads(self._tried(once).decode("utf-8"))
        return told

    def file(self, path: str, target: Path, size: int) -> None:
        """A file; what is there of it is not sent again."""

        def once() -> None:
            target.touch()
            first = target.stat().st_size
            if first < size:
                with self._answer("GET", path, first) as answer, target.open("ab") as stream:
                    for block in iter(lambda: answer.read(BLOCK), b""):
                        stream.write(block)
                        self.done += len(block)
                        self._say(f"{self.done / 2**30:.2f} of {self.total / 2**30:.2f} GiB from {self.name}")
            if target.stat().st_size > size:
                target.unlink()
                raise ConnectionError("it has another file than it said")
            if target.stat().st_size < size:
                raise ConnectionError("it broke off")

        self._tried(once)

    def expect(self, size: int, place: Path) -> None:
        """Refuses what there is no room for."""
        try:
            check_room(place, size)
        except OSError as error:
            raise LostError(f"{error} here") from error
        self.total, self.done = size, 0

    def _tried(self, act: Callable[[], Any]) -> Any:
        """`act` until it works; LostError when it failed several times in a row without a byte in between."""
        failures, before = 0, -1
        while True:
            try:
                return act()
            except (OSError, http.client.HTTPException) as error:
                failures = failures + 1 if self.done == before else 1
                before = self.done
                if failures >= TRIES:
                    raise LostError("does not answer (%s)" % (str(error) or type(error).__name__)) from error
                say(f"{self.name}: {type(error).__name__}: {error}; asking again")
                time.sleep(PAUSE_S)

    @contextmanager
    def _answer(self, method: str, path: str, first: int = 0) -> Iterator[http.client.HTTPResponse]:
        """A good answer, once there is one."""
        headers = {"Connection": "close", **({"Range": f"bytes={first}-"} if first else {})}
        while True:
            server = http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=self.context)
            with closing(server):
                server.request(method, path, headers=headers)
                with server.getresponse() as answer:
                    if answer.status in (200, 206):
                        yield answer
                        return
                    problem = answer.getheader("X-Problem") or f"HTTP {answer.status}"
            if answer.status != NOT_YET:
                raise LostError(problem)
            self._say(f"waiting for {self.name}: {problem}")
            time.sleep(PAUSE_S)

    def _say(self, words: str) -> None:
        if time.monotonic() - self.said >= SAY_S:
            self.said = time.monotonic()
            say(words)


# --- both


def tls(home: Path, *, server: bool) -> ssl.SSLContext:
    """TLS with nobody but who holds the run's key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # one certificate for all of them
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(str(home / "key.pem"))
    context.load_verify_locations(str(home / "key.pem"))
    return context


class Engine(http.client.HTTPConnection):
    """Docker's API on its socket."""

    def __init__(self, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(DOCKER_SOCKET)

    @contextmanager
    def ask(self, path: str, reference: str) -> Iterator[http.client.HTTPResponse]:
        with closing(self):
            self.request("GET", path.format(urllib.parse.quote(reference, safe="/:@")))
            with self.getresponse() as answer:
                yield answer


def inspected(reference: str) -> Json | None:
    """What Docker says of an image; None where it has none of that name, or is not there."""
    try:
        with Engine(60).ask("/images/{}/json", reference) as answer:
            content: Json = json.loads(answer.read().decode("utf-8"))
            return content if answer.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def content_of(seen: Json) -> str:
    """What an image is, whatever a Docker calls it: its two kinds of store name images by different hashes."""
    parts = [seen["Os"], seen["Architecture"], seen["RootFS"].get("Layers") or []]
    return hashlib.sha256(json.dumps(parts).encode("utf-8")).hexdigest()


def run(argv: list[str]) -> None:
    """A program to its end; what it says goes to our output."""
    code = subprocess.run(argv, check=False).returncode
    if code:
        raise LostError(f"`{' '.join(argv[:2])}` failed (exit {code})")


def check_room(place: Path, size: int) -> None:
    """OSError where so many bytes do not fit on the disk."""
    free = shutil.disk_usage(str(place)).free
    if free < size + SPARE:
        raise OSError(f"no room for {size / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")


def hash_of(path: Path, digest: Any) -> str:
    """The digest with a file's content added, in hexadecimal."""
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
    told: str = digest.hexdigest()
    return told


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def serve(home: Path = HOME, spool: Path = SPOOL) -> None:
    """Gives until nobody asks any more, or a signal comes."""
    config = json.loads((home / "config.json").read_text(encoding="utf-8"))
    shutil.rmtree(str(spool / "give"), ignore_errors=True)
    giver = Giver(config, home, spool)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=giver.shutdown).start())
    threading.Thread(target=giver.end_when_idle, daemon=True).start()
    (home / "port").write_text(f"{giver.server_address[1]}\n", encoding="utf-8")
    try:
        giver.serve_forever(poll_interval=0.2)
    finally:
        shutil.rmtree(str(spool / "give"), ignore_errors=True)
        tidy(spool / "give")


def source(text: str) -> tuple[str, str]:
    name, _, address = text.partition("=")
    return name, address


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="peer.py")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve")
    image = commands.add_parser("image")
    image.add_argument("reference")
    image.add_argument("--platform", required=True)
    weights = commands.add_parser("weights")
    weights.add_argument("repo")
    weights.add_argument("revision")
    weights.add_argument("--cache-dir", required=True)
    for command in (image, weights):
        command.add_argument("--from", dest="sources", type=source, action="append", required=True)
    told = parser.parse_args(argv)
    if told.command == "image":
        take_image(told.reference, told.platform, told.sources)
    elif told.command == "weights":
        name, commit = take_weights(told.repo, told.revision, told.cache_dir, told.sources)
        say(json.dumps({"from": name, "commit": commit}))
    else:
        serve()


if __name__ == "__main__":
    main(sys.argv[1:])
