from __future__ import annotations

import json
from typing import Any

import pytest

from provisioner.validate.answers import Answers, check_answers
from provisioner.validate.asking import SHOWN, BrokenServerError

from .fakes import CALL, CALL_CHUNKS, CHAT, CHUNKS, METRICS, USAGE, FakeHost, Handler, http, kind_of, server, sse, well

KEY = "sk-planted-key"
UNSPLIT = "no thinking in reasoning or reasoning_content, though it was asked for: is the parser the model's?"
EVERY_CHECK = [
    *("served name", "plain chat", "usage", "reasoning", "streamed chat", "streamed usage", "streamed reasoning"),
    *("max_tokens", "tool call", "streamed tool call", "too long a prompt", "metrics"),
]


def ask(handler: Handler, *, api_key: str | None = None, **changes: Any) -> Answers:
    host = FakeHost({"journalctl": f"EngineDeadError {KEY}"}, handler)
    return check_answers(host, server(**changes), api_key=api_key, secrets=[KEY])


def instead(**replies: bytes | Exception) -> Handler:
    """A good server but for some checks, named with _ for blanks."""

    def handle(asked: str, headers: dict[str, str], body: bytes) -> bytes:
        reply = replies.get(kind_of(asked, headers, body).replace(" ", "_"))
        if isinstance(reply, Exception):
            raise reply
        return well(asked, headers, body) if reply is None else reply

    return handle


def guarded(path: str, headers: dict[str, str], body: bytes) -> bytes:
    if path.startswith("/v1") and headers.get("authorization") != f"Bearer {KEY}":
        return http(401, {"error": "Unauthorized"})
    return well(path, headers, body)


def failed(answers: Answers) -> list[str]:
    return [f"{check.name}: {check.detail}" for check in answers.checks if not check.passed]


def chat_with(message: dict[str, Any] | None = None, finish: str | None = "stop", **changes: Any) -> bytes:
    choices = [{"message": message, "finish_reason": finish}] if message is not None else CHAT["choices"]
    return http(200, {**CHAT, "choices": choices, **changes})


def stream_of(*deltas: dict[str, Any], usage: Any = USAGE) -> bytes:
    chunks = [json.dumps({"choices": [{"delta": delta}]}) for delta in deltas]
    return sse(*chunks, json.dumps({"choices": [], "usage": usage}), "[DONE]")


def test_a_good_server_passes() -> None:
    answers = ask(well)
    assert [(check.name, check.passed, check.detail) for check in answers.checks] == [
        ("served name", True, "serves tiny; expected tiny"),
        ("plain chat", True, "15 characters, finish_reason length"),
        ("usage", True, "20 + 8 = 28 tokens, 50 allowed"),
        ("reasoning", True, "15 characters in reasoning, 0 in content"),
        ("streamed chat", True, "2 chunks with text, [DONE]"),
        ("streamed usage", True, "20 + 8 = 28 tokens, 50 allowed"),
        ("streamed reasoning", True, "5 characters in reasoning, 0 in content"),
        ("max_tokens", True, "8 tokens, finish_reason length; expected 8 and length"),
        ("tool call", True, 'get_weather({"city": "Paris"}), read by qwen3_coder'),
        ("streamed tool call", True, 'get_weather({"city": "Paris"}), in 3 chunks'),
        (
            "too long a prompt",
            True,
            "HTTP 400 for a prompt of 116 words or more: This model's maximum context length is 100 tokens.",
        ),
        ("metrics", True, "5 names, 16 tokens generated so far"),
    ]
    assert not [check.name for check in answers.checks if check.skipped]
    assert answers.passed
    assert answers.chat == "A GPU computes."
    assert answers.version == "0.32.0"


def test_what_is_asked_follows_from_the_server() -> None:
    checks = ask(well, reasoning=False, tool_call_parser=None, log_stats=False).checks
    assert [check.name for check in checks] == [
        name for name in EVERY_CHECK if "reasoning" not in name and "tool" not in name
    ]
    assert [check.detail for check in checks if check.skipped] == [
        "the server keeps no statistics (--disable-log-stats)"
    ]


def test_thinking_is_asked_for_where_it_is_split_off() -> None:
    bodies: list[dict[str, Any]] = []

    def handle(path: str, headers: dict[str, str], body: bytes) -> bytes:
        if kind_of(path, headers, body) == "plain chat":
            bodies.append(json.loads(body))
        return well(path, headers, body)

    ask(handle)
    ask(handle, reasoning=False)
    assert bodies[0]["chat_template_kwargs"] == {"enable_thinking": True, "thinking": True}
    assert "chat_template_kwargs" not in bodies[1]


