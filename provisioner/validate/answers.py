"""Real requests to a server: what it serves, one plain and one streamed chat, and whether its API key is asked for."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable
from typing import Any

from provisioner.errors import GateError
from provisioner.fleet.base import Frozen
from provisioner.history.redact import redact
from provisioner.history.verdict import CheckResult
from provisioner.hosts.transport import Transport
from provisioner.plan.model import Server
from provisioner.validate import judge
from provisioner.validate.api import Answer, BadStatus, describe, request, stream
from provisioner.validate.remote import last_log

QUESTION = "Say hello, and tell in one sentence what a GPU is for."
MAX_TOKENS = 64
ANSWER_TIMEOUT_S = 300.0
"""how long a server may be silent; the first request of a fresh server compiles kernels"""
SHOWN = 2000
"""characters of an answer that a failed check keeps"""
CHAT = "/v1/chat/completions"
MODELS = "/v1/models"

Report = Callable[[str], None]
Body = dict[str, Any]
Judge = Callable[[Answer], tuple[bool, str]]


class BrokenServerError(GateError):
    """A server that was healthy died or failed on a request. `log` holds its last lines."""

    def __init__(self, message: str, *, log: str) -> None:
        super().__init__(message, hint="the last lines of the server's log say why")
        self.log = log


class Answers(Frozen):
    """What a server answered. `chat` is the text of the plain chat: its content, or its reasoning where the answer
    ended before there was any content."""

    checks: tuple[CheckResult, ...]
    chat: str | None
    version: str | None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def check_answers(
    transport: Transport,
    server: Server,
    *,
    api_key: str | None = None,
    secrets: Iterable[str] = (),
    on_progress: Report = lambda _text: None,
) -> Answers:
    """Every check, in order. A failed check is in the result; BrokenServerError when the
    server dies or breaks while it is asked, as nothing after that would mean anything."""
    asking = _Asking(transport, server, api_key, (*secrets, *([api_key] if api_key else [])))
    on_progress("models")
    checks = [asking.check("models", MODELS, None, lambda answer: judge.models(answer, server.served_model_name))]
    if api_key is not None:
        on_progress("API key")
        checks.append(asking.check("API key", MODELS, None, judge.refused, send_key=False))
    on_progress("plain chat")
    body = _chat_body(server)
    checks.append(asking.check("plain chat", CHAT, body, lambda answer: judge.chat(answer, server.reasoning)))
    on_progress("streamed chat")
    checks.append(asking.check_stream("streamed chat", CHAT, {**body, "stream": True}))
    return Answers(checks=tuple(checks), chat=asking.chat_text, version=asking.version())


class _Asking:
    """The requests to one server, with what all of them need."""

    def __init__(self, transport: Transport, server: Server, api_key: str | None, secrets: tuple[str, ...]) -> None:
        self._transport = transport
        self._server = server
        self._api_key = api_key
        self._secrets = secrets
        self.chat_text: str | None = None

    def check(self, name: str, path: str, body: Body | None, judged: Judge, *, send_key: bool = True) -> CheckResult:
        start = time.monotonic()
        answer = self._request(name, path, body, send_key)
        passed, detail = judged(answer)
        if path == CHAT and passed:
            self.chat_text = redact(judge.text_of(judge.message_of(answer)).strip(), self._secrets)
        return self._result(name, path, body, passed, detail, start, f"HTTP {answer.status} {answer.text}")

    def check_stream(self, name: str, path: str, body: Body) -> CheckResult:
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
            return self._result(name, path, body, False, str(error), start, str(error))
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(name, path, body, _words(error), start) from error
        passed, detail = judge.streamed(lines, self._server.reasoning)
        return self._result(name, path, body, passed, detail, start, "\n".join(lines))

    def version(self) -> str | None:
        """vLLM's version as the server tells it; None when it does not say: stand-ins need not."""
        answer = self._request("version", "/version", None, send_key=True)
        data = judge.json_of(answer) if answer.status == 200 else None
        version = data.get("version") if isinstance(data, dict) else None
        return version if isinstance(version, str) else None

    def _request(self, name: str, path: str, body: Body | None, send_key: bool) -> Answer:
        start = time.monotonic()
        key = self._api_key if send_key else None
        try:
            answer = request(self._transport, self._server, path, body=body, api_key=key, timeout_s=ANSWER_TIMEOUT_S)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(name, path, body, _words(error), start) from error
        if answer.status >= 500:
            raise self._broken(name, path, body, f"HTTP {answer.status} {answer.text}", start)
        return answer

    def _result(
        self,
        name: str,
        path: str,
        body: Body | None,
        passed: bool,
        detail: str,
        start: float,
        answer: str,
    ) -> CheckResult:
        return CheckResult(
            name=name,
            passed=passed,
            detail=redact(detail, self._secrets),
            seconds=round(time.monotonic() - start, 3),
            request=describe(self._server, path, body),
            answer=redact(answer, self._secrets)[:SHOWN],
            log="" if passed else last_log(self._transport, self._server.unit, self._secrets),
        )

    def _broken(self, name: str, path: str, body: Body | None, words: str, start: float) -> BrokenServerError:
        seconds = time.monotonic() - start
        return BrokenServerError(
            f"{self._server.unit} was healthy but broke on a request ({name}, after {seconds:.1f} s):"
            f" {redact(words, self._secrets)[:SHOWN]} (request: {describe(self._server, path, body)})",
            log=last_log(self._transport, self._server.unit, self._secrets),
        )


def _chat_body(server: Server) -> Body:
    return {
        "model": server.served_model_name,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
