"""A small model hub that the real huggingface_hub client downloads from (HF_ENDPOINT=http://…).

    python -m provisioner.lab.hub ROOT --bind IP --port 8800 [--token-file FILE] [--throttle BYTES/S]
                                  [--cut-after BYTES]

ROOT/OWNER/NAME/ holds the files of a repository's only branch, main; ROOT/OWNER/NAME/.gated makes it ask for a
token.  The commit is a hash of the files, so a changed file is a new commit; commits that were kept in
ROOT/OWNER/NAME/.commits/ are still there after it.  Tokens are read from FILE, one a
line, at every request: a new token needs no restart.  A throttle slows every download; a cut drops the connection
in the middle of the first download of each file.  Requests are logged, tokens are not.
Protocol as observed from huggingface_hub 2.4.0 (no X-Xet-Hash header, so the client stays with plain HTTP).
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import re
import shutil
import sys
import threading
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GATE = ".gated"
COMMITS = ".commits"
_LARGE = (".safetensors", ".bin", ".gguf")  # what the real hub keeps in LFS: named by SHA-256, with X-Linked headers
_BLOCK = 64 * 1024


@dataclass(frozen=True)
class HubFile:
    """One file; `etag` is git's blob id, or the SHA-256 for large ones."""

    path: Path
    size: int
    blob: str
    sha256: str
    large: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.blob


@dataclass(frozen=True)
class Repo:
    """A repository as it is on disk at this moment."""

    name: str
    gated: bool
    files: dict[str, HubFile]

    @property
    def commit(self) -> str:
        listing = "".join(f"{name} {file.blob}\n" for name, file in self.files.items())
        return hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()