def test_a_server_that_takes_long_requests_is_given_room_to_think() -> None:
    roomy = http(200, {"data": [{"id": "tiny", "max_model_len": 262144}]})
    assert ask(instead(served_name=roomy)).checks[2].detail == "20 + 8 = 28 tokens, 1024 allowed"


def test_content_comes_before_reasoning() -> None:
    assert ask(instead(plain_chat=chat_with({"content": "Hello.", "reasoning": "The user greets."}))).chat == "Hello."


def test_reasoning_under_its_older_name_counts() -> None:
    older = {"content": None, "reasoning_content": "Hm."}
    answers = ask(instead(plain_chat=chat_with(older), streamed_chat=stream_of({"reasoning_content": "Hm."})))
    assert answers.chat == "Hm."
    assert [check.detail for check in answers.checks if "reasoning" in check.name] == [
        "3 characters in reasoning_content, 0 in content"
    ] * 2


def test_a_stream_that_says_its_thinking_under_both_names_says_it_once() -> None:
    delta = {"reasoning": "Hm.", "reasoning_content": "Hm."}
    checks = ask(instead(streamed_chat=stream_of(delta, {"content": "Hello."}))).checks
    assert "3 characters in reasoning, 6 in content" in [check.detail for check in checks]


def test_the_key_is_sent_and_asked_for() -> None:
    answers = ask(guarded, api_key=KEY)
    assert [check.name for check in answers.checks][:3] == ["served name", "API key", "wrong API key"]
    assert failed(answers) == []
    assert KEY not in answers.model_dump_json()


def test_a_server_that_does_not_ask_for_its_key_fails() -> None:
    def handle(path: str, headers: dict[str, str], body: bytes) -> bytes:
        return well(path, {}, body)

    assert failed(ask(handle, api_key=KEY)) == [
        "API key: HTTP 200 without it; expected 401",
        "wrong API key: HTTP 200 with it; expected 401",
    ]


def test_a_failed_check_has_request_answer_and_log() -> None:
    answers = ask(instead(served_name=http(200, {"data": [{"id": KEY}]})))
    check = answers.checks[0]
    assert check.detail == "serves [redacted]; expected tiny"
    assert check.request == "GET http://127.0.0.1:8000/v1/models"
    assert check.answer == 'HTTP 200 {"data": [{"id": "[redacted]"}]}'
    assert check.log == "EngineDeadError [redacted]"
    assert not answers.passed


def test_long_requests_are_not_kept_whole() -> None:
    long = http(200, {"data": [{"id": "tiny", "max_model_len": 100_000}]})
    check = next(one for one in ask(instead(served_name=long)).checks if one.name == "too long a prompt")
    assert len(check.request) < SHOWN + 40
    assert check.request.endswith("characters)")


@pytest.mark.parametrize(
    ("reply", "details"),
    [
        (http(400, {"error": "bad"}), ["plain chat: HTTP 400, expected 200"]),
        (
            chat_with({}),
            [
                "plain chat: neither content nor reasoning in the answer",
                f"reasoning: {UNSPLIT}",
            ],
        ),
        (chat_with(usage=None), ["usage: usage.prompt_tokens is None, expected a count"]),
        (
            chat_with(usage={**USAGE, "completion_tokens": 0}),
            ["usage: usage.completion_tokens is 0, expected a count"],
        ),
        (
            chat_with(usage={**USAGE, "total_tokens": 29}),
            ["usage: 20 prompt and 8 answer tokens are not the 29 that total_tokens says"],
        ),
        (
            chat_with(usage={"prompt_tokens": 20, "completion_tokens": 51, "total_tokens": 71}),
            ["usage: 20 + 51 = 71 tokens, 50 allowed"],
        ),
        (
            chat_with({"content": "x", "reasoning": "y"}, None),
            ["plain chat: finish_reason is None, expected one of stop, length"],
        ),
        (
            chat_with({"content": "Hm.</think>Hello"}),
            ["reasoning: </think> is in the content: the reasoning parser does not fit the model"],
        ),
        (
            chat_with({"content": "<think>Hm."}, "length"),
            ["reasoning: <think> is in the content: the reasoning parser does not fit the model"],
        ),
        (
            chat_with({"content": "Hello."}),
            [f"reasoning: {UNSPLIT}"],
        ),
        (
            chat_with({"content": "!!!! !!!!!!", "reasoning": "Hm."}, "length"),
            ["plain chat: the answer is one character again and again: '! !!!!!!'"],
        ),
    ],
)
def test_bad_chat_answers(reply: bytes, details: list[str]) -> None:
    assert failed(ask(instead(plain_chat=reply))) == details


