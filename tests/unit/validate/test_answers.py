from __future__ import annotations

import json
from typing import Any

import pytest

from provisioner.validate.answers import Answers, BrokenServerError, check_answers

from .fakes import CHAT, CHUNKS, FakeHost, Handler, http, server, sse, well

KEY = "sk-planted-key"


def ask(handler: Handler, *, api_key: str | None = None, **changes: Any) -> Answers:
    host = FakeHost({"journalctl": f"EngineDeadError {KEY}"}, handler)
    return check_answers(host, server(**changes), api_key=api_key, secrets=[KEY])


def instead(path: str, reply: bytes | Exception, *, stream: bool = False) -> Handler:
    def handle(asked: str, headers: dict[str, str], body: bytes) -> bytes:
        if asked == path and (path != "/v1/chat/completions" or bool(json.loads(body).get("stream")) is stream):
            if isinstance(reply, Exception):
                raise reply
            return reply
        return well(asked, headers, body)

    return handle


def guarded(path: str, headers: dict[str, str], body: bytes) -> bytes:
    if path.startswith("/v1") and headers.get("authorization") != f"Bearer {KEY}":
        return http(401, {"error": "Unauthorized"})
    return well(path, headers, body)


def failed(answers: Answers) -> list[str]:
    return [f"{check.name}: {check.detail}" for check in answers.checks if not check.passed]


def chat_with(**changes: Any) -> bytes:
    return http(200, {**CHAT, **changes})


def test_a_good_server_passes() -> None:
    answers = ask(well)
    assert [(check.name, check.passed, check.detail) for check in answers.checks] == [
        ("models", True, "serves tiny; expected tiny"),
        ("plain chat", True, "64 tokens, finish_reason length"),
        ("streamed chat", True, "2 chunks with text, [DONE]"),
    ]
    assert answers.passed
    assert answers.chat == "A GPU computes."
    assert answers.version == "0.32.0"


def test_content_comes_before_reasoning() -> None:
    message = {"content": "Hello.", "reasoning_content": "The user greets."}
    reply = chat_with(choices=[{"message": message, "finish_reason": "stop"}])
    assert ask(instead("/v1/chat/completions", reply)).chat == "Hello."


def test_reasoning_under_its_older_name_counts() -> None:
    message = {"content": None, "reasoning_content": "Hm."}
    reply = chat_with(choices=[{"message": message, "finish_reason": "length"}])
    assert ask(instead("/v1/chat/completions", reply)).chat == "Hm."


def test_the_key_is_sent_and_asked_for() -> None:
    answers = ask(guarded, api_key=KEY)
    assert [check.name for check in answers.checks] == ["models", "API key", "plain chat", "streamed chat"]
    assert failed(answers) == []
    assert KEY not in answers.model_dump_json()


def test_a_server_that_does_not_ask_for_its_key_fails() -> None:
    assert failed(ask(well, api_key=KEY)) == ["API key: HTTP 200 without the API key; expected 401"]


def test_a_failed_check_has_request_answer_and_log() -> None:
    answers = ask(instead("/v1/models", http(200, {"data": [{"id": KEY}]})))
    check = answers.checks[0]
    assert check.detail == "serves [redacted]; expected tiny"
    assert check.request == "GET http://127.0.0.1:8000/v1/models"
    assert check.answer == 'HTTP 200 {"data": [{"id": "[redacted]"}]}'
    assert check.log == "EngineDeadError [redacted]"
    assert not answers.passed


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (http(400, {"error": "bad"}), "HTTP 400, expected 200"),
        (http(200, "no json"), "neither content nor reasoning in the answer"),
        (http(200, {"choices": []}), "neither content nor reasoning in the answer"),
        (chat_with(usage=None), "usage.completion_tokens is None, expected a count"),
        (
            chat_with(choices=[{"message": {"content": "x"}, "finish_reason": None}]),
            "finish_reason is None, expected one of stop, length",
        ),
        (
            chat_with(choices=[{"message": {"content": "Hm.</think>Hello"}, "finish_reason": "stop"}]),
            "the thinking is in the content: the reasoning parser does not fit the model",
        ),
        (
            chat_with(choices=[{"message": {"content": "!!!! !!!!!!"}, "finish_reason": "length"}]),
            "the answer is one character again and again: '! !!!!!!'",
        ),
    ],
)
def test_bad_chat_answers(reply: bytes, detail: str) -> None:
    answers = ask(instead("/v1/chat/completions", reply))
    assert failed(answers) == [f"plain chat: {detail}"]
    assert answers.chat is None


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (sse(*CHUNKS[:-1]), "the stream ended without [DONE] after 3 chunks"),
        (sse(CHUNKS[0], "[DONE]"), "1 chunks and no text in any"),
        (sse("oops", "[DONE]"), "a chunk is not JSON: 'oops'"),
        (sse('{"error": "EngineCore died"}', "[DONE]"), 'the stream carries an error: {"error": "EngineCore died"}'),
        (
            sse(
                '{"choices": [{"delta": {"content": "</th"}}]}',
                '{"choices": [{"delta": {"content": "ink>"}}]}',
                "[DONE]",
            ),
            "the thinking is in the streamed content: the reasoning parser does not fit the model",
        ),
        (
            sse(*['{"choices": [{"delta": {"content": "!"}}]}'] * 8, "[DONE]"),
            "the streamed answer is one character again and again: '!'",
        ),
        (http(404, "no such model"), "HTTP 404: no such model"),
        (http(200, CHAT), "the stream ended without [DONE] after 0 chunks"),
    ],
)
def test_bad_streams(reply: bytes, detail: str) -> None:
    answers = ask(instead("/v1/chat/completions", reply, stream=True))
    assert failed(answers) == [f"streamed chat: {detail}"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (ConnectionResetError("reset by peer"), "ConnectionResetError: reset by peer"),
        (b"", "RemoteDisconnected: Remote end closed connection without response"),
        (http(500, {"error": f"EngineCore {KEY}"}), "EngineCore [redacted]"),
    ],
)
def test_a_server_that_the_first_request_kills(reply: bytes | Exception, words: str, stream: bool) -> None:
    with pytest.raises(BrokenServerError) as caught:
        ask(instead("/v1/chat/completions", reply, stream=stream))
    assert "vllm-nemotron.service was healthy but broke on a request (" in caught.value.message
    assert words in caught.value.message
    assert "request: POST http://127.0.0.1:8000/v1/chat/completions {" in caught.value.message
    assert caught.value.log == "EngineDeadError [redacted]"
    assert caught.value.exit_code == 3


def test_a_stream_cut_off_in_the_middle_is_a_broken_server() -> None:
    whole = sse(*CHUNKS)
    with pytest.raises(BrokenServerError, match="streamed chat"):
        ask(instead("/v1/chat/completions", whole[: len(whole) // 2], stream=True))
