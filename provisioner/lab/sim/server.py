"""HTTP: routes, API key, streaming, and the faults that need a process to die."""

from __future__ import annotations

import hmac
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import VERSION, protocol
from .engine import Engine
from .protocol import RequestError, Rules


class Server(ThreadingHTTPServer):
    """The listening server; `die` makes the first generation kill the process."""

    daemon_threads = True
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], engine: Engine, rules: Rules, keys: list[str], *, die: bool) -> None:
        self.engine, self.rules, self.keys, self.die = engine, rules, keys, die
        self.started = int(time.time())
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if self._refused(path):
            return
        if path in {"/health", "/ping"}:
            self._send(200, b"", "text/plain")
        elif path == "/version":
            self._json(200, {"version": VERSION})
        elif path == "/v1/models":
            self._json(200, {"object": "list", "data": [self._card(name) for name in self.server.rules.names]})
        elif path == "/metrics":
            self._send(200, self.server.engine.metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/load":
            self._json(200, {"server_load": 0})
        else:
            self._json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        if self._refused(path):
            return
        if path == "/ping":
            self._send(200, b"", "text/plain")
        elif path in {"/v1/chat/completions", "/v1/completions"}:
            self._generate(body, chat="chat" in path)
        else:
            self._json(404, {"detail": "Not Found"})

    def _generate(self, raw: bytes, *, chat: bool) -> None:
        if self.server.die:
            self._die()
        try:
            body = json.loads(raw)
            gen = protocol.plan(body, chat=chat, rules=self.server.rules)
        except json.JSONDecodeError as error:
            self._json(400, RequestError(400, "BadRequestError", f"JSON decode error: {error}").body)
            return
        except RequestError as error:
            self._json(error.status, error.body)
            return
        engine = self.server.engine
        with engine.slot() as asked:
            moments = engine.tokens(asked, gen.prompt_tokens, gen.answer.tokens)
            if gen.stream:
                self._stream(protocol.chunks(gen, moments))
            else:
                for _ in moments:
                    pass
                self._json(200, protocol.response(gen))
        engine.count_success(gen.answer.finish_reason)

    def _stream(self, chunks: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self._event(json.dumps(chunk))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _refused(self, path: str) -> bool:
        """vLLM's key guards /v1 alone."""
        if not self.server.keys or not path.startswith("/v1"):
            return False
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if any(hmac.compare_digest(given, key.encode()) for key in self.server.keys):
            return False
        self._json(401, {"error": "Unauthorized"})
        return True

    def _die(self) -> None:
        self._json(500, RequestError(500, "InternalServerError", "EngineCore encountered an issue.").body)
        log("ERROR", "EngineCore died. SIM_FAULT=die-on-first-request")
        log("ERROR", "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.")
        os._exit(1)

    def _card(self, name: str) -> dict[str, Any]:
        rules = self.server.rules
        return {
            "id": name, "object": "model", "created": self.server.started, "owned_by": "vllm", "root": rules.model,
            "parent": None, "max_model_len": rules.context, "permission": [],
        }  # fmt: skip

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):  # the client went away: its business
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        host, port = self.client_address[:2]
        words = f"(APIServer pid={os.getpid()}) INFO:     {host}:{port} - {format % args}"
        sys.stdout.write(words + "\n")
        sys.stdout.flush()


_LOG_LOCK = threading.Lock()


def log(level: str, message: str, who: str = "APIServer") -> None:
    """One line in vLLM's log style."""
    with _LOG_LOCK:
        stamp = time.strftime("%m-%d %H:%M:%S")
        sys.stdout.write(f"({who} pid={os.getpid()}) {level} {stamp} [provision_sim] {message}\n")
        sys.stdout.flush()