def test_the_answer_of_a_failed_chat_is_not_shown_as_one() -> None:
    assert ask(instead(plain_chat=chat_with({"content": "!" * 20, "reasoning": "Hm."}))).chat is None


@pytest.mark.parametrize(
    ("reply", "details"),
    [
        (sse(*CHUNKS[:-1]), ["streamed chat: the stream ended without [DONE] after 4 chunks"]),
        (sse(CHUNKS[0], "[DONE]"), ["streamed chat: 1 chunks and no text in any"]),
        (sse("oops", "[DONE]"), ["streamed chat: a chunk is not JSON: 'oops'"]),
        (
            sse('{"error": "EngineCore died"}', "[DONE]"),
            ['streamed chat: the stream carries an error: {"error": "EngineCore died"}'],
        ),
        (
            stream_of({"content": "Hm.</th"}, {"content": "ink>Hello"}),
            ["streamed reasoning: </think> is in the content: the reasoning parser does not fit the model"],
        ),
        (
            stream_of({"content": "Hello"}),
            [f"streamed reasoning: {UNSPLIT}"],
        ),
        (
            stream_of({"reasoning": "Hm.</th"}, {"reasoning": "ink>Hello"}),
            ["streamed reasoning: </think> is in reasoning: its end is not seen, the parser does not fit"],
        ),
        (
            stream_of({"reasoning": "Hm"}, *[{"content": "!"}] * 8),
            ["streamed chat: the streamed answer is one character again and again: '!'"],
        ),
        (
            stream_of({"reasoning": "Hm"}, usage=None),
            ["streamed usage: usage.prompt_tokens is None, expected a count"],
        ),
        (http(404, "no such model"), ["streamed chat: HTTP 404: no such model"]),
        (http(200, CHAT), ["streamed chat: the stream ended without [DONE] after 0 chunks"]),
    ],
)
def test_bad_streams(reply: bytes, details: list[str]) -> None:
    assert failed(ask(instead(streamed_chat=reply))) == details


@pytest.mark.parametrize(("tokens", "finish"), [(7, "length"), (9, "length"), (8, "stop"), (None, "length")])
def test_max_tokens_is_kept_to_exactly(tokens: int | None, finish: str) -> None:
    reply = chat_with({"content": "x"}, finish, usage={"completion_tokens": tokens})
    assert failed(ask(instead(max_tokens=reply))) == [
        f"max_tokens: {tokens} tokens, finish_reason {finish}; expected 8 and length"
    ]


def call_of(name: str = "get_weather", arguments: Any = '{"city": "Paris"}') -> bytes:
    function = {"name": name, "arguments": arguments}
    return chat_with({"content": None, "tool_calls": [{**CALL, "function": function}]}, "tool_calls")


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (
            http(400, {"error": {"message": '"auto" tool choice\nneeds more'}}),
            'HTTP 400: "auto" tool choice needs more',
        ),
        (call_of(name="get_time"), "a call of 'get_time', expected get_weather"),
        (call_of(arguments='{"city": "Par'), 'the arguments of the call are not JSON: \'{"city": "Par\''),
        (call_of(arguments=None), "the arguments of the call are not JSON: None"),
        (call_of(arguments="{}"), "the arguments of the call lack city: {}"),
        (call_of(arguments="[]"), "the arguments of the call lack city: []"),
        (
            chat_with({"content": "<tool_call>\n<function=get_weather>", "tool_calls": []}),
            "the call is in the content: the tool call parser does not fit the model",
        ),
        (
            chat_with({"content": "It rains.", "tool_calls": []}),
            "the model calls no tool (finish_reason stop) but says 'It rains.'",
        ),
    ],
)
def test_bad_tool_calls(reply: bytes, detail: str) -> None:
    assert failed(ask(instead(tool_call=reply))) == [f"tool call: {detail}"]


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (http(200, CHAT), "HTTP 200 for a prompt of 116 words or more, expected an error"),
        (http(401, "{}"), "HTTP 401 for a prompt of 116 words or more, expected an error"),
        (http(400, ""), "HTTP 400 for a prompt of 116 words or more without a message"),
    ],
)
def test_a_prompt_that_is_too_long_must_be_refused(reply: bytes, detail: str) -> None:
    assert failed(ask(instead(too_long_a_prompt=reply))) == [f"too long a prompt: {detail}"]


