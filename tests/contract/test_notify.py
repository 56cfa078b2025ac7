"""Notifications to real programs of this machine: a web server on loopback, commands, and a stand-in for sendmail."""

from __future__ import annotations

import email
import email.policy
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from provisioner.fleet.notify import Notify
from provisioner.rollout.notify import Notifier

SECRET = "xoxb-very-secret"


class Hook(ThreadingHTTPServer):
    """Keeps what it was sent; answers `/fail` with 500, `/move` with a redirect, `/hang` not at all."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, Any]] = []
        self.ended = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.server.got.append((self.path, json.loads(body)))
        if self.path == "/hang":
            self.server.ended.wait(30)
        status = {"/fail": 500, "/move": 307}.get(self.path, 200)
        self.send_response(status)
        if status == 307:
            self.send_header("Location", self.server.url("/elsewhere"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.ended.set()
    server.shutdown()
    server.server_close()
    thread.join()


class Told:
    """A notifier and its warnings."""

    def __init__(self, *rules: dict[str, Any], environment: dict[str, str] | None = None) -> None:
        self.warnings: list[str] = []
        self.notifier = Notifier(
            [Notify(**{"on": ("failed",), "timeout_s": 5, **rule}) for rule in rules],
            fleet="sim",
            run="20261124T150000Z-abc123",
            warn=self.warnings.append,
            environment=environment or {},
            secrets=[SECRET],
        )


def test_a_webhook_gets_everything(hook: Hook) -> None:
    told = Told({"webhook": hook.url("/a")})
    told.notifier.tell("failed", f"gpu-02 failed: token {SECRET}", hosts={"gpu-02": f"log: {SECRET}"}, exit_code=1)
    ((path, document),) = hook.got
    assert path == "/a"
    assert {key: document[key] for key in ("event", "text", "fleet", "run", "hosts", "exit_code")} == {
        "event": "failed",
        "text": "gpu-02 failed: token [redacted]",
        "fleet": "sim",
        "run": "20261124T150000Z-abc123",
        "hosts": {"gpu-02": "log: [redacted]"},
        "exit_code": 1,
    }
    assert {"time", "user", "machine"} < document.keys()
    assert told.warnings == []


def test_slack_gets_a_text_at_an_address_from_a_secret(hook: Hook) -> None:
    told = Told({"webhook": "env:SLACK_URL", "format": "slack"}, environment={"SLACK_URL": hook.url("/T0/B0")})
    told.notifier.tell("failed", "gpu-02 failed")
    assert hook.got == [("/T0/B0", {"text": "gpu-02 failed"})]


def test_slack_is_called_by_nobody_whom_an_error_names(hook: Hook) -> None:
    told = Told({"webhook": hook.url("/a"), "format": "slack"})
    told.notifier.tell("failed", "slo: p95 <= 1 & <!channel>")
    assert hook.got == [("/a", {"text": "slo: p95 &lt;= 1 &amp; &lt;!channel&gt;"})]


def test_something_that_is_no_web_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        told = Told({"webhook": f"http://127.0.0.1:{server.getsockname()[1]}/"})
        told.notifier.tell("failed", "x")
        thread.join()
    assert told.warnings == [
        r"warning: notify[0] (webhook): it does not answer as a web server does: 'SSH-2.0-OpenSSH_9.9\r\n'"
    ]


def test_only_what_was_asked_for(hook: Hook) -> None:
    told = Told({"webhook": hook.url("/a"), "on": ("started", "finished")}, {"webhook": hook.url("/b")})
    for moment in ("started", "wave", "failed", "rolled_back", "finished"):
        told.notifier.tell(moment, moment)  # type: ignore[arg-type]
    assert [(path, document["event"]) for path, document in hook.got] == [
        ("/a", "started"),
        ("/b", "failed"),
        ("/a", "finished"),
    ]


@pytest.mark.parametrize(
    ("path", "warning"),
    [
        ("/fail", "it answered HTTP 500 Internal Server Error"),
        ("/move", "it answered HTTP 307 Temporary Redirect"),
    ],
)
def test_a_webhook_that_fails(hook: Hook, path: str, warning: str) -> None:
    told = Told({"webhook": hook.url(path)})
    told.notifier.tell("failed", "x")
    assert told.warnings == [f"warning: notify[0] (webhook): {warning}"]
    assert [one for one, _ in hook.got] == [path]


def test_nobody_listens() -> None:
    told = Told({"webhook": "http://127.0.0.1:9/T0/secret-path"})
    told.notifier.tell("failed", "x")
    (warning,) = told.warnings
    assert warning.startswith("warning: notify[0] (webhook): it cannot be reached: ")
    assert "secret-path" not in warning


def test_what_hangs_is_left_after_its_time(hook: Hook) -> None:
    script = "import time; time.sleep(60)"
    told = Told(
        {"webhook": hook.url("/hang"), "timeout_s": 0.3}, {"command": (sys.executable, "-c", script), "timeout_s": 0.3}
    )
    began = time.monotonic()
    told.notifier.tell("failed", "x")
    assert time.monotonic() - began < 5
    assert len(told.warnings) == 2
    assert "warning: notify[1] (command): did not end within 0.3 s" in told.warnings


def test_a_command_gets_json_on_its_standard_input(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    told = Told({"command": ("/bin/sh", "-c", 'cat > "$0"', str(kept))})
    told.notifier.tell("failed", "x", wave="canary")
    document = json.loads(kept.read_text())
    assert (document["event"], document["wave"]) == ("failed", "canary")


@pytest.mark.parametrize(
    ("command", "warning"),
    [
        (("/bin/sh", "-c", "echo first >&2; echo last words >&2; exit 3"), "/bin/sh failed (rc 3): last words"),
        (("/bin/sh", "-c", f"echo {SECRET} >&2; exit 1"), "/bin/sh failed (rc 1): [redacted]"),
        (("/bin/false",), "/bin/false failed (rc 1): it said nothing"),
        (("/no/such/program",), "[Errno 2] No such file or directory: '/no/such/program'"),
    ],
)
def test_a_command_that_fails(command: tuple[str, ...], warning: str) -> None:
    told = Told({"command": command})
    told.notifier.tell("failed", "x" * 100_000)  # more than a pipe holds, for one that does not read
    assert told.warnings == [f"warning: notify[0] (command): {warning}"]


@pytest.fixture
def sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for an MTA's sendmail: keeps its arguments and the mail."""
    program = tmp_path / "bin" / "sendmail"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/argv\ncat > {tmp_path}/mail\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


