"""A Docker engine (a Unix socket), its command line and systemd's, as far as the role vllm_image sees them.

What the engine has is a JSON file, which both the socket and the stand-in for `docker` work on.
"""

from __future__ import annotations

import http.server
import io
import json
import socketserver
import tarfile
import threading
import urllib.parse
from pathlib import Path
from typing import Any, Self

DOCKER = r"""#!/usr/bin/env python3
import base64, json, os, sys, tarfile
place = os.environ["FAKE_ENGINE"]
state = json.load(open(place))
words = sys.argv[1:]
state["commands"].append(words)
def give(name, image):
    state["images"].setdefault(image["id"], {"tags": [], "arch": image["arch"]})["tags"].append(name)
def end(code=0):
    json.dump(state, open(place, "w"))
    sys.exit(code)
if words[0] == "pull":
    name = words[-1]
    image = state["registry"].get(name)
    given = ""
    if "DOCKER_CONFIG" in os.environ:
        config = json.load(open(os.path.join(os.environ["DOCKER_CONFIG"], "config.json")))
        auth = config["auths"].get(name.split("/")[0], {}).get("auth", "")
        given = base64.b64decode(auth).decode()
    if image is None:
        print("Error response from daemon: manifest for %s not found: manifest unknown" % name)
        end(1)
    if image.get("login", "") != given:
        print("Error response from daemon: unauthorized: authentication required")
        end(1)
    if image.get("broken"):
        image["broken"] -= 1
        print("Error response from daemon: connection reset by peer")
        end(1)
    print("v1: Pulling from %s\n0123456789ab: Pulling fs layer\n0123456789ab: Pull complete" % name)
    give(name, image)
elif words[0] == "buildx":
    print("#1 [internal] load build definition")
    if not os.path.isfile(words[words.index("--file") + 1]):
        print("ERROR: failed to read dockerfile")
        end(1)
    name, arch = words[words.index("--tag") + 1], words[words.index("--platform") + 1].split("/")[1]
    give(name, {"id": "sha256:" + name, "arch": arch})
elif words[0] == "load":
    archive = tarfile.open(words[words.index("--input") + 1]) if "--input" in words else tarfile.open(
        fileobj=sys.stdin.buffer, mode="r|")
    found = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
    for entry in json.loads(found["manifest.json"]):
        for name in entry["RepoTags"]:
            give(name, {"id": "sha256:" + name, "arch": json.loads(found[entry["Config"]])["architecture"]})
            print("Loaded image: " + name)
end()
"""

SYSTEMD_RUN = r"""#!/bin/bash
for word; do
    case $word in
        --unit=*) unit=${word#*=} ;;
        --property=StandardInput=file:*) input=${word#*file:} ;;
        --property=RuntimeDirectory=*) folder=$FAKE_UNITS/run/${word##*=} ;;
    esac
done
while [ "$1" != -- ]; do shift; done
shift
mkdir -p -m 0700 "$folder"
exec 9< "$input"
{ RUNTIME_DIRECTORY=$folder "$@" <&9; rm -rf "$folder" "$FAKE_UNITS/$unit.pid"; } > /dev/null 2>&1 &
echo $! > "$FAKE_UNITS/$unit.pid"
"""

SYSTEMCTL = r"""#!/bin/sh
for word; do unit=${word%.service}; done
[ -e "$FAKE_UNITS/$unit.pid" ] && echo active || echo inactive
"""


def archive_of(name: str, arch: str) -> bytes:
    """What `docker save` writes for an image without layers."""
    config = json.dumps({"architecture": arch, "os": "linux"}).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": []}]).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for member, content in (("config.json", config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Engine:
    """The engine and a folder of programs. A context: the socket is there while it lasts."""

    def __init__(self, folder: Path) -> None:
        self.place, self.socket, self.programs = folder / "engine.json", folder / "docker.sock", folder / "bin"
        self.units = folder / "units"
        for made in (self.programs, self.units):
            made.mkdir()
        for name, text in (("docker", DOCKER), ("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        self.write({"images": {}, "registry": {}, "commands": [], "used": []})
        self._server = _Server(str(self.socket), _Handler)
        self._server.engine = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def state(self) -> dict[str, Any]:
        """images: {id: {tags, arch}}; registry: {name: {id, arch, login, broken}}; commands; used: names in use."""
        state: dict[str, Any] = json.loads(self.place.read_text())
        return state

    def write(self, state: dict[str, Any]) -> None:
        self.place.write_text(json.dumps(state))

    def offer(self, name: str, arch: str = "amd64", **more: Any) -> None:
        """What the registry has."""
        self.write({**self.state, "registry": {**self.state["registry"], name: _image(name, arch) | more}})

    def have(self, name: str, arch: str = "amd64") -> None:
        """An image that somebody else brought."""
        image = {"tags": [name], "arch": arch}
        self.write({**self.state, "images": {**self.state["images"], f"sha256:{name}": image}})

    def use(self, *names: str) -> None:
        """Containers of somebody else."""
        self.write({**self.state, "used": list(names)})

    @property
    def tags(self) -> list[str]:
        return sorted(tag for image in self.state["images"].values() for tag in image["tags"])


def _image(name: str, arch: str) -> dict[str, Any]:
    return {"id": f"sha256:{name}", "arch": arch}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    engine: Engine


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        state, (path, _) = self.server.engine.state, self._asked()
        if path == "/version":
            self._answer(200, {"ApiVersion": "1.45", "MinAPIVersion": "1.24"})
        elif path == "/info":
            root = str(self.server.engine.place.parent)
            self._answer(200, {"DockerRootDir": root, "OSType": "linux", "RegistryConfig": {"Mirrors": []}})
        elif path == "/images/json":
            self._answer(200, [_told(name, image) for name, image in state["images"].items()])
        else:
            name = path.removeprefix("/images/").removesuffix("/json")
            found = state["images"].get(name)
            self._answer(200, _told(name, found)) if found else self._answer(404, {"message": "No such image"})

    def do_POST(self) -> None:
        state, (path, query) = self.server.engine.state, self._asked()
        name = f"{query['repo'][0]}:{query['tag'][0]}"
        for image in state["images"].values():
            image["tags"] = [tag for tag in image["tags"] if tag != name]
        state["images"][path.removeprefix("/images/").removesuffix("/tag")]["tags"].append(name)
        self.server.engine.write(state)
        self._answer(201, None)

    def do_DELETE(self) -> None:
        state, (path, _) = self.server.engine.state, self._asked()
        name = path.removeprefix("/images/")
        if name in state["used"]:
            self._answer(409, {"message": f"conflict: a container is using {name}"})
            return
        for image in state["images"].values():
            image["tags"] = [tag for tag in image["tags"] if tag != name]
        state["images"] = {key: image for key, image in state["images"].items() if image["tags"]}
        self.server.engine.write(state)
        self._answer(200, [{"Untagged": name}])

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def address_string(self) -> str:
        return "socket"

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        asked = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(asked.path)
        return path.removeprefix("/v1.45"), urllib.parse.parse_qs(asked.query)

    def _answer(self, status: int, body: Any) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _told(name: str, image: dict[str, Any]) -> dict[str, Any]:
    return {"Id": name, "RepoTags": image["tags"], "RepoDigests": [], "Architecture": image["arch"], "Os": "linux"}
