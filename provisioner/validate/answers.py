"""Real requests to a server: does it serve what was planned, and does it do what its arguments promise?

What is asked follows from the server: its API key, its parsers, whether it keeps statistics. Every request goes through
the SSH connection, so that a server on its host's loopback is asked as a client on that host would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from provisioner.fleet.base import Frozen
from provisioner.history.verdict import CheckResult
from provisioner.hosts.transport import Transport
from provisioner.plan.model import Server
from provisioner.validate import judge
from provisioner.validate.asking import Asking, Exchange

QUESTION = "Say hello, and tell in one sentence what a GPU is for."
CHAT_TOKENS = 64
THINKING_TOKENS = 1024
"""for a server that splits its thinking off: enough to come to an end with it"""
CUT_TOKENS = 8
FUNCTION, PARAMETER, CITY = "get_weather", "city", "Paris"
TOOL_QUESTION = f"What is the weather in {CITY} right now? Call the tool, do not guess."
TOOL = {
    "type": "function",
    "function": {
        "name": FUNCTION,
        "description": "The weather in a city at this moment.",
        "parameters": {
            "type": "object",
            "properties": {PARAMETER: {"type": "string", "enum": [CITY, "Tokyo"]}},
            "required": [PARAMETER],
            "additionalProperties": False,
        },
    },
}
TOO_LONG_EXTRA = 16
"""words beyond the longest prompt; a word is a token at least"""
TOO_LONG_MOST = 4_000_000
"""tokens from which on a prompt that is too long is not made: it is sent through SSH"""
WRONG_KEY = "provision-wrong-key"
CHAT = "/v1/chat/completions"
MODELS = "/v1/models"

Report = Callable[[str], None]
Checks = Iterator[CheckResult]


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
    course = _Course(Asking(transport, server, api_key, (*secrets, *([api_key] if api_key else []))), server)
    steps: list[tuple[str, Callable[[], Checks]]] = [("served name", course.served_name)]
    if api_key is not None:
        steps.append(("API key", course.api_key))
    steps += [("plain chat", course.plain_chat), ("streamed chat", course.streamed_chat)]
    steps.append(("max_tokens", course.max_tokens))
    if server.tool_call_parser is not None:
        steps += [("tool call", course.tool_call), ("streamed tool call", course.streamed_tool_call)]
    steps += [("too long a prompt", course.too_long), ("metrics", course.metrics)]
    checks: list[CheckResult] = []
    for name, step in steps:
        on_progress(name)
        checks += step()
    return Answers(checks=tuple(checks), chat=course.chat_text, version=course.version())


class _Course:
    """The checks of one server, in the order in which they are made."""

    def __init__(self, asking: Asking, server: Server) -> None:
        self._asking = asking
        self._server = server
        self._context: int | None = None
        self.chat_text: str | None = None

    def served_name(self) -> Checks:
        name, served = "served name", self._server.served_model_name
        exchange = self._asking.ask(name, MODELS)
        self._context = judge.context_of(exchange.answer, served)
        yield self._asking.result(name, exchange, judge.models(exchange.answer, served))

    def api_key(self) -> Checks:
        """It is asked for, and not any key will do."""
        for name, key, sent in (("API key", None, "without it"), ("wrong API key", WRONG_KEY, "with it")):
            exchange = self._asking.ask(name, MODELS, key=key)
            yield self._asking.result(name, exchange, judge.refused(exchange.answer, sent))

    def plain_chat(self) -> Checks:
        body = self._chat_body(QUESTION)
        exchange = self._asking.ask("plain chat", CHAT, body)
        judged = judge.chat(exchange.answer)
        message = judge.message_of(exchange.answer)
        if judged[0]:
            self.chat_text = self._asking.redact(judge.text_of(message).strip())
        yield self._asking.result("plain chat", exchange, judged)
        if exchange.answer.status == 200:
            yield from self._more("", exchange, message, judge.usage_of(exchange.answer), body["max_tokens"])

    def streamed_chat(self) -> Checks:
        body = {**self._chat_body(QUESTION), "stream": True, "stream_options": {"include_usage": True}}
        exchange = self._asking.ask_stream("streamed chat", CHAT, body)
        if exchange.answer.status != 200:
            words = f"HTTP {exchange.answer.status}: {exchange.answer.text[:300]}"
            yield self._asking.result("streamed chat", exchange, (False, words))
            return
        read = judge.Stream(list(exchange.lines))
        yield self._asking.result("streamed chat", exchange, read.judged())
        if not read.problem:
            yield from self._more("streamed ", exchange, read.message, read.usage, body["max_tokens"])

    def max_tokens(self) -> Checks:
        """An answer that may not end by itself has exactly as many tokens as were asked for."""
        body = self._body(QUESTION, CUT_TOKENS) | {"ignore_eos": True}
        exchange = self._asking.ask("max_tokens", CHAT, body)
        yield self._asking.result("max_tokens", exchange, judge.full_length(exchange.answer, CUT_TOKENS))

    def tool_call(self) -> Checks:
        """The model is left to decide: a call that it is made to make never sees the parser."""
        exchange = self._asking.ask("tool call", CHAT, self._tool_body())
        called, detail = judge.tool_call(exchange.answer, FUNCTION, PARAMETER)
        words = f"{detail}, read by {self._server.tool_call_parser}" if called else detail
        yield self._asking.result("tool call", exchange, (called, words))

    def streamed_tool_call(self) -> Checks:
        """Parsers read streams by other code, piece by piece."""
        name = "streamed tool call"
        exchange = self._asking.ask_stream(name, CHAT, {**self._tool_body(), "stream": True})
        if exchange.answer.status != 200:
            words = f"HTTP {exchange.answer.status}: {judge.error_of(exchange.answer)}"
            yield self._asking.result(name, exchange, (False, words))
            return
        read = judge.Stream(list(exchange.lines))
        if read.problem:
            yield self._asking.result(name, exchange, (False, read.problem))
            return
        called, detail = judge.called(read.message, read.finish, FUNCTION, PARAMETER)
        words = f"{detail}, in {read.call_chunks} chunks" if called else detail
        yield self._asking.result(name, exchange, (called, words))

    def too_long(self) -> Checks:
        name = "too long a prompt"
        if self._context is None or self._context > TOO_LONG_MOST:
            told = "does not say how long a prompt may be" if self._context is None else f"takes {self._context} tokens"
            yield CheckResult(
                name=name, passed=True, skipped=True, detail=f"{MODELS} {told}: none was sent", seconds=0.0
            )
            return
        words = self._context + TOO_LONG_EXTRA
        exchange = self._asking.ask(name, CHAT, self._body("a " * words, 1))
        yield self._asking.result(name, exchange, judge.too_long(exchange.answer, words))

    def metrics(self) -> Checks:
        name, path = "metrics", "/metrics"
        if not self._server.log_stats:
            detail = "the server keeps no statistics (--disable-log-stats)"
            yield CheckResult(name=name, passed=True, skipped=True, detail=detail, seconds=0.0)
            return
        exchange = self._asking.ask(name, path)
        yield self._asking.result(name, exchange, judge.metrics(exchange.answer))

    def version(self) -> str | None:
        """vLLM's version as the server tells it; None when it does not say: stand-ins need not."""
        answer = self._asking.ask("version", "/version").answer
        data = judge.json_of(answer) if answer.status == 200 else None
        version = data.get("version") if isinstance(data, dict) else None
        return version if isinstance(version, str) else None

    def _more(self, kind: str, exchange: Exchange, message: dict[str, Any], counts: Any, limit: int) -> Checks:
        """What else a chat answer shows: its token counts and where its thinking is."""
        yield self._asking.result(f"{kind}usage", exchange, judge.usage(counts, limit))
        if self._server.reasoning:
            yield self._asking.result(f"{kind}reasoning", exchange, judge.reasoning(message))

    def _tool_body(self) -> dict[str, Any]:
        return self._body(TOOL_QUESTION, self._room(THINKING_TOKENS)) | {"tools": [TOOL], "tool_choice": "auto"}

    def _chat_body(self, question: str) -> dict[str, Any]:
        if not self._server.reasoning:
            return self._body(question, self._room(CHAT_TOKENS))
        # Templates call the switch one or the other; those that know none ignore both.
        thinking = {"enable_thinking": True, "thinking": True}
        return self._body(question, self._room(THINKING_TOKENS)) | {"chat_template_kwargs": thinking}

    def _body(self, question: str, limit: int) -> dict[str, Any]:
        return {
            "model": self._server.served_model_name,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": limit,
            "temperature": 0,
        }

    def _room(self, tokens: int) -> int:
        """Half of what the server takes at most: the question needs some, too."""
        return tokens if self._context is None else max(1, min(tokens, self._context // 2))