class Hub(ThreadingHTTPServer):
    """The listening hub."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        root: Path,
        address: tuple[str, int],
        *,
        token_file: Path | None = None,
        throttle: int = 0,
        cut_after: int = 0,
    ) -> None:
        self.root, self.token_file, self.throttle, self.cut_after = root.resolve(), token_file, throttle, cut_after
        self.cut_once: set[Path] = set()
        self._digests: dict[tuple[Path, int, int], HubFile] = {}
        self._hashing = threading.Lock()
        super().__init__(address, _Handler)

    def repo(self, name: str, revision: str = "main") -> Repo | None:
        """The repository OWNER/NAME at a kept commit, else as it is now; None where there is none."""
        folder = self.root / name
        if ".." in name or not folder.is_dir():
            return None
        kept = folder / COMMITS / revision
        at = kept if kept.is_dir() else folder
        files = {name: self._file(at / name) for name in _names(at)}
        return Repo(name, (folder / GATE).exists(), files)

    def accepts(self, token: str) -> bool:
        """Whether the token file has this token."""
        if self.token_file is None or not self.token_file.exists():
            return False
        known = self.token_file.read_text().split()
        return any(hmac.compare_digest(token.encode(), line.encode()) for line in known)

    def _file(self, path: Path) -> HubFile:
        status = path.stat()
        key = (path, status.st_mtime_ns, status.st_size)
        with self._hashing:  # hosts ask all at once, and what is large is to be read once
            if key not in self._digests:
                self._digests[key] = _hashed(path)
            return self._digests[key]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "provision-lab-hub"
    server: Hub

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if path == "/health":
            self._json(200, {"status": "ok"})
        elif token and not self.server.accepts(token):
            self._error(401, None, "Invalid credentials in Authorization header")
        elif path == "/api/whoami-v2":
            self._whoami(token)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|auth-check)(?:/([^/]+))?.*)?", path):
            self._api(found[1], found[2] or "revision", found[3] or "main", token)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3], token)
        else:
            self._error(404, None, "Not found")

    do_HEAD = do_GET  # noqa: N815 – the base class's name

    def _api(self, name: str, kind: str, revision: str, token: str) -> None:
        repo = self._repo(name, revision, token)
        if repo is None:
            return
        if kind == "auth-check":
            if not self._denied(repo, token):
                self._json(200, {})
        elif kind == "tree":
            self._json(200, [_entry(path, file) for path, file in repo.files.items()])
        else:  # a gated repository's metadata is public, as on the real hub
            self._json(200, _model_info(repo))

    def _resolve(self, name: str, revision: str, file_name: str, token: str) -> None:
        repo = self._repo(name, revision, token)
        if repo is None or self._denied(repo, token):
            return
        file = repo.files.get(file_name)
        if file is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        asked = _byte_range(self.headers.get("Range", ""), file.size)
        if asked is None:
            self._send(416, b"", {"Content-Range": f"bytes */{file.size}"})
            return
        self._send_file(repo, file, *asked)

    def _repo(self, name: str, revision: str, token: str) -> Repo | None:
        repo = self.server.repo(name, revision)
        if repo is None:  # strangers are not told what exists
            code, message = (404, "Repository not found") if token else (401, "Invalid username or password.")
            self._error(code, "RepoNotFound", message)
            return None
        if revision not in {"main", repo.commit}:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo

    def _denied(self, repo: Repo, token: str) -> bool:
        if not repo.gated or token:  # a token that came this far is a good one
            return False
        message = (
            f"Access to model {repo.name} is restricted. You must have access to it and be authenticated to access it. "
            "Please log in."
        )
        self._error(401, "GatedRepo", message)
        return True

    def _whoami(self, token: str) -> None:
        if not token:
            self._error(401, None, "Invalid username or password.")
            return
        access = {"type": "access_token", "accessToken": {"displayName": "lab", "role": "read"}}
        self._json(200, {"type": "user", "name": "lab", "fullname": "lab", "orgs": [], "auth": access})

    def _send_file(self, repo: Repo, file: HubFile, first: int, last: int, partial: bool) -> None:
        self.send_response(206 if partial else 200)
        headers = {
            "X-Repo-Commit": repo.commit,
            "ETag": f'"{file.etag}"',
            "Accept-Ranges": "bytes",
            "Content-Length": str(last - first + 1),
            "Content-Type": "application/octet-stream",
        }
        if file.large:
            headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}
        if partial:
            headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_bytes(file, first, last)

    def _send_bytes(self, file: HubFile, first: int, last: int) -> None:
        hub = self.server
        cut = hub.cut_after if hub.cut_after and file.size > hub.cut_after and file.path not in hub.cut_once else 0
        hub.cut_once.add(file.path)
        left, sent = last - first + 1, 0
        with file.path.open("rb") as content:
            content.seek(first)
            while left and (block := content.read(min(_BLOCK, left))):
                self.wfile.write(block)
                left -= len(block)
                sent += len(block)
                if cut and sent >= cut:
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                if hub.throttle:
                    time.sleep(len(block) / hub.throttle)

    def _error(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _json(self, status: int, body: Any) -> None:
        self._send(status, json.dumps(body).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        token = "token" if self.headers and self.headers.get("Authorization") else "no token"
        words = f"{time.strftime('%H:%M:%S')} {self.client_address[0]} {format % args} ({token})"
        sys.stdout.write(words + "\n")
        sys.stdout.flush()


def keep_commit(folder: Path) -> str:
    """Keeps the commit that main of a repository (its folder) is now; it can still be had when main has moved on."""
    files = {name: _hashed(folder / name) for name in _names(folder)}
    commit = Repo(folder.name, gated=False, files=files).commit
    for name in files:
        place = folder / COMMITS / commit / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, place)
    return commit


def _names(folder: Path) -> list[str]:
    """Files of a commit: whose name, or whose folder, does not begin with a dot."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if not any(part.startswith(".") for part in path.parts))


def _hashed(path: Path) -> HubFile:
    size = path.stat().st_size
    blob, sha256 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            blob.update(block)
            sha256.update(block)
    return HubFile(path, size, blob.hexdigest(), sha256.hexdigest(), path.name.endswith(_LARGE))


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m provisioner.lab.hub")
    parser.add_argument("root", type=Path)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8800)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--throttle", type=int, default=0, metavar="BYTES/S")
    parser.add_argument("--cut-after", type=int, default=0, metavar="BYTES")
    options = parser.parse_args(argv)
    address = (options.bind, options.port)
    knobs = {"throttle": options.throttle, "cut_after": options.cut_after}
    Hub(options.root, address, token_file=options.token_file, **knobs).serve_forever()


def _byte_range(header: str, size: int) -> tuple[int, int, bool] | None:
    """First byte, last byte, whether a part was asked for; None where the range is outside of the file."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
    if not found:
        return 0, size - 1, False
    first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
    return (first, last, True) if first <= last else None


def _entry(path: str, file: HubFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": file.blob, "size": file.size, "path": path}
    if file.large:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return entry


def _model_info(repo: Repo) -> dict[str, Any]:
    return {
        "_id": repo.commit[:24],
        "id": repo.name,
        "modelId": repo.name,
        "sha": repo.commit,
        "private": False,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": name} for name in repo.files],
    }


if __name__ == "__main__":
    main()
