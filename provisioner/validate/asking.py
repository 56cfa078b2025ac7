"""Requests to one server, each with its answer and what it took; a server that dies of one is told at once."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provisioner.errors import GateError
from provisioner.history.redact import redact
from provisioner.history.verdict import CheckResult
from provisioner.hosts.transport import Transport
from provisioner.plan.model import Server
from provisioner.validate.api import Answer, BadStatus, describe, request, stream
from provisioner.validate.judge import Judgement
from provisioner.validate.remote import last_log

ANSWER_TIMEOUT_S = 300.0
"""how long a server may be silent; the first request of a fresh server compiles kernels"""
SHOWN = 2000
"""characters of a request and of an answer that a check keeps"""

Body = Mapping[str, Any]


class BrokenServerError(GateError):
    """A server that was healthy died or failed on a request. `log` holds its last lines."""

    def __init__(self, message: str, *, log: str) -> None:
        super().__init__(message, hint="the last lines of the server's log say why")
        self.log = log


@dataclass(frozen=True)
class Exchange:
    """One request with its answer; of a streamed one also the lines."""

    path: str
    body: Body | None
    answer: Answer
    seconds: float
    lines: tuple[str, ...] = ()


class Asking:
    """The requests to one server, with what all of them need."""

    def __init__(self, transport: Transport, server: Server, api_key: str | None, secrets: tuple[str, ...]) -> None:
        self._transport = transport
        self._server = server
        self._api_key = api_key
        self._secrets = secrets

    def ask(self, name: str, path: str, body: Body | None = None, *, key: str | None = "") -> Exchange:
        """`name` is the check that needs it. `key`: another one than the server's, or None for no key.
        BrokenServerError when the server dies of it, or answers with an error of its own (5xx)."""
        start = time.monotonic()
        sent = self._api_key if key == "" else key
        try:
            answer = request(self._transport, self._server, path, body=body, api_key=sent, timeout_s=ANSWER_TIMEOUT_S)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(name, path, body, _words(error), start) from error
        if answer.status >= 500:
            raise self._broken(name, path, body, f"HTTP {answer.status} {answer.text}", start)
        return Exchange(path, body, answer, time.monotonic() - start)

    def ask_stream(self, name: str, path: str, body: Body) -> Exchange:
        """A streamed answer, up to its [DONE]. Raises as `ask` does."""
        start = time.monotonic()
        lines: list[str] = []
        try:
            for line in stream(
                self._transport, self._server, path, body=body, api_key=self._api_key, timeout_s=ANSWER_TIMEOUT_S
            ):
                lines.append(line)
                if line == "data: [DONE]":
                    break
        except BadStatus as error:
            if error.answer.status >= 500:
                raise self._broken(name, path, body, str(error), start) from error
            return Exchange(path, body, error.answer, time.monotonic() - start)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(name, path, body, _words(error), start) from error
        answer = Answer(status=200, text="\n".join(lines))
        return Exchange(path, body, answer, time.monotonic() - start, tuple(lines))

    def result(self, name: str, exchange: Exchange, judged: Judgement, *, skipped: bool = False) -> CheckResult:
        """The check's result; a failed one has the server's last words, too."""
        passed, detail = judged
        answer = f"HTTP {exchange.answer.status} {exchange.answer.text}"
        return CheckResult(
            name=name,
            passed=passed,
            skipped=skipped,
            detail=self.redact(detail),
            seconds=round(exchange.seconds, 3),
            request=_short(self.redact(describe(self._server, exchange.path, exchange.body))),
            answer=_short(self.redact(answer)),
            log="" if passed else last_log(self._transport, self._server.unit, self._secrets),
        )

    def redact(self, text: str) -> str:
        """A text without secrets."""
        return redact(text, self._secrets)

    def _broken(self, name: str, path: str, body: Body | None, words: str, start: float) -> BrokenServerError:
        seconds = time.monotonic() - start
        return BrokenServerError(
            f"{self._server.unit} was healthy but broke on a request ({name}, after {seconds:.1f} s):"
            f" {_short(self.redact(words))} (request: {_short(describe(self._server, path, body))})",
            log=last_log(self._transport, self._server.unit, self._secrets),
        )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