@pytest.mark.parametrize(
    ("card", "detail"),
    [
        ({"id": "tiny"}, "/v1/models does not say how long a prompt may be: none was sent"),
        ({"id": "tiny", "max_model_len": 10_000_000}, "/v1/models takes 10000000 tokens: none was sent"),
    ],
)
def test_no_prompt_is_too_long_for_some(card: dict[str, Any], detail: str) -> None:
    checks = ask(instead(served_name=http(200, {"data": [card]}))).checks
    assert [(check.name, check.detail) for check in checks if check.skipped] == [("too long a prompt", detail)]


def metrics_without(*names: str) -> bytes:
    kept = [line for line in METRICS.splitlines() if not any(name in line for name in names)]
    return http(200, "\n".join(kept) + "\n", "text/plain")


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (http(404, "{}"), "HTTP 404, expected 200"),
        (
            metrics_without("kv_cache", "waiting"),
            "vllm:num_requests_waiting, vllm:kv_cache_usage_perc or vllm:gpu_cache_usage_perc missing among 3 names",
        ),
        (http(200, METRICS.replace("16.0", "0.0"), "text/plain"), "5 names, 0 tokens generated so far"),
    ],
)
def test_bad_metrics(reply: bytes, detail: str) -> None:
    assert failed(ask(instead(metrics=reply))) == [f"metrics: {detail}"]


def test_older_names_of_metrics_count() -> None:
    older = METRICS.replace("kv_cache_usage_perc", "gpu_cache_usage_perc")
    assert failed(ask(instead(metrics=http(200, older, "text/plain")))) == []


def calls_of(*pieces: Any) -> bytes:
    return sse(*(json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]}) for piece in pieces), "[DONE]")


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (http(400, {"error": {"message": "no tools"}}), "HTTP 400: no tools"),
        (sse('{"choices": []}'), "the stream ended without [DONE] after 1 chunks"),
        (
            stream_of({"content": "<tool_call><function="}, {"content": "get_weather>"}),
            "the call is in the content: the tool call parser does not fit the model",
        ),
        (
            sse('{"choices": [{"delta": {"content": "It rains."}, "finish_reason": "stop"}]}', "[DONE]"),
            "the model calls no tool (finish_reason stop) but says 'It rains.'",
        ),
        (
            calls_of({"index": 0, "function": {"name": "get_weather", "arguments": '{"city": "Par'}}),
            'the arguments of the call are not JSON: \'{"city": "Par\'',
        ),
        (calls_of({"index": 9999, "function": {}}), "a piece of call number 9999"),
        (calls_of("x"), "a piece of a call is no object: 'x'"),
    ],
)
def test_bad_streamed_tool_calls(reply: bytes, detail: str) -> None:
    assert failed(ask(instead(streamed_tool_call=reply))) == [f"streamed tool call: {detail}"]


def test_two_calls_in_one_stream_are_told_apart() -> None:
    second = {"index": 1, "function": {"name": "get_weather", "arguments": '{"city": "Tokyo"}'}}
    assert failed(ask(instead(streamed_tool_call=calls_of(second, *CALL_CHUNKS)))) == []


@pytest.mark.parametrize("check", ["plain_chat", "streamed_chat", "too_long_a_prompt", "tool_call"])
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (ConnectionResetError("reset by peer"), "ConnectionResetError: reset by peer"),
        (b"", "RemoteDisconnected: Remote end closed connection without response"),
        (http(500, {"error": f"EngineCore {KEY}"}), "EngineCore [redacted]"),
    ],
)
def test_a_server_that_a_request_kills(reply: bytes | Exception, words: str, check: str) -> None:
    with pytest.raises(BrokenServerError) as caught:
        ask(instead(**{check: reply}))
    name = check.replace("_", " ")
    assert f"vllm-nemotron.service was healthy but broke on a request ({name}, after " in caught.value.message
    assert words in caught.value.message
    assert "request: POST http://127.0.0.1:8000/v1/chat/completions {" in caught.value.message
    assert caught.value.log == "EngineDeadError [redacted]"
    assert caught.value.exit_code == 3


def test_a_stream_cut_off_in_the_middle_is_a_broken_server() -> None:
    whole = sse(*CHUNKS)
    with pytest.raises(BrokenServerError, match="streamed chat"):
        ask(instead(streamed_chat=whole[: len(whole) // 2]))
