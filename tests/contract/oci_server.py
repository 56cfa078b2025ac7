"""A small registry (loopback): manifests by tag and digest, with or without a token or a password."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Store:
    """What the registry has: manifests by `repository:tag` and `repository@digest`, blobs by digest."""

    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def put_image(
        self, name: str, tag: str, *, system: str = "linux", architecture: str = "amd64", note: str = ""
    ) -> str:
        """An image of one platform; its digest."""
        config = json.dumps({"os": system, "architecture": architecture, "note": note}).encode()
        self.blobs[digest(config)] = config
        entry = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config), "digest": digest(config)}
        return self.put(name, tag, MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, "config": entry, "layers": []})

    def put_index(self, name: str, tag: str, entries: list[dict[str, Any]], **more: Any) -> str:
        """An index; its digest. OCI's need not say what they are."""
        return self.put(name, tag, INDEX, {"schemaVersion": 2, "manifests": entries, **more})

    def put(self, name: str, tag: str, kind: str, body: dict[str, Any]) -> str:
        data = json.dumps(body).encode()
        self.manifests[f"{name}:{tag}"] = self.manifests[f"{name}@{digest(data)}"] = (kind, data)
        return digest(data)


class Registry(ThreadingHTTPServer):
    """The listening registry. `login`: "user:password" that it wants by HTTP Basic; `token`: what it gives everybody
    and then wants."""

    daemon_threads = True

    def __init__(self, store: Store, login: str = "", token: str = "") -> None:
        self.store, self.login, self.token, self.asked = store, login, token, list[str]()
        self.status = 0
        """what to answer in place of everything"""
        self.digest_header: str | None = None
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        wanted = base64.b64encode(self.server.login.encode()).decode()
        if self.server.status:
            self._send(self.server.status, b"", {})
        elif self.server.login and self.headers.get("Authorization") != f"Basic {wanted}":
            self._send(401, b"{}", {"WWW-Authenticate": 'Basic realm="registry"'})
        elif self.path.startswith("/token?"):
            self._send(200, json.dumps({"token": self.server.token}).encode(), {})
        elif self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            scope = self.path.removeprefix("/v2/").partition("/manifests/")[0]
            realm = f'Bearer realm="https://{self.server.address}/token",service="registry"'
            self._send(401, b"{}", {"WWW-Authenticate": f'{realm},scope="repository:{scope}:pull"'})
        elif "/manifests/" in self.path:
            name, _, version = self.path.removeprefix("/v2/").partition("/manifests/")
            self._manifest(f"{name}@{version}" if version.startswith("sha256:") else f"{name}:{version}")
        else:
            self._blob(self.path.rpartition("/")[2])

    def _manifest(self, name: str) -> None:
        if name not in self.server.store.manifests:
            self._send(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', {})
            return
        kind, data = self.server.store.manifests[name]
        told = self.server.digest_header or digest(data)
        self._send(200, data, {"Content-Type": kind, "Docker-Content-Digest": told})

    def _blob(self, name: str) -> None:
        data = self.server.store.blobs.get(name)
        self._send(404 if data is None else 200, data or b"", {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return