def test_a_mail(sendmail: Path) -> None:
    told = Told({"email": ("ops@example.com", "root")})
    told.notifier.tell("failed", "gpu-02 failed\nBcc: everybody@example.com", hosts=["gpu-02"])
    assert (sendmail / "argv").read_text().split() == ["-i", "--", "ops@example.com", "root"]
    mail = email.message_from_bytes((sendmail / "mail").read_bytes(), policy=email.policy.default)
    assert (mail["To"], mail["Subject"]) == ("ops@example.com, root", "provision: sim: gpu-02 failed")
    assert mail["Bcc"] is None
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().startswith("gpu-02 failed\nBcc: everybody@example.com\n\n{\n")
    assert told.warnings == []


def test_without_an_mta(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("provisioner.rollout.notify.SENDMAIL", ())
    told = Told({"email": ("root",)})
    told.notifier.tell("failed", "x")
    expected = "warning: notify[0] (email): this machine has no sendmail: install an MTA (postfix, msmtp-mta …)"
    assert told.warnings == [expected]


@pytest.mark.parametrize(
    ("environment", "warning"),
    [
        ({}, "the secret env:HOOK is not set"),
        ({"HOOK": "ftp://x.example.com"}, "env: holds no address that starts with https://"),
    ],
)
def test_an_address_that_cannot_be_had(environment: dict[str, str], warning: str) -> None:
    told = Told({"webhook": "env:HOOK"}, environment=environment)
    told.notifier.tell("failed", "x")
    assert told.warnings == [f"warning: notify[0] (webhook): {warning}"]
